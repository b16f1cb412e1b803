"""Small things every command needs at the terminal; nothing heavy is imported before it is used."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..contract.errors import BackendMissing, P2Error, UsageError
from ..contract.shell import install, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

MAY_BE_EMPTY = ("--prompt", "--stop")
"""Options whose value is a text, and no name."""


class OutputLost(Exception):
    """Nobody takes the output, and the output is all that the command makes."""


class _Outlet(io.FileIO):
    """The file behind stdout or stderr. Once it refuses, what is written is dropped.

    A reader that leaves (``| head``), a full disk or a terminal that is gone must not end a training.

    Attributes:
        refused: why nothing is written any more, or None.
        essential: whether losing it raises `OutputLost`.
    """

    def __init__(self, stream: io.TextIOWrapper) -> None:
        super().__init__(stream.fileno(), "w", closefd=False)
        self._stream = stream  # which would close the file if nobody held it
        self.refused: OSError | None = None
        self.essential = False

    def write(self, data: Any) -> int:
        """Write what the system takes of `data`, or drop all of it."""
        if self.refused is None:
            try:
                # Another program that shares the terminal may have made it non-blocking.
                while (written := super().write(data)) is None:
                    select.select([], [self], [])
                return written
            except OSError as error:
                self.refused = error
                if self.essential:
                    raise OutputLost from error
        return len(data)


def prepare_streams() -> None:
    """Make stdin, stdout and stderr safe to use.

    A stream that is not Unicode shows escapes instead of failing; a closed one swallows everything, and
    so does one that refuses to be written to (`_Outlet`).
    """
    _open_standard_descriptors()
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for the life of the process
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, io.TextIOWrapper):
            continue
        file = getattr(stream.buffer, "raw", stream.buffer)  # python -u has no buffer between
        if isinstance(file, _Outlet):  # of an earlier call in this process
            file.refused, file.essential = None, False
        elif isinstance(file, io.FileIO):
            with contextlib.suppress(OSError):
                stream.flush()
            outlet = io.TextIOWrapper(
                io.BufferedWriter(_Outlet(stream)),
                encoding=stream.encoding,
                errors="backslashreplace",
                line_buffering=stream.line_buffering or stream.write_through,
            )
            setattr(sys, name, outlet)
        else:
            stream.reconfigure(errors="backslashreplace")


def _open_standard_descriptors() -> None:
    """Put the null device where the shell closed one of the first three: no other file may get its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def stdout_is_the_result() -> None:
    """Let the command end as soon as nobody takes its output: it makes nothing else."""
    outlet = _outlet()
    if outlet:
        outlet.essential = True


def flush_stdout() -> str | None:
    """Write what is left.

    Returns:
        why the output was lost; None if it was not, or if only its reader has left, who had what he wanted.
    """
    from ..contract.files import explain

    try:
        sys.stdout.flush()
    except OSError as error:
        return explain(error)
    except OutputLost:
        pass
    outlet = _outlet()
    refused = outlet.refused if outlet else None
    return None if refused is None or refused.errno == errno.EPIPE else explain(refused)


def _outlet() -> _Outlet | None:
    file = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return file if isinstance(file, _Outlet) else None


def say(text: str) -> None:
    """Print one line, whatever the names in it hold."""
    print(printable(text))


def console() -> Console:
    """A console for tables: as wide as the terminal, and wide enough for any table in a pipe."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=120)


def titled(title: str | Text, heads: Sequence[str], words: int = 1) -> Table:
    """A table without rows; the first columns, so many as hold words, are set left, the others right."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for at, head in enumerate(heads):
        table.add_column(head, justify="left" if at < words else "right")
    return table


@contextlib.contextmanager
def needing(extra: str) -> Iterator[None]:
    """Turn a missing package, or a lack of memory, into the sentence that says what to do."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("p2"):
            raise
        raise BackendMissing(f"{error.name} is not installed: {install(extra)}") from error
    except (MemoryError, RuntimeError) as error:
        # PyTorch reports a failed allocation as a RuntimeError, on the CPU and on the GPU.
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise P2Error("there is not enough memory for this: choose a smaller model or batch") from error
        if str(error).startswith("Symlink loop"):  # how pathlib says it before Python 3.13
            raise P2Error(f"cannot use a path: {error}") from error
        raise


def refuse_empty(argv: list[str]) -> None:
    """An empty path would be the working folder: what an unset shell variable leaves is refused instead.

    Raises:
        UsageError: an argument is empty, and not of `MAY_BE_EMPTY`.
    """
    for before, argument in zip(["", *argv], argv, strict=False):
        name, equals, value = argument.partition("=")
        if not argument and before not in MAY_BE_EMPTY:
            of = f"the argument after {before}" if before.startswith("--") else "an argument"
            raise UsageError(f"{of} is empty (an unset variable?)")
        if equals and not value and name.startswith("--") and name not in MAY_BE_EMPTY:
            raise UsageError(f"{name} is empty (an unset variable?)")
