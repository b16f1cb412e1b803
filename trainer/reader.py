"""Texts as one stream of characters: whatever they lie in, in constant memory.

    reader = Reader(["books/", "more.jsonl.zst"], column="text")
    for block in reader:
        ...

Each file, and each row of a table, is a document. A byte-order mark is dropped and the line ends CRLF and CR
become LF; nothing else is changed. Documents are joined in the order given (inside a folder or a pattern:
sorted by path, see `sources`), with a line break after one that does not end with one, but for the last; a
file that is named twice counts once. So the same text comes out of whatever holds it: plain, compressed
(`unfolding`), in tables (`tables`) or as tokens (`token_file`).
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator

from ..contract.errors import P2Error, UsageError
from . import token_file
from .encodings import ENCODING_ERRORS, UTF8, check_encoding, unreadable
from .faults import Faults
from .sources import files_of
from .tables import rows_of_lines, rows_of_parquet
from .unfolding import BLOCK, PARQUET, TOKENS, Raw, opened, size_of, unfolded

_NAMED = 10  # files that cannot be read, in one answer
_LONG = 4 * BLOCK


class Reader:
    """The characters of texts, once, from the first to the last.

    Args:
        texts: one or more files, folders, glob patterns or ``-`` (standard input).
        encoding: of plain files and lines of JSON; None is UTF-8.
        errors: what becomes of bytes that cannot be read, a key of `encodings.ENCODING_ERRORS`.
        column: every file is a table, Parquet by its first bytes, else lines of JSON objects, and this column
            holds its texts. A token file stays what it is.

    Attributes:
        sources: the files, ``-`` for standard input.
        notes: what was left out or replaced on the way in, a line each; complete when all has been read.

    Raises:
        P2Error: there is no such file, no match or no text, or a folder cannot be read.
        UsageError: `encoding` or `errors` is unknown, or a name is empty.
    """

    def __init__(
        self,
        texts: list[str],
        encoding: str | None = None,
        errors: str = "strict",
        column: str | None = None,
    ) -> None:
        if encoding is not None:
            check_encoding(encoding)
        if errors not in ENCODING_ERRORS:
            choices = ", ".join(ENCODING_ERRORS)
            raise UsageError(f"unknown --encoding-errors {errors!r}: choose one of {choices}")
        found, self.notes = files_of(texts, tables=column is not None)
        self.sources = tuple(found)
        self._encoding = encoding or UTF8
        self._errors = errors
        self._column = column
        self._raw: Raw | None = None
        self._read_before = 0
        self._problems: list[str] = []
        self._changed: list[str] = []
        self._nulls: list[str] = []

    def __iter__(self) -> Iterator[str]:
        """Blocks of the text, none empty, about `unfolding.BLOCK` characters each.

        Raises:
            P2Error: a file is unreadable, damaged, binary, in another encoding or without the column. The
                files after it are looked at too, so that all such files are named; their text does not come.
            BackendMissing: a file needs a package that is not here.
        """
        parts, length = list[str](), 0
        for piece in self._joined():
            if self._problems:
                continue
            parts.append(piece)
            length += len(piece)
            if length >= BLOCK:
                text, parts, length = "".join(parts), [], 0
                if len(text) <= _LONG:
                    yield text
                else:
                    yield from (text[start : start + BLOCK] for start in range(0, len(text), BLOCK))
        if self._problems:
            raise _all_of(self._problems, len(self.sources))
        if parts:
            yield "".join(parts)
        if self._changed:
            done = "replaced by U+FFFD" if self._errors == "replace" else "left out"
            self.notes.append(f"bytes that are not {self._encoding} were {done}: {_some(self._changed)}")
        if self._nulls:
            self.notes.append(f"rows without a text (null) were left out: {_some(self._nulls)}")

    @property
    def read_bytes(self) -> int:
        """How many bytes of the files have been read."""
        return self._read_before + (self._raw.read_bytes if self._raw else 0)

    def size(self) -> int | None:
        """Bytes of all files, or None where nobody knows before the end."""
        sizes = [size_of(source) for source in self.sources]
        return None if None in sizes else sum(filter(None, sizes))

    def _joined(self) -> Iterator[str]:
        last: str | None = None  # character of the document before
        for source in self.sources:
            try:
                for document in self._documents(source):
                    if last is not None and last != "\n":
                        yield "\n"
                    last = ""
                    for piece in document:
                        if piece:
                            last = piece[-1]
                            yield piece
            except P2Error as error:
                if not self._problems and len(self.sources) == 1:
                    raise
                self._problems.append(str(error))

    def _documents(self, source: str) -> Iterator[Iterator[str]]:
        with opened(source) as raw:
            self._raw = raw
            if raw.head.startswith(TOKENS):
                yield token_file.text(raw)
            elif self._column is None:
                yield self._plain(raw)
            else:
                yield from (iter((row,)) for row in self._rows(raw, self._column))
            self._read_before, self._raw = self.read_bytes, None

    def _plain(self, raw: Raw) -> Iterator[str]:
        if raw.head.startswith(PARQUET):
            raise P2Error(f"{raw.name} is a Parquet file: --column says which of its columns to read")
        faults = Faults(self._encoding, self._errors)
        # Joins what a block cuts apart, characters and CRLF alike.
        yield from self._decoded(raw, faults, io.IncrementalNewlineDecoder(faults, translate=True))

    def _rows(self, raw: Raw, column: str) -> Iterator[str]:
        nulls = 0

        def null(rows: int) -> None:
            nonlocal nulls
            nulls += rows

        if raw.head.startswith(PARQUET):
            rows = rows_of_parquet(raw, column, null)
        else:
            faults = Faults(self._encoding, self._errors)
            rows = rows_of_lines(raw.name, self._decoded(raw, faults, faults), column, null)
        for where, row in rows:
            if "\0" in row:
                raise P2Error(f"{where} holds a zero character, as no text does")
            check_halves(row, f"{where} holds")
            text = row.removeprefix("\ufeff")
            yield text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
        if nulls:
            self._nulls.append(f"{nulls:,} in {raw.name}")

    def _decoded(
        self, raw: Raw, faults: Faults, decoder: Faults | io.IncrementalNewlineDecoder
    ) -> Iterator[str]:
        """The text of plain bytes, without a byte-order mark; `decoder` ends in `faults`."""
        strict, begun, explain = self._errors == "strict", False, len(self._problems) < _NAMED
        for block in itertools.chain(unfolded(raw), (b"",)):
            text = decoder.decode(block, final=not block)
            if text and not begun:
                text, begun = text.removeprefix("\ufeff"), True
            if "\0" in text or (strict and faults.bytes and (not explain or faults.enough)):
                break
            check_halves(text, f"{raw.name} holds, read as {self._encoding},")
            if not (strict and faults.bytes):
                yield text
        if "\0" in text or (strict and faults.bytes):
            raise P2Error(unreadable(raw.name, faults) if explain else raw.name)
        if faults.bytes:
            self._changed.append(f"{faults.bytes:,} in {raw.name}")


def check_halves(text: str, where: str) -> None:
    """Refuse half a surrogate pair: JSON would join two of them, so that a vocabulary came back shorter.

    Raises:
        P2Error: the text has one; the sentence begins with `where`.
    """
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError as error:
        half = f"U+{ord(text[error.start]):04X}"
        raise P2Error(
            f"{where} {half}: half of a surrogate pair, which is no character (no UTF-8 text has one)"
        ) from None


def _all_of(problems: list[str], files: int) -> P2Error:
    if len(problems) == 1:
        return P2Error(problems[0])
    error = P2Error(f"{len(problems):,} of {files:,} files cannot be read (--encoding is for all):")
    for problem in problems[:_NAMED]:
        error.add_note(problem)
    if len(problems) > _NAMED:
        error.add_note(f"and {len(problems) - _NAMED:,} more")
    return error


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED:,} more"
