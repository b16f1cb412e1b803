"""Small things every command needs at the terminal; nothing heavy is imported before it is used."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..spec.errors import BackendMissing, P2Error

if TYPE_CHECKING:
    from rich.console import Console


def prepare_streams() -> None:
    """Make stdout and stderr safe to write to.

    A stream that is not Unicode shows escapes instead of failing; a closed one swallows everything.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for the life of the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def console() -> Console:
    """A console for tables: as wide as the terminal, and wide enough for any table in a pipe."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=120)


@contextlib.contextmanager
def needing(extra: str) -> Iterator[None]:
    """Turn a missing package, or a lack of memory, into the sentence that says what to do."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("p2"):
            raise
        raise BackendMissing(f"{error.name} is not installed: pip install 'p2[{extra}]'") from error
    except (MemoryError, RuntimeError) as error:
        # PyTorch reports a failed allocation as a RuntimeError, on the CPU and on the GPU.
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise P2Error("there is not enough memory for this: choose a smaller model or batch") from error
        raise


def give_up_stdout() -> None:
    """Point stdout elsewhere, so that the interpreter's own flush at exit does not complain again."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
