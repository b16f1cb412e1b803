"""Say what is being done: a spinner with the stage on a terminal, a line per stage in a pipe."""

from __future__ import annotations

import sys
from types import TracebackType

from ..contract.shell import printable


class Stages:
    """Shows the current stage on stderr, so that stdout holds results only.

    Args:
        quiet: show nothing at all.
    """

    def __init__(self, quiet: bool = False) -> None:
        from rich.console import Console

        self._quiet = quiet
        console = Console(file=sys.stderr)
        self._status = console.status("starting") if console.is_terminal and not quiet else None

    def __enter__(self) -> Stages:
        if self._status:
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()

    def progress(self, phase: str, done: int, steps: int) -> None:
        """How far the stage is; only a terminal shows it."""
        if self._status:
            self._status.update(f"{phase}: {done} of {steps}")

    def say(self, stage: str) -> None:
        """A new stage begins."""
        stage = printable(stage)
        if self._status:
            self._status.update(stage)
        elif not self._quiet:
            print(stage, file=sys.stderr, flush=True)
