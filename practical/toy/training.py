"""One training run on the toy problem: fresh samples, Adam, until it has converged for good."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from ...contract.errors import P2Error, UsageError
from ...contract.finite import first_not_finite
from .classifier import SequenceClassifier, shared
from .problem import (
    CLASSES,
    LEAST,
    SYMBOLS,
    TABLE_MAGNITUDE,
    BaumSweet,
    Sampling,
    Symbols,
    baum_sweet,
    encode,
    labels_of,
    to_bits,
    to_numbers,
)

Fan = Literal["in", "out"]
WINDOW = 21
"""Updates of the running mean that convergence is told by."""
CONVERGED = 0.99
PERFECT = 0.995
"""What rounds to an accuracy of 1.00."""
AFTER = 100
"""Updates that a run goes on for after it has converged."""

TESTED = 4096
"""At most so many numbers of a class are tested at the end."""

_TEST_INDEX = 1 << 40  # of a batch that no training gets to
_TEST_BATCH = 512
_ADVICE = "smaller initial weights help"

LARGEST = 1 << 16
"""Of a width, or of sequences side by side."""


@dataclasses.dataclass(frozen=True)
class ToyOptions:
    """What a run is made of; the defaults are the setting of the report that is reproduced.

    Attributes:
        cell: see `classifier.CELLS`.
        magnitude: T, the decimal magnitude; a sequence has 4 T steps.
        sampling: see `BaumSweet`.
        withheld: share of the integers that is never drawn.
        seed: of the weights and of the samples.
        embedding: width of a symbol.
        hidden: width of the state.
        gain: of the initial weights, whose standard deviation is ``gain / sqrt(fan)``.
        fan: ``in`` or ``out``, see `SequenceClassifier.initialise`.
        lr: of Adam.
        batch: samples of an update.
        clip: norm that the gradient is cut to.
        updates: at most.

    Raises:
        UsageError: a value that cannot be meant.
    """

    cell: str
    magnitude: int
    sampling: Sampling = "rejection"
    withheld: float = 0.0
    seed: int = 0
    embedding: int = 10
    hidden: int = 256
    gain: float = 1.0
    fan: Fan = "out"
    lr: float = 1e-4
    batch: int = 256
    clip: float = 10.0
    updates: int = 3000

    def __post_init__(self) -> None:
        for name in ("embedding", "hidden", "batch", "updates"):
            if getattr(self, name) < 1:
                raise UsageError(f"--{name} must be at least 1, not {getattr(self, name)}")
            if name != "updates" and getattr(self, name) > LARGEST:
                raise UsageError(f"--{name} must be at most {LARGEST:,}, not {getattr(self, name):,}")
        for name in ("gain", "lr", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"--{name} must be a positive number, not {getattr(self, name)}")
        if self.fan not in get_args(Fan):
            raise UsageError(f"--fan is in or out, not {self.fan!r}")
        if self.seed < 0:
            raise UsageError(f"a seed must not be negative, not {self.seed}")


@dataclasses.dataclass(frozen=True)
class ToyRun:
    """A finished run.

    Attributes:
        model: as trained.
        loss: cross entropy of each update's batch in nats, before the update.
        accuracy: likewise.
        converged: updates until the mean accuracy of the latest `WINDOW` first was `CONVERGED`, or None.
        tests: accuracy on numbers that were never drawn, see `test`.
        seconds: wall and cpu.
    """

    model: SequenceClassifier
    loss: list[float]
    accuracy: list[float]
    converged: int | None
    tests: dict[str, Any]
    seconds: dict[str, float]


def running_mean(values: Sequence[float], window: int = WINDOW) -> npt.NDArray[np.float64]:
    """The mean of the latest `window` values at each place; at the beginning of those there are."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(total))
    starts = np.maximum(ends - window, 0)
    means: npt.NDArray[np.float64] = (total[ends] - total[starts]) / (ends - starts)
    return means


def first_reaching(accuracy: Sequence[float], level: float = CONVERGED, window: int = WINDOW) -> int | None:
    """Updates done when the mean over a full window first is at least `level`; None if it never is."""
    reached = np.flatnonzero(running_mean(accuracy, window)[window - 1 :] >= level - 1e-12)
    return int(reached[0]) + window if len(reached) else None


def train(options: ToyOptions, tell: Callable[[int], object] = lambda _: None) -> ToyRun:
    """Train until `AFTER` updates after convergence, as soon as the accuracy rounds to 1.00, or to the end.

    The run depends on its options alone, on the same kind of processor and number of threads.

    Args:
        options: what to train.
        tell: called with the number of updates done.

    Raises:
        P2Error: the loss is not a finite number.
    """
    wall, cpu = time.perf_counter(), time.process_time()
    data = BaumSweet(options.magnitude, options.sampling, options.withheld)
    model = SequenceClassifier(options.cell, SYMBOLS, options.embedding, options.hidden, CLASSES)
    model.initialise(options.seed, options.gain, options.fan)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, lr=options.lr, fused=True)
    drawn = np.zeros(data.most + 1 if options.magnitude <= TABLE_MAGNITUDE else 0, bool)
    loss_curve: list[float] = []
    accuracy_curve: list[float] = []
    converged = None
    for update in range(options.updates):
        symbols, labels = data.batch(options.batch, options.seed, update)
        if len(drawn):
            drawn[to_numbers(symbols)] = True
        logits, wanted = model(shared(symbols)), torch.from_numpy(labels)
        loss = F.cross_entropy(logits, wanted)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(trained, options.clip)
        loss_curve.append(loss.item())
        accuracy_curve.append((logits.detach().argmax(dim=1) == wanted).float().mean().item())
        if not math.isfinite(loss_curve[-1]):
            raise P2Error(f"training diverged at update {update + 1}: {_ADVICE}")
        optimiser.step()
        tell(update + 1)
        if converged is None:
            latest = first_reaching(accuracy_curve[-WINDOW:])
            converged = update + 1 if latest else None
        elif update + 1 >= converged + AFTER and sum(accuracy_curve[-WINDOW:]) >= PERFECT * WINDOW:
            break
    bad = first_not_finite((name, tensor.numpy()) for name, tensor in model.state_dict().items())
    if bad is not None:
        raise P2Error(f"training diverged: {bad} holds NaN or infinity after the last update: {_ADVICE}")
    tests = test(model, data, options.seed, drawn)
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    return ToyRun(model, loss_curve, accuracy_curve, converged, tests, seconds)


def test(
    model: SequenceClassifier, data: BaumSweet, seed: int, drawn: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """Accuracy on numbers that the training never drew, class by class.

    Args:
        model: trained.
        data: what on.
        seed: for the choice where there are more than `TESTED`.
        drawn: ``[10**T + 1]``, which numbers the training has drawn; empty where they do not fit a table:
            then fresh samples are tested, of which hardly any can have been drawn.

    Returns:
        Under ``never drawn`` (or ``fresh``), and ``withheld`` where numbers are: for each class, ``"0"``
        and ``"1"``: ``numbers`` that there are (None for fresh ones), ``tested`` and ``right``.
    """
    rng = np.random.default_rng([seed, _TEST_INDEX])
    if not len(drawn):
        symbols, labels = data.batch(TESTED, seed, _TEST_INDEX)
        return {"fresh": {str(y): _tested(model, symbols[labels == y], None) for y in range(CLASSES)}}
    numbers = np.arange(LEAST, data.most + 1)
    classes = baum_sweet(numbers)
    groups = {"never drawn": ~drawn[LEAST:]}
    if data.withheld:
        groups["withheld"] = data.withheld_table[LEAST:]
    found: dict[str, Any] = {}
    for name, mask in groups.items():
        found[name] = {}
        for y in range(CLASSES):
            chosen = numbers[mask & (classes == y)]
            some = rng.permutation(chosen)[:TESTED]
            symbols = encode(to_bits(some, data.width), data.steps)
            found[name][str(y)] = _tested(model, symbols, len(chosen))
    return found


@torch.inference_mode()
def _tested(model: SequenceClassifier, symbols: Symbols, numbers: int | None) -> dict[str, int | None]:
    right = 0
    for start in range(0, len(symbols), _TEST_BATCH):
        piece = symbols[start : start + _TEST_BATCH]
        right += int((model(shared(piece)).argmax(dim=1).numpy() == labels_of(piece)).sum())
    return {"numbers": numbers, "tested": len(symbols), "right": right}
