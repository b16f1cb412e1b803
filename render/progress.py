"""What is being done and how far it is, on stderr: a bar on a terminal, a line for each phase in a pipe."""

from __future__ import annotations

import sys
from types import TracebackType

from ..contract.shell import printable


class Progress:
    """Shows the phase, how much of it is done, and what is running now; stdout holds results only.

    Args:
        quiet: show nothing at all.
    """

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
        from rich.table import Column

        self._quiet = quiet
        console = Console(file=sys.stderr, highlight=False)
        self._bar: Bar | None = None
        if console.is_terminal and not quiet:
            self._bar = Bar(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=None, table_column=Column(ratio=1)),
                MofNCompleteColumn(table_column=Column(no_wrap=True)),
                TextColumn("{task.fields[now]}", markup=False),
                TimeElapsedColumn(),
                console=console,
                expand=True,
                transient=True,
            )
            self._task = self._bar.add_task("starting", total=None, now="")

    def __enter__(self) -> Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._bar:
            self._bar.console.print(text, markup=False)
        elif not self._quiet:
            print(text, file=sys.stderr, flush=True)

    def phase(self, title: str, steps: int | None = None) -> None:
        """A new phase begins, of so many steps; None where nobody counts them."""
        if self._bar:
            self._bar.reset(self._task, description=printable(title), total=steps, now="")
        else:
            self.say(printable(title))

    def now(self, what: str) -> None:
        """A step begins; only a terminal shows it."""
        if self._bar:
            self._bar.update(self._task, now=printable(what))

    def done(self, steps: int = 1) -> None:
        """Steps are done."""
        if self._bar:
            self._bar.advance(self._task, steps)

    def part(self, title: str, done: int, steps: int) -> None:
        """How far a part of the phase is, where somebody else counts; only a terminal shows it."""
        if self._bar:
            self._bar.update(self._task, total=steps, completed=done, now=printable(title))
