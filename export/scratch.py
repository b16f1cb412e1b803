"""A folder in which something is made whole, before a rename puts it in its place."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..contract import files, locks


@contextlib.contextmanager
def scratch(parent: Path, prefix: str) -> Iterator[Path]:
    """A locked folder in `parent`, removed at the end unless it was renamed.

    Those that killed exports left there are removed first.

    Args:
        parent: where it is made; what it is to become lies on the same disk.
        prefix: of its name, which begins with a full stop.
    """
    for path in parent.glob(f"{glob.escape(prefix)}????????"):
        _remove(path)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    handle = os.open(folder, os.O_RDONLY)
    locks.grab(handle)
    try:
        yield folder
    finally:
        os.close(handle)
        shutil.rmtree(folder, ignore_errors=True)


def appear(made: Path, place: Path) -> None:
    """Give a folder that `scratch` made its name, and the mode that any new folder has."""
    os.chmod(made, 0o777 & ~files.umask())  # mkdtemp makes it private
    os.rename(made, place)


def _remove(folder: Path) -> None:
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if locks.is_leftover(handle, os.fstat(handle).st_mtime):
                shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(handle)
