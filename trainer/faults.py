"""What of a file could not be read: counted while it is read, once, in constant memory."""

from __future__ import annotations

import codecs
import io
from collections import deque
from typing import Any

from .encodings import ENCODING_ERRORS

_HANDLER = "p2.faults"
_BEFORE, _AFTER = 1 << 20, 1 << 24  # bytes around the first fault that a guess is made from


class Faults(codecs.IncrementalDecoder):
    """An incremental decoder that counts what it cannot read.

    It keeps what a sentence about the file needs of it, so that a pipe is read once, and a file of any size
    in constant memory.

    Args:
        encoding: see `encodings.check_encoding`.
        errors: a key of `ENCODING_ERRORS`; strict counts too, and leaves it to the caller to refuse.

    Attributes:
        bytes: how many could not be read.
        nearby: how many of those are in `sample`.
        first: offset of the first of them.
        line: the line that it is in, from 1.
        head: the first bytes of the file.
    """

    def __init__(self, encoding: str, errors: str) -> None:
        super().__init__()
        self.encoding = encoding
        self.bytes = self.nearby = self.first = 0
        self.line = 1
        self.head = b""
        self._instead = ENCODING_ERRORS[errors]
        self._fed = 0
        self._decoder = codecs.getincrementaldecoder(encoding)(_HANDLER)
        self._lines = io.IncrementalNewlineDecoder(None, translate=True)
        self._kept: deque[bytes] = deque()
        self._kept_bytes = 0
        self._kept_end = 0

    def decode(self, input: Any, final: bool = False) -> str:
        """The text of the next bytes."""
        start = self._fed
        self._keep(input)
        codecs.register_error(_HANDLER, self._fault)
        state, sound = self._decoder.getstate(), not self.bytes
        text = self._decoder.decode(input, final)
        if sound and not self.bytes:
            self.line += self._lines.decode(text).count("\n")
        elif sound:
            again = codecs.getincrementaldecoder(self.encoding)("replace")
            again.setstate(state)
            before = again.decode(input[: max(0, self.first - start)])
            self.line += self._lines.decode(before, final=True).count("\n")
        return text

    @property
    def enough(self) -> bool:
        """Whether so much was read after the first fault that more changes no sentence but its count."""
        return bool(self.bytes) and self._fed - self.first > _AFTER

    def sample(self) -> tuple[bytes, int]:
        """What surrounds the first fault, in whole lines (a small file is there in whole), and its offset."""
        data, start = b"".join(self._kept), self._kept_end - self._kept_bytes
        if self._kept_end < self._fed:
            data = data[: data.rfind(b"\n", self.first - start) + 1] or data
        if start:
            cut = data.find(b"\n", 0, self.first - start) + 1
            data, start = data[cut:], start + cut
        return data, start

    def _keep(self, block: bytes) -> None:
        self.head = (self.head + block[:4])[:4]
        self._fed += len(block)
        if self.enough:
            return
        self._kept.append(block)
        self._kept_bytes += len(block)
        self._kept_end = self._fed
        while not self.bytes and self._kept_bytes - len(self._kept[0]) > _BEFORE:
            self._kept_bytes -= len(self._kept.popleft())

    def _fault(self, error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        # What it was given ends where the bytes fed so far end; it may begin with earlier ones.
        place = self._fed - len(error.object) + error.start
        if not self.bytes:
            self.first = place
        self.bytes += error.end - error.start
        if place < self._kept_end:
            self.nearby += error.end - error.start
        return self._instead, error.end
