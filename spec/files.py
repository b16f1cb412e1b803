"""Files appear whole or not at all: write beside, fsync, rename.

Every failure of the file system (no such folder, no permission, disk full) leaves as a `P2Error`
that names the path, with the half-written file removed.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from .errors import P2Error

LEFTOVER_SECONDS = 3600.0

_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than this system allows",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "no such file or folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder",
}


def explain(error: OSError) -> str:
    """The reason of a file-system error in plain words."""
    return _REASONS.get(error.errno or 0, (error.strerror or str(error)).lower())


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError raised while reading `path` into a `P2Error` that names it."""
    try:
        yield
    except OSError as error:
        raise P2Error(f"cannot read {path}: {explain(error)}") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError raised while writing `path` into a `P2Error` that names it."""
    try:
        yield
    except OSError as error:
        raise P2Error(f"cannot write {path}: {explain(error)}") from error


def make_folder(path: Path) -> Path:
    """Create the folder `path` with its parents and check that files can be written into it.

    Raises:
        P2Error: it cannot be created or written to.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    return path


def write_atomically(path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Let `fill` write a file that appears at `path` whole or not at all.

    Args:
        path: where the finished file appears; an existing file is replaced in one step.
        fill: called with a binary file open for writing.

    Raises:
        P2Error: the file system refused; nothing is left behind.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())  # mkstemp makes it private; a result should not be
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        _sync_folder(path.parent)


def _remove_leftovers(path: Path) -> None:
    """What an earlier write of the same file left when it was killed; one that may still run is young."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > LEFTOVER_SECONDS:
                leftover.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    write_atomically(path, lambda file: file.write(data))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented UTF-8 JSON to `path`, whole or not at all.

    Any parser takes it: numbers that JSON has no word for (NaN, infinity) become null, and half a surrogate
    pair, as of a file name that is not UTF-8, is escaped.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_with_null(value), indent=2, ensure_ascii=False, allow_nan=False)
    # A backslash and the number of a code point: also how JSON writes it.
    write_bytes(path, f"{text}\n".encode("utf-8", errors="backslashreplace"))


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_null(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        P2Error: missing, unreadable, or not JSON.
    """
    with reading(path):
        data = path.read_bytes()
    try:
        return json.loads(data.decode("utf-8", errors="surrogatepass"))
    except ValueError as error:
        raise P2Error(f"{path} is damaged: not valid JSON ({error})") from error


def read_text(path: Path) -> str:
    """Read a UTF-8 text; a byte-order mark is dropped, CRLF and CR become LF.

    Raises:
        P2Error: missing, unreadable, or not UTF-8.
    """
    with reading(path):
        data = path.read_bytes()
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise P2Error(f"{path} is not UTF-8: byte {error.start} cannot be read") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the platform can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
