"""Texts of any size become a token file, in one pass and in constant memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..contract.errors import P2Error
from ..contract.files import reading, write_atomically
from .corpus import describe_sources
from .reader import Reader
from .token_file import TokenFile, is_token_file, open_tokens, pack
from .unfolding import BLOCK

_TOLD = 64 * BLOCK
"""Characters between two words about how far it is."""


@dataclass(frozen=True)
class Tokenized:
    """What was written.

    Attributes:
        path: the token file.
        tokens: what it holds, mapped into memory.
        notes: what was left out of the text or replaced, a line each.
    """

    path: Path
    tokens: TokenFile
    notes: tuple[str, ...]

    def describe(self) -> str:
        """Its size in a few words."""
        held = self.tokens
        return (
            f"{held.text}: {len(held.tokens):,} characters, {len(held.vocabulary):,} distinct,"
            f" {held.tokens.width} byte{'s' * (held.tokens.width > 1)} each"
        )


def tokenize(
    texts: list[str],
    out: Path,
    encoding: str | None = None,
    errors: str = "strict",
    column: str | None = None,
    advanced: Callable[[int, int | None], object] = lambda _done, _all: None,
) -> Tokenized:
    """Write a token file that trains as its texts do, whole or not at all.

    Args:
        texts: see `reader.Reader`, as are `encoding`, `errors` and `column`.
        out: the file. One that is there is replaced if it is a token file.
        advanced: told now and then how many bytes have been read, and of how many, None if nobody knows.

    Raises:
        P2Error: a text cannot be read, there is none, or the file cannot be written.
        UsageError: an option's value is unknown.
    """
    with reading(out):
        is_there = out.exists()
    if out.is_dir():
        raise P2Error(f"cannot write {out}: it is a folder, and a token file is one file")
    if is_there and not is_token_file(out):
        raise P2Error(f"{out} is there, and is no token file that could be replaced: name another with --out")
    reader = Reader(texts, encoding, errors, column)
    size = reader.size()

    def blocks() -> Iterator[str]:
        since = _TOLD
        for block in reader:
            since += len(block)
            if since >= _TOLD:
                since = 0
                advanced(reader.read_bytes, size)
            yield block

    def fill(file: BinaryIO) -> None:
        pack(file, blocks(), describe_sources(reader.sources))

    write_atomically(out, fill)
    return Tokenized(out, open_tokens(out), tuple(reader.notes))
