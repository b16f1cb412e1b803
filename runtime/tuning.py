"""How many threads, and how many streams side by side: measured here, remembered beside the model.

Waking a second thread costs more than it brings to a small step, and kernels have batch sizes that
they are bad at. Both depend on processor, model and version, so p2 measures, for a fraction of a
second, when a model is first used with a batch of about that size, and writes the answer to
``<model>.tuning.json``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ..spec.card import Card
from ..spec.files import write_json

Option = TypeVar("Option")

VERSION = 1
LARGEST = 256  # batches beyond are split like this one

# A setting that is not the plainest has to be faster by this share; less is noise.
MARGIN = 0.15

# Options take turns, so that a disturbance hits all of them, and the lower quartile of their turns
# counts: a machine is often disturbed for longer than a measurement takes, and never the other way round.
TURNS = 8


@dataclass(frozen=True)
class Plan:
    """How to run a batch.

    Attributes:
        threads: processor threads for each operator.
        group: streams that advance side by side; a larger batch is split.
    """

    threads: int
    group: int


def size_class(batch: int) -> int:
    """The batch size that is measured for a batch: the next power of two, at most `LARGEST`."""
    return min(LARGEST, 1 << (batch - 1).bit_length())


def thread_counts(limit: int, least: int = 1) -> list[int]:
    """What is tried: powers of two from `least` up and below `limit`, and `limit`."""
    return [count for n in range((limit - 1).bit_length()) if (count := 1 << n) >= least] + [limit]


def groups(batch: int) -> list[int]:
    """What is tried, the plainest first: the whole batch, its halves, its quarters."""
    return [size for size in (batch, batch // 2, batch // 4) if size]


def choose(options: list[Option], seconds: Callable[[Option], float], margin: float = MARGIN) -> Option:
    """The first option that no other beats by more than a margin.

    Args:
        options: the plainest first; a single one is taken unmeasured.
        seconds: measures the time of one character with an option, once.
        margin: share of the shortest time.
    """
    if len(options) == 1:
        return options[0]
    for option in options:
        seconds(option)  # the first turn builds what it needs
    turns = [[seconds(option) for option in options] for _ in range(TURNS)]
    times = [sorted(own)[TURNS // 4] for own in zip(*turns, strict=True)]
    limit = min(times) * (1 + margin)
    return next(option for option, time in zip(options, times, strict=True) if time <= limit)


def seconds_per_step(steps: Callable[[int], object], least: float) -> float:
    """The time of one step, from a turn of at least so many seconds, or of one step where that is longer.

    Args:
        steps: runs so many of them.
        least: seconds.
    """
    count, taken, seconds = 1, 0, 0.0
    while seconds < least:
        started = time.perf_counter()
        steps(count)
        seconds += time.perf_counter() - started
        taken += count
        count = max(1, int(taken / seconds * least) - taken)
    return seconds / taken


class Memory:
    """The plans found so far, in the file beside the model.

    A file that cannot be read or written is no error: the plans are measured again next time.

    Args:
        model: path of the .onnx file.
        card: what it holds; plans hold for every model of this shape.
        where: what else a plan depends on: processor, versions.
    """

    def __init__(self, model: Path, card: Card, where: str) -> None:
        self.path = model.with_suffix(".tuning.json")
        shape = (card.cell, card.gru_reset, card.layers, card.hidden, card.vocab, card.precision)
        self._key = ", ".join(map(str, (*shape, where)))
        self._plans = self._read().get(self._key, {})

    def get(self, size: int) -> Plan | None:
        """What was found for a batch of this size class."""
        try:
            plan = self._plans[str(size)]
            found = Plan(int(plan["threads"]), int(plan["group"]))
        except (KeyError, TypeError, ValueError):
            return None
        return found if found.threads >= 1 and found.group >= 1 else None

    def put(self, size: int, plan: Plan) -> None:
        """Remember a plan."""
        self._put(str(size), {"threads": plan.threads, "group": plan.group})

    def layout(self) -> int | None:
        """In which of the compiled decoder's layouts weights were found to be read fastest."""
        try:
            return int(self._plans["weights"]["layout"])
        except (KeyError, TypeError, ValueError):
            return None

    def put_layout(self, layout: int) -> None:
        """Remember a layout."""
        self._put("weights", {"layout": layout})

    def _put(self, name: str, entry: dict[str, int]) -> None:
        plans = self._read()  # others may have written to the file in the meantime
        self._plans = plans.get(self._key, {}) | {name: entry}
        try:
            write_json(self.path, {"p2.tuning": VERSION, "plans": plans | {self._key: self._plans}})
        except OSError:
            return

    def _read(self) -> dict[str, dict[str, dict[str, int]]]:
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            plans = data["plans"] if data["p2.tuning"] == VERSION else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        good = isinstance(plans, dict) and all(isinstance(entry, dict) for entry in plans.values())
        return plans if good else {}
