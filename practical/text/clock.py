"""What a run takes, all its pieces added up, and how it was begun: a file that is written as it goes."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Literal, NotRequired

from ...contract.documents import read_document
from ...contract.errors import P2Error
from ...contract.files import write_json
from ...trainer.display import Display
from ...trainer.metrics import Metrics, Report
from ...trainer.takeover import current
from ..document import Seconds

SAVE_SECONDS = 10.0
"""A killed run loses at most so much of its time."""


class Clock:
    """Wall and processor seconds of this process, added to those of earlier pieces.

    Args:
        path: the file that keeps them, in the run folder.
        mode: of the run, where it begins.
        resume: whether to go on from what the file says; a missing one counts as nothing.

    Attributes:
        mode: of the run, as it was begun.
        document: `document.fingerprint` of what this run has written; empty before.
    """

    def __init__(self, path: Path, mode: str, *, resume: bool) -> None:
        self._path = path
        self._before: Seconds = {"wall": 0.0, "cpu": 0.0}
        self.mode, self.document = mode, ""
        if resume:
            self._before, self.mode, self.document = _read(self._place(), mode)
        self._kept = self._before
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
        """Write the file; where it cannot be written, nothing but the time is lost."""
        self._kept = self.seconds()
        self._write()

    def wrote(self, document: str) -> None:
        """Note which document is this run's."""
        self.document = document
        self._write()

    def _write(self) -> None:
        with contextlib.suppress(P2Error):
            write_json(self._place(), {**self._kept, "mode": self.mode, "document": self.document})
        self._saved = time.monotonic()

    def _place(self) -> Path:
        """Where the file is now: a run that has just begun is not in its folder yet."""
        return current(self._path.parent) / self._path.name


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
    document: NotRequired[str]


def _read(path: Path, mode: str) -> tuple[Seconds, str, str]:
    """What an earlier piece left; it is not worth failing for."""
    try:
        found = read_document(path, _Kept)
        return (
            {"wall": found["wall"], "cpu": found["cpu"]},
            found.get("mode", mode),
            found.get("document", ""),
        )
    except P2Error:
        return {"wall": 0.0, "cpu": 0.0}, mode, ""
