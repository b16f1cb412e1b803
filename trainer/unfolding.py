"""Files as they come: plain, gzip, xz or zstd, told apart by their first bytes, read a block at a time.

A file that is compressed is read as what it holds, whatever it is called. It may unfold to `FREE` bytes, or
to `RATIO` times what has been read of it if that is more: no text is that monotonous, and what is made to
fill a memory or a disk ends there.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ..contract.errors import BackendMissing, P2Error
from ..contract.files import reading
from ..contract.shell import install
from .sources import STDIN

BLOCK = 1 << 16
"""Bytes of a file, or characters of a text, that are worked on at once."""

FREE, RATIO = 64 << 20, 250

PARQUET = b"PAR1"
TOKENS = b"P2TOKENS"

_DICTIONARY = 256 << 20  # memory that unfolding xz may take; xz -9 takes 65 MiB
_GZIP, _XZ, _ZSTD = b"\x1f\x8b", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"
_SKIPPED = b"\x2a\x4d\x18"  # in bytes 1 to 3: a part of a zstd file that holds no data
_HEAD = 8


class Raw:
    """The bytes of a file or of standard input, counted as they are read.

    Attributes:
        source: its name, `STDIN` for standard input.
        name: for people.
        head: its first bytes, up to 8.
        size: see `size_of`.
        read_bytes: how many have been read.
    """

    closed = False  # the parts of a file that pyarrow asks for

    def __init__(self, source: str, file: BinaryIO) -> None:
        self.source = source
        self.name = name_of(source)
        self.read_bytes = 0
        self.size = size_of(source)
        self._file = file
        self.head = self._ahead = file.read(_HEAD)

    @property
    def seekable(self) -> bool:
        """Whether it is a file on a disk, which can be opened by its name again."""
        return self.size is not None

    def read(self, size: int = BLOCK) -> bytes:
        """The next `size` bytes; fewer only at the end."""
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        if len(data) < size:
            data += self._file.read(size - len(data))
        self.read_bytes += len(data)
        return data

    def close(self) -> None:
        """Nothing: whoever has opened it closes it."""


def name_of(source: str) -> str:
    """A source as a sentence names it."""
    return "standard input" if source == STDIN else source


@contextlib.contextmanager
def opened(source: str) -> Iterator[Raw]:
    """A file, or standard input, for the block.

    Raises:
        P2Error: it cannot be read.
    """
    with reading(Path(source)):
        if source == STDIN:
            yield Raw(source, sys.stdin.buffer)
            return
        with open(source, "rb") as file:
            yield Raw(source, file)


def unfolded(raw: Raw) -> Iterator[bytes]:
    """Its bytes, a block at a time, without the compression that it has.

    Raises:
        P2Error: it is cut short or damaged, unfolds beyond reason, or holds what has to be unpacked first.
        BackendMissing: zstd, and nothing here that reads it.
    """
    if raw.head.startswith(_GZIP):
        kind, blocks = "gzip", _gzip(raw)
    elif raw.head.startswith(_XZ):
        kind, blocks = "xz", _xz(raw)
    elif _is_zstd(raw.head):
        kind, blocks = "zstd", _zstd(raw)
    else:
        yield from iter(raw.read, b"")
        return
    yield from _checked(raw, kind, blocks)


def _is_zstd(head: bytes) -> bool:
    return head.startswith(_ZSTD) or (head[1:4] == _SKIPPED and head[0] >> 4 == 5)


def _checked(raw: Raw, kind: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    total = 0
    while True:
        try:
            block = next(blocks, b"")
        except EOFError:
            raise P2Error(f"{raw.name} is cut short: it ends in the middle of its {kind} data") from None
        except _Damage as error:
            raise P2Error(f"cannot read {raw.name}: its {kind} data does not unfold ({error})") from error
        if not block:
            return
        if not total:
            _refuse_nested(raw.name, kind, block[:_HEAD])
        total += len(block)
        check_ratio(raw.name, total, raw.read_bytes)
        yield block


def check_ratio(name: str, unfolded: int, read: int) -> None:
    """Refuse what unfolds to more than any text does.

    Raises:
        P2Error: `unfolded` bytes are too many for the `read` ones that they came from.
    """
    if unfolded > max(FREE, RATIO * read):
        raise P2Error(
            f"{name} unfolds to more than {RATIO} times its size ({unfolded:,} bytes from {read:,}), as no"
            " text does: if it is one, unpack it first"
        )


def _refuse_nested(name: str, kind: str, head: bytes) -> None:
    if head.startswith((_GZIP, _XZ)) or _is_zstd(head):
        raise P2Error(f"{name} is compressed twice: unpack its {kind} data once")
    for magic, inner in ((PARQUET, "a Parquet file"), (TOKENS, "a token file")):
        if head.startswith(magic):
            raise P2Error(f"{name} is {inner} inside {kind} data: unpack it first")


class _Damage(Exception):
    """What a decompressor says of its input."""


def _gzip(raw: Raw) -> Iterator[bytes]:
    file = gzip.GzipFile(fileobj=raw, mode="rb")  # type: ignore[call-overload]
    while True:
        try:
            block = file.read(BLOCK)
        except (gzip.BadGzipFile, zlib.error) as error:
            raise _Damage(error) from error
        if not block:
            return
        yield block


def _xz(raw: Raw) -> Iterator[bytes]:
    import lzma

    def decoder() -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_DICTIONARY)

    try:
        yield from _streams(raw, decoder)
    except lzma.LZMAError as error:
        raise _Damage(str(error).lower()) from error


def _zstd(raw: Raw) -> Iterator[bytes]:
    if sys.version_info >= (3, 14):
        from compression import zstd

        try:
            yield from _streams(raw, zstd.ZstdDecompressor)
        except zstd.ZstdError as error:
            raise _Damage(error) from error
        return
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise BackendMissing(f"{raw.name} is zstd, which pyarrow reads here: {install('data')}") from None
    stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, mode="r"), "zstd")
    while True:
        try:
            block = stream.read(BLOCK)
        except OSError as error:
            if "Truncated" in str(error):
                raise EOFError from None
            raise _Damage(error) from error
        if not block:
            return
        yield block


def _streams(raw: Raw, new: Callable[[], Any]) -> Iterator[bytes]:
    """What decoders like lzma's give, one for each of the streams that follow one another in a file."""
    data = raw.read()
    while data:
        decoder = new()
        while not decoder.eof:
            if decoder.needs_input and not data and not (data := raw.read()):
                raise EOFError
            block, data = decoder.decompress(data, BLOCK), b""
            if block:
                yield block
        data = decoder.unused_data.lstrip(b"\0")  # xz allows zeros between streams
        while not data and (block := raw.read()):
            data = block.lstrip(b"\0")


def size_of(source: str) -> int | None:
    """Bytes of a file, or None where nobody knows: of what is no file on a disk, or not there."""
    with contextlib.suppress(OSError):
        return None if source == STDIN else _size(os.stat(source))
    return None


def _size(found: os.stat_result) -> int | None:
    return found.st_size if stat.S_ISREG(found.st_mode) else None
