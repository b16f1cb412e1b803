"""What a person sees of a run: a live line on a terminal, plain lines in a pipe. No torch here.

Everything goes to stdout, so that ``p2 train | tee run.txt`` keeps it; errors go to stderr.
"""

from __future__ import annotations

import sys
import time
from typing import Protocol

from ..contract.shell import printable
from .metrics import Metrics, Report

PLAIN_SECONDS = 5.0
"""Time between two plain lines."""


class Display(Protocol):
    """Where a run reports to."""

    def note(self, text: str) -> None:
        """Say one thing."""
        ...

    def start(self, step: int, steps: int) -> None:
        """Updates are about to begin after `step` of `steps`."""
        ...

    def update(self, report: Report) -> None:
        """An update is done."""
        ...

    def validated(self, step: int, metrics: Metrics, best: bool) -> None:
        """The held-out text was read after `step`; `best`: never better before."""
        ...

    def stop(self) -> None:
        """No more updates; called in every case."""
        ...


class Silent:
    """Shows nothing."""

    def note(self, text: str) -> None:
        """See `Display.note`."""

    def start(self, step: int, steps: int) -> None:
        """See `Display.start`."""

    def update(self, report: Report) -> None:
        """See `Display.update`."""

    def validated(self, step: int, metrics: Metrics, best: bool) -> None:
        """See `Display.validated`."""

    def stop(self) -> None:
        """See `Display.stop`."""


class Plain:
    """A line every few seconds: for pipes and log files."""

    def __init__(self, seconds: float = PLAIN_SECONDS) -> None:
        self._seconds = seconds
        self._due = 0.0

    def note(self, text: str) -> None:
        """See `Display.note`."""
        print(printable(text), flush=True)

    def start(self, step: int, steps: int) -> None:  # noqa: ARG002 - the protocol's signature
        """See `Display.start`."""
        self._due = time.monotonic() + self._seconds

    def update(self, report: Report) -> None:
        """See `Display.update`."""
        now = time.monotonic()
        if now >= self._due or report.step == report.steps:
            self._due = now + self._seconds
            self.note(
                f"{report.step:>6}/{report.steps}  {describe(report.running)}"
                f"  {report.characters_per_second:,.0f} char/s  {duration(report.seconds_left)} left"
            )

    def validated(self, step: int, metrics: Metrics, best: bool) -> None:
        """See `Display.validated`."""
        self.note(describe_validation(step, metrics, best))

    def stop(self) -> None:
        """See `Display.stop`."""


class Live:
    """A progress bar with the running figures, for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        # In a narrow terminal the bar gives way, not the figures.
        self._progress = Progress(
            BarColumn(bar_width=None, table_column=Column(ratio=1)),
            MofNCompleteColumn(table_column=Column(no_wrap=True)),
            TextColumn("{task.fields[figures]}", markup=False),
            console=Console(highlight=False),
            expand=True,
        )
        self._task = self._progress.add_task("", total=None, figures="")

    def note(self, text: str) -> None:
        """See `Display.note`."""
        self._progress.console.print(printable(text), markup=False)

    def start(self, step: int, steps: int) -> None:
        """See `Display.start`."""
        self._progress.update(self._task, completed=step, total=steps)
        self._progress.start()

    def update(self, report: Report) -> None:
        """See `Display.update`."""
        figures = (
            f"{describe(report.running)}  {report.characters_per_second:,.0f} char/s"
            f"  {duration(report.seconds_left)}"
        )
        self._progress.update(self._task, completed=report.step, figures=figures)

    def validated(self, step: int, metrics: Metrics, best: bool) -> None:
        """See `Display.validated`."""
        self.note(describe_validation(step, metrics, best))

    def stop(self) -> None:
        """See `Display.stop`."""
        self._progress.stop()


def for_stdout() -> Display:
    """`Live` on a terminal, else `Plain`."""
    return Live() if sys.stdout.isatty() else Plain()


def describe(metrics: Metrics) -> str:
    """Loss, bits per character and accuracy in a few words."""
    bits = metrics.bits_per_character
    return f"loss {metrics.loss:.3f}  {bits:.3f} bits/char  accuracy {metrics.accuracy:.3f}"


def describe_validation(step: int, metrics: Metrics, best: bool) -> str:
    """One line about a validation."""
    return f"{step:>6} held-out text: {describe(metrics)}{'  (best so far)' if best else ''}"


def duration(seconds: float) -> str:
    """``75.2`` -> ``1:15``, ``3675`` -> ``1:01:15``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
