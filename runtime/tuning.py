"""How many threads, and how many streams side by side: measured here, remembered in the user's cache folder.

Waking a second thread costs more than it brings to a small step, and kernels have batch sizes that
they are bad at. Both depend on processor, model and version, so p2 measures, for a fraction of a
second, when a model is first used with a batch of about that size, and writes the answer to
``$XDG_CACHE_HOME/p2/tuning`` (or ``~/.cache/p2/tuning``): it belongs to the machine, not to the model.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NotRequired, TypedDict, TypeVar, cast

from ..contract.card import Card
from ..contract.documents import read_document
from ..contract.errors import P2Error
from ..contract.files import write_json
from ..contract.schema import Natural, Within
from . import cache

Option = TypeVar("Option")

VERSION = 2
LARGEST = 256  # batches beyond are split like this one

# A setting that is not the plainest has to be faster by this share; less is noise.
MARGIN = 0.15

# One turn of a setting takes about this long, or one step where that is longer.
MEASURED_SECONDS = 0.01

# Options take turns, so that a disturbance hits all of them, and the lower quartile of their turns
# counts: a machine is often disturbed for longer than a measurement takes, and never the other way round.
TURNS = 8


@dataclass(frozen=True)
class Setting:
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


def seconds_per_step(steps: Callable[[int], object], least: float = MEASURED_SECONDS) -> float:
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


class _Setting(TypedDict):
    threads: Natural
    group: Natural


class _Kept(TypedDict):
    """What the file of one shape holds: settings by size class, and the layout of the weights."""

    key: str
    plans: dict[str, _Setting]
    layout: NotRequired[Annotated[int, Within(0)]]


class Memory:
    """The settings found so far, in a file under the user's cache folder.

    What is remembered saves time and nothing else: a file that cannot be read, or holds what this machine
    cannot do, is as good as none, and one that cannot be written is not missed: settings are measured again.

    Args:
        card: the model; settings hold for every model of this shape.
        where: what else a setting depends on: processor, versions.
        threads: the most that a setting may take.
    """

    def __init__(self, card: Card, where: str, threads: int) -> None:
        shape = (card.cell, card.form.reset, card.layers, card.hidden, card.vocab, card.precision)
        self._key = ", ".join(map(str, (VERSION, *shape, where)))
        self._threads = threads
        # A file for each key: two programs that measure at once lose at most what is soon measured again.
        name = hashlib.sha256(self._key.encode()).hexdigest()[:16]
        self.path = cache.folder() / "tuning" / f"{name}.json"
        self._kept = self._read()

    def get(self, size: int) -> Setting | None:
        """What was found for a batch of this size class, if it can be done here."""
        setting = self._kept["plans"].get(str(size))
        if setting is None or setting["threads"] > self._threads or setting["group"] > size:
            return None
        return Setting(setting["threads"], setting["group"])

    def put(self, size: int, setting: Setting) -> None:
        """Remember a setting."""
        self._put({}, {str(size): {"threads": setting.threads, "group": setting.group}})

    def layout(self) -> int | None:
        """In which of the compiled decoder's layouts weights were found to be read fastest."""
        return self._kept.get("layout")

    def put_layout(self, layout: int) -> None:
        """Remember a layout."""
        self._put({"layout": layout}, {})

    def _put(self, entry: dict[str, int], settings: dict[str, _Setting]) -> None:
        kept = self._read()  # others may have written to the file in the meantime
        mine = {**self._kept, **kept, **entry, "plans": self._kept["plans"] | kept["plans"] | settings}
        self._kept = cast(_Kept, mine)
        with contextlib.suppress(P2Error, OSError):
            write_json(self.path, mine)

    def _read(self) -> _Kept:
        try:
            kept: _Kept = read_document(self.path, _Kept)
        except (P2Error, OSError):
            kept = {"key": "", "plans": {}}
        return kept if kept["key"] == self._key else {"key": self._key, "plans": {}}
