"""Prompts from a file or from standard input: one, or one on each line."""

from __future__ import annotations

import codecs
import itertools
import select
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ..contract.codec import Codec
from ..contract.errors import P2Error
from ..contract.files import decode_text, read_text, reading
from .streams import encode_prompt

STDIN = "-"
_CHUNK = 1 << 16


def read_prompt(source: Path) -> str:
    """The one prompt that a file holds, or standard input (``-``); its last line break is dropped.

    Raises:
        P2Error: it cannot be read, or is not UTF-8.
    """
    if str(source) != STDIN:
        return read_text(source).removesuffix("\n")
    with reading(Path("standard input")):
        data = sys.stdin.buffer.read()
    return decode_text(data, "standard input").removesuffix("\n")


class Prompts:
    """The lines of a UTF-8 file, read as they are needed; an empty line is an empty prompt.

    Lines end in LF or CRLF; a byte-order mark is dropped. Of a stream, a line can be had as soon as it has
    come, whatever comes after it.

    Args:
        source: path of the file, or ``-`` for standard input.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._file: IO[bytes] | None = None
        self._ready: deque[bytes] = deque()  # whole lines
        self._part: list[bytes] = []  # of the line that has not ended
        self._ended = False

    def check(self, codec: Codec, on_unknown: str) -> int | None:
        """Read the whole file once before any work is spent on it.

        Returns:
            the number of prompts; None for a stream, which cannot be read twice.

        Raises:
            UnknownCharacter: a prompt holds a character that the model does not know.
            P2Error: the file cannot be read, or is not UTF-8.
        """
        if self.source == STDIN or not Path(self.source).is_file():
            return None
        return sum(
            1
            for index, prompt in enumerate(self)
            if encode_prompt(codec, prompt, index, on_unknown) is not None
        )

    def waits(self) -> bool:
        """Whether the next prompt has not come yet: whoever is to send it may be waiting for an answer."""
        while self._file is not None and not self._ended and not self._ready:
            if not _readable(self._file):
                return True
            self._take()
        return False

    def __iter__(self) -> Iterator[str]:
        if self.source == STDIN:
            # Without the buffer: what is in it would not be seen from outside.
            with reading(Path("standard input")):
                yield from self._lines(getattr(sys.stdin.buffer, "raw", sys.stdin.buffer))
            return
        path = Path(self.source)
        with reading(path), path.open("rb", buffering=0) as file:
            yield from self._lines(file)

    def _lines(self, file: IO[bytes]) -> Iterator[str]:
        self._file, self._ended = file, False
        for number in itertools.count(1):
            while not self._ready and not self._ended:
                self._take()
            if not self._ready:
                return
            line = self._ready.popleft()
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                yield line.removesuffix(b"\r").decode()
            except UnicodeDecodeError as error:
                name = "standard input" if self.source == STDIN else self.source
                raise P2Error(
                    f"{name} is not UTF-8: line {number}, byte {error.start} cannot be read"
                ) from error

    def _take(self) -> None:
        """Read what is there; wait only if there is nothing."""
        assert self._file is not None
        data = self._file.read(_CHUNK)
        if data is None:  # another program made it non-blocking
            select.select([self._file], [], [])
            return
        *whole, part = data.split(b"\n")
        if whole or not data:
            whole = [b"".join([*self._part, *whole[:1]]), *whole[1:]]
            self._part.clear()
        if part:
            self._part.append(part)
        self._ended = not data
        self._ready.extend(whole if data or whole[0] else [])


def _readable(file: IO[bytes]) -> bool:
    """Whether reading would not wait; False where the system cannot tell (pipes on Windows)."""
    try:
        return bool(select.select([file], [], [], 0)[0])
    except (OSError, ValueError):
        return False
