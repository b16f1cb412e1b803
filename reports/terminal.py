"""Small things every command needs at the terminal; nothing heavy is imported before it is used."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..spec.errors import BackendMissing

if TYPE_CHECKING:
    from rich.console import Console


def escape_what_cannot_be_shown() -> None:
    """Let a stdout or stderr that is not Unicode show escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console() -> Console:
    """A console for tables: as wide as the terminal, and wide enough for any table in a pipe."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=120)


@contextlib.contextmanager
def needing(extra: str) -> Iterator[None]:
    """Turn a missing package into the sentence that says which extra brings it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("p2"):
            raise
        raise BackendMissing(f"{error.name} is not installed: pip install 'p2[{extra}]'") from error


def give_up_stdout() -> None:
    """Point stdout elsewhere, so that the interpreter's own flush at exit does not complain again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
