"""The learning rate of every update, and when a run stops early. No torch here.

The rate depends on the number of the update alone, but for ``plateau``, which also depends on what was
validated: that is `Schedule.state`, and a checkpoint keeps it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .options import TrainOptions


class Schedule:
    """The learning rate over a run, and what its validations have come to.

    Args:
        options: `lr`, `schedule`, `lr_decay`, `decay_every`, `warmup`, `steps` and `patience` are read.
    """

    def __init__(self, options: TrainOptions) -> None:
        self._options = options
        self._best = math.inf
        self._since_best = 0  # validations
        self._cuts = 0  # of the learning rate, by `plateau`

    def rate(self, step: int) -> float:
        """Of update `step` (from 0). The schedule itself begins when the warm-up has ended."""
        options = self._options
        since = max(0, step - options.warmup)
        if options.schedule == "cosine":
            # Above 1 only for steps that are not done.
            done = min(1.0, since / max(1, options.steps - 1 - options.warmup))
            share = options.lr_decay + (1 - options.lr_decay) * (1 + math.cos(math.pi * done)) / 2
        else:
            exponent = {
                "exponential": since / options.decay_every,
                "step": since // options.decay_every,
                "plateau": self._cuts,
            }[options.schedule]
            share = math.pow(options.lr_decay, exponent)
        return options.lr * share * min(1.0, (step + 1) / max(1, options.warmup))

    def validated(self, loss: float) -> None:
        """Take note of a validation that comes every `val_every` updates (one more, at the end of a run, does
        not count: a longer run would not have it)."""
        if loss < self._best:
            self._best, self._since_best = loss, 0
        else:
            self._since_best += 1
            self._cuts += 1

    @property
    def is_over(self) -> bool:
        """Whether as many validations in a row as `patience` says were no better than the best before."""
        return 0 < self._options.patience <= self._since_best

    @property
    def state(self) -> list[float]:
        """What `restore` takes; empty before the first validation, or where nothing depends on them."""
        used = self._options.patience or self._options.schedule == "plateau"
        return [self._best, self._since_best, self._cuts] if used and self._best < math.inf else []

    def restore(self, state: Sequence[float]) -> None:
        """Go on from `state`.

        Raises:
            ValueError: it is no such state.
        """
        self._best, since_best, cuts = state
        self._since_best, self._cuts = int(since_best), int(cuts)
