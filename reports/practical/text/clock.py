"""What a run takes, all its pieces added up, and how it was begun: a file that is written as it goes."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Literal, NotRequired

from ....spec.documents import read_document
from ....spec.errors import P2Error
from ....spec.files import write_json
from ....trainer.display import Display
from ....trainer.metrics import Metrics, Report
from ..document import Seconds

SAVE_SECONDS = 10.0
"""A killed run loses at most so much of its time."""


class Clock:
    """Wall and processor seconds of this process, added to those of earlier pieces.

    Args:
        path: the file that keeps them.
        mode: of the run, where it begins.
        resume: whether to go on from what the file says; a missing one counts as nothing.

    Attributes:
        mode: of the run, as it was begun.
    """

    def __init__(self, path: Path, mode: str, *, resume: bool) -> None:
        self._path = path
        self._before: Seconds = {"wall": 0.0, "cpu": 0.0}
        self.mode = mode
        if resume:
            self._before, self.mode = _read(path, mode)
        self._wall, self._cpu = time.monotonic(), _cpu()
        self._saved = self._wall

    def seconds(self) -> Seconds:
        """``wall`` and ``cpu``; cpu counts all threads, and child processes that have ended."""
        return {
            "wall": round(self._before["wall"] + time.monotonic() - self._wall, 3),
            "cpu": round(self._before["cpu"] + _cpu() - self._cpu, 3),
        }

    def tick(self) -> None:
        """Write the file if it is due."""
        if time.monotonic() - self._saved >= SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        """Write the file."""
        write_json(self._path, {**self.seconds(), "mode": self.mode})
        self._saved = time.monotonic()


class Timed:
    """A `Display` that passes everything on, and keeps the clock's file fresh."""

    def __init__(self, display: Display, clock: Clock) -> None:
        self._display = display
        self._clock = clock

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._display.note(text)

    def start(self, step: int, steps: int) -> None:
        """See `Display.start`."""
        self._display.start(step, steps)

    def update(self, report: Report) -> None:
        """See `Display.update`."""
        self._display.update(report)
        self._clock.tick()

    def validated(self, step: int, metrics: Metrics, best: bool) -> None:
        """See `Display.validated`."""
        self._display.validated(step, metrics, best)

    def stop(self) -> None:
        """See `Display.stop`."""
        self._display.stop()
        self._clock.save()


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


class _Kept(Seconds):
    mode: NotRequired[Literal["quick", "full"]]


def _read(path: Path, mode: str) -> tuple[Seconds, str]:
    """What an earlier piece left; it is not worth failing for."""
    try:
        found = read_document(path, _Kept)
        return {"wall": found["wall"], "cpu": found["cpu"]}, found.get("mode", mode)
    except P2Error:
        return {"wall": 0.0, "cpu": 0.0}, mode
