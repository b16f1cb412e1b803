"""Which trainings the toy problem's report is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, cast

from ...contract.errors import UsageError
from .problem import Sampling
from .training import Fan, ToyOptions

NAMES = {
    "lstm": "LSTM",
    "gru": "GRU, reset after",
    "gru-before": "GRU, reset before",
    "rnn": "vanilla RNN",
}
CELLS = tuple(NAMES)
MAGNITUDES = (4, 5, 6)
WITHHELD = 0.1

_LONG_UPDATES = {10: 1000, 30: 600}
OTHER_INITIAL = ((64, 2**0.5, "out"), (10, 1.0, "in"))
"""Embedding, gain and fan of the trainings that show what these move."""


@dataclasses.dataclass(frozen=True)
class ToySettings:
    """What was asked for.

    Attributes:
        quick: fewer trainings, and shorter ones.
        seeds: trainings of each kind, with seeds from 0 up; long sequences and other settings have one.
        embedding: width of a symbol.
        hidden: width of the state.
        gain: of the initial weights.
        fan: of the initial weights, see `SequenceClassifier.initialise`.
        updates: at most, of a training at T up to 6.

    Raises:
        UsageError: a value that cannot be meant.
    """

    quick: bool = False
    seeds: int = 3
    embedding: int = 10
    hidden: int = 256
    gain: float = 1.0
    fan: Fan = "out"
    updates: int = 3000

    def __post_init__(self) -> None:
        if not 1 <= self.seeds <= 100:
            raise UsageError(f"--seeds must be 1 to 100, not {self.seeds}")
        self.options("lstm", 4)  # checks the rest

    @classmethod
    def of(
        cls,
        quick: bool,
        seeds: int | None,
        embedding: int,
        hidden: int,
        gain: float,
        fan: str,
        updates: int | None,
    ) -> ToySettings:
        """From the command's options, with the defaults that depend on `quick`.

        Raises:
            UsageError: a value that cannot be meant.
        """
        if seeds is None:
            seeds = 1 if quick else 3
        if updates is None:
            updates = 900 if quick else 3000
        return cls(quick, seeds, embedding, hidden, gain, cast(Fan, fan), updates)

    def options(self, cell: str, magnitude: int, **changes: Any) -> ToyOptions:
        """One training with these settings."""
        names = ("embedding", "hidden", "gain", "fan", "updates")
        return ToyOptions(cell, magnitude, **{**{name: getattr(self, name) for name in names}, **changes})

    def plan(self) -> list[ToyOptions]:
        """Every training, the most important first, none twice."""
        found = self._quick() if self.quick else self._full()
        return list(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return dataclasses.asdict(self)

    def _seeded(self, cell: str, magnitude: int, **changes: Any) -> Iterator[ToyOptions]:
        for seed in range(changes.pop("seeds", self.seeds)):
            yield self.options(cell, magnitude, seed=seed, **changes)

    def _full(self) -> Iterator[ToyOptions]:
        for magnitude in MAGNITUDES:
            for cell in CELLS:
                yield from self._seeded(cell, magnitude)
        for magnitude in MAGNITUDES:
            for cell in ("lstm", "gru"):
                seeds = min(self.seeds, 2)
                yield from self._seeded(cell, magnitude, sampling="balanced", withheld=WITHHELD, seeds=seeds)
        yield from self._long("lstm", 8, "rejection", seeds=1, updates=min(self.updates, 300))
        for cell in ("lstm", "gru", "rnn"):
            for sampling in ("balanced", "near-miss"):
                yield from self._long(cell, 10, sampling)
        for cell in ("lstm", "gru", "rnn"):
            yield from self._long(cell, 30, "balanced")
        for cell in ("lstm", "gru"):
            for embedding, gain, fan in OTHER_INITIAL:
                yield from self._seeded(cell, 6, embedding=embedding, gain=gain, fan=fan, seeds=1)

    def _long(self, cell: str, magnitude: int, sampling: Sampling, **changes: Any) -> Iterator[ToyOptions]:
        limit = _LONG_UPDATES.get(magnitude, self.updates)
        given = {"seeds": 1, "updates": min(self.updates, limit), **changes}
        return self._seeded(cell, magnitude, sampling=sampling, **given)

    def _quick(self) -> Iterator[ToyOptions]:
        for cell in CELLS:
            yield from self._seeded(cell, 4)
        for cell in ("lstm", "gru"):
            yield from self._seeded(cell, 6)
        for magnitude in (4, 6):
            yield from self._seeded("gru", magnitude, sampling="balanced", withheld=WITHHELD)
        yield from self._long("rnn", 10, "balanced", updates=min(self.updates, 600))
