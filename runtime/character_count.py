"""How far a long job is, on stderr: a bar on a terminal, a line every few seconds in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

BAR_SECONDS = 1.0  # a job that is done by then needs no bar
LINE_SECONDS = 5.0


class CharacterCount:
    """Counts characters, and shows the count where it disturbs nobody.

    Args:
        total: characters of the whole job; None if it is not known.
        out: where the results go. If that is a terminal, they are progress enough.
        clock: seconds, from any beginning.
    """

    def __init__(self, total: int | None, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._total = total
        self._done = 0
        self._clock = clock
        self._started = self._said = clock()
        self._hidden = out.isatty()
        self._bar: Bar | None = None

    def __enter__(self) -> CharacterCount:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def advance(self, characters: int) -> None:
        """So many more characters are done."""
        self._done += characters
        now = self._clock()
        if self._hidden:
            return
        if sys.stderr.isatty():
            if self._bar is None and now - self._started >= BAR_SECONDS:
                self._bar = self._new_bar()
            if self._bar:
                self._bar.update(self._bar.task_ids[0], completed=self._done)
        elif now - self._said >= LINE_SECONDS:
            self._said = now
            print(self._line(now - self._started), file=sys.stderr, flush=True)

    def _line(self, seconds: float) -> str:
        speed = self._done / seconds
        if not self._total:
            return f"{self._done:,} characters, {speed:,.0f} a second"
        share, left = self._done / self._total, (self._total - self._done) / speed
        return (
            f"{self._done:,} of {self._total:,} characters ({share:.0%}), {speed:,.0f} a second,"
            f" {left:,.0f} s left"
        )

    def _new_bar(self) -> Bar:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        bar = Progress(
            BarColumn(),
            TextColumn("{task.completed:,} characters"),
            TimeRemainingColumn(),
            console=Console(file=sys.stderr),
            transient=True,
        )
        bar.add_task("", total=self._total)
        bar.start()
        return bar
