"""Locks that a killed process does not leave behind: flock, on an open file.

Where there is none (Windows, some network file systems), nothing is locked, and what looks like the leftover
of a killed process counts as one when it is old.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEFTOVER_SECONDS = 24 * 3600.0
"""Without locks: the age at which a file that was being written is a leftover."""

_LOCK = ".lock"  # in a scratch folder


def available() -> bool:
    """Whether the system has flock."""
    return fcntl is not None


def grab(handle: int, *, wait: bool = False) -> bool | None:
    """Lock an open file until it is closed.

    Args:
        handle: a descriptor that is open for writing, as network file systems want it.
        wait: until another process gives it up.

    Returns:
        Whether it is ours now; None where there are no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def is_leftover(handle: int, modified: float) -> bool:
    """Whether nobody works with an open file any more; then it is locked until it is closed.

    Args:
        handle: of the file.
        modified: seconds since the epoch.
    """
    free = grab(handle)
    return time.time() - modified > LEFTOVER_SECONDS if free is None else free


@contextlib.contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A folder in the system's temporary one; what killed processes left under the same prefix goes first."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        _remove_scratch(path)
    with tempfile.TemporaryDirectory(prefix=prefix) as name:
        folder = Path(name)
        new = folder / f"{_LOCK}.new"
        with new.open("w") as lock:
            grab(lock.fileno())
            if available():
                new.rename(folder / _LOCK)  # never there without being held
            yield folder


def _remove_scratch(folder: Path) -> None:
    """Remove a scratch folder that nobody works in; one without a lock may just be made: when it is old."""
    with contextlib.suppress(OSError):
        lock = folder / _LOCK
        if not lock.exists():
            if time.time() - folder.stat().st_mtime > LEFTOVER_SECONDS:
                shutil.rmtree(folder)
            return
        with lock.open("r+") as file:
            if is_leftover(file.fileno(), lock.stat().st_mtime):
                shutil.rmtree(folder)
