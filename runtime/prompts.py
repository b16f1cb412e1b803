"""A file of prompts, one on each line."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..spec.codec import Codec
from ..spec.errors import P2Error
from ..spec.files import reading
from .streams import encode_prompt

STDIN = "-"


class Prompts:
    """The lines of a UTF-8 file, read as they are needed; an empty line is an empty prompt.

    Lines end in LF or CRLF; a byte-order mark is dropped.

    Args:
        source: path of the file, or ``-`` for standard input.
    """

    def __init__(self, source: str) -> None:
        self.source = source

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

    def __iter__(self) -> Iterator[str]:
        if self.source == STDIN:
            yield from self._lines(sys.stdin.buffer)
            return
        path = Path(self.source)
        with reading(path), path.open("rb") as file:
            yield from self._lines(file)

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        for number, line in enumerate(file, 1):
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                yield line.removesuffix(b"\n").removesuffix(b"\r").decode()
            except UnicodeDecodeError as error:
                name = "standard input" if self.source == STDIN else self.source
                raise P2Error(
                    f"{name} is not UTF-8: line {number}, byte {error.start} cannot be read"
                ) from error
