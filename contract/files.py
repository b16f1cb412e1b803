"""Files appear whole or not at all: write beside, fsync, rename.

Every failure of the file system (no such folder, no permission, disk full) leaves as a `P2Error`
that names the path, with the half-written file removed. What a killed process had written half is
locked no more, and removed by the next write of the same file.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from . import locks
from .errors import P2Error

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

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)  # what a link points to is nobody's lock or leftover


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


def write_atomically(
    path: Path, fill: Callable[[BinaryIO], object], ready: Callable[[Path], object] = lambda _: None
) -> None:
    """Let `fill` write a file that appears at `path` whole or not at all.

    Args:
        path: where the finished file appears; an existing file is replaced in one step.
        fill: called with an empty binary file open for writing and reading.
        ready: called with the finished file's path just before it appears; if it raises, nothing does.

    Raises:
        P2Error: the file system refused; nothing is left behind.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, path.name)
        handle, name = _open_part(path)
        try:
            with os.fdopen(handle, "w+b") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
                if not locks.available():
                    file.close()  # Windows renames no open file; elsewhere the lock holds until it is done
                os.chmod(name, 0o666 & ~umask())  # mkstemp makes it private; a result should not be
                ready(Path(name))
                os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise
        sync_folder(path.parent)


def _open_part(path: Path) -> tuple[int, str]:
    """A new file beside `path`, locked while it is being written: descriptor and name."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        locks.grab(handle, wait=True)
        if os.path.exists(name):
            return handle, name
        os.close(handle)  # before it was locked, somebody took it for a leftover


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what killed writes left in a folder; what is being written stays.

    Args:
        folder: where to look.
        name: of the file that was written; None: whatever it was, so only in a folder of p2's own.
    """
    stem = "*" if name is None else glob.escape(name)
    for path in folder.glob(f".{stem}.????????.part"):
        with contextlib.suppress(OSError):
            handle = os.open(path, os.O_RDWR | _NO_LINK)
            try:
                if locks.is_leftover(handle, os.fstat(handle).st_mtime):
                    path.unlink()
            finally:
                os.close(handle)


@contextlib.contextmanager
def locked(path: Path, what: Path, option: str = "--out") -> Iterator[None]:
    """Hold the lock file `path` during the block: one process at a time, and none once that has been killed.

    Folders that are missing are made; they go again with the lock if nothing came into them. Where there is
    no flock (see `locks`), nothing is locked.

    Args:
        path: the lock; it is there as long as it is held.
        what: is locked by it, for people.
        option: that names another.

    Raises:
        P2Error: another process holds it, or the file system refused.
    """
    with writing(what):
        made = [folder for folder in path.parents if not folder.exists()]
        for folder in reversed(made):
            folder.mkdir(exist_ok=True)
        handle = _open_lock(path, what, option)
    try:
        yield
    finally:
        try:
            with contextlib.suppress(OSError):
                path.unlink()
        finally:
            os.close(handle)
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _open_lock(path: Path, what: Path, option: str) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        try:
            if locks.grab(handle) is False:
                holder = os.read(handle, 200).decode(errors="replace")
                raise P2Error(
                    f"{what} is being written by another p2"
                    f"{f' ({holder})' if holder and holder.isprintable() else ''}:"
                    f" wait until it has ended, or name another with {option}"
                )
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    os.truncate(handle, 0)
                    os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # whoever held it has just removed it


def keep_aside(document: Path, *companions: Path) -> Path | None:
    """Copy a document that is about to be replaced into the first free ``<document>.old-N``.

    Args:
        document: what is kept; nothing is done where there is none, or where the newest copy is the same.
        companions: what belongs to it, beside it; those that are missing are left out.

    Returns:
        The folder of the copies, or None if there was nothing to keep.

    Raises:
        P2Error: the file system refused.
    """
    if not document.is_file():
        return None
    number = 1
    while os.path.lexists(free := document.with_name(f"{document.name}.old-{number}")):
        number += 1
    newest = document.with_name(f"{document.name}.old-{number - 1}") / document.name
    with writing(free):
        if newest.is_file() and newest.read_bytes() == document.read_bytes():
            return None
        half = document.with_name(f".{document.name}.old")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        for path in (*companions, document):
            if path.is_file():
                shutil.copy2(path, half / path.name)
        half.rename(free)
    return free


def is_name(text: str) -> bool:
    """Whether a text from a document can be the name of a file beside it: no path, and not too long."""
    fits = text.isprintable() and 0 < len(os.fsencode(text)) <= 255
    return fits and Path(text).name == text != ".."


def is_kept_aside(path: Path) -> bool:
    """Whether `keep_aside` has made this folder."""
    return re.search(r"\.old-\d+$", path.name) is not None


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    write_atomically(path, lambda file: file.write(data))


def write_json(path: Path, value: Any, ready: Callable[[Path], object] = lambda _: None) -> None:
    """Write `value` as indented UTF-8 JSON to `path`, whole or not at all; `ready` as for `write_atomically`.

    Any parser takes it: numbers that JSON has no word for (NaN, infinity) become null, and half a surrogate
    pair, as of a file name that is not UTF-8, is escaped.
    """
    try:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_with_null(value), indent=2, ensure_ascii=False, allow_nan=False)
    # A backslash and the number of a code point: also how JSON writes it.
    data = f"{text}\n".encode("utf-8", errors="backslashreplace")
    write_atomically(path, lambda file: file.write(data), ready)


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_null(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_text(path: Path) -> str:
    """Read a UTF-8 text; a byte-order mark is dropped, CRLF and CR become LF.

    Raises:
        P2Error: missing, unreadable, or not UTF-8.
    """
    with reading(path):
        data = path.read_bytes()
    return decode_text(data, str(path))


def decode_text(data: bytes, name: str) -> str:
    """The text of a UTF-8 file, as `read_text` gives it; `name` is for the error."""
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].replace(b"\r\n", b"\n").replace(b"\r", b"\n").count(b"\n") + 1
        raise P2Error(
            f"{name} is not UTF-8: the byte 0x{data[error.start]:02X} at byte offset {error.start:,},"
            f" line {line:,}, cannot be read"
        ) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def umask() -> int:
    """The bits of a mode that this process gives to no new file."""
    current = os.umask(0)
    os.umask(current)
    return current


def sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the platform can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
