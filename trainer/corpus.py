"""Texts to train on: files, folders, patterns, standard input, or the text inside Python itself.

Files are read as UTF-8 unless another encoding is named. A byte-order mark is dropped and the line
ends CRLF and CR become LF; nothing else is changed. Several files are joined in the order given
(inside a folder or a pattern: sorted by path, see `sources`), with a line break after a file that does not
end with one, and a file that is named twice counts once.

A text is kept as tokens, in as few bytes each as its vocabulary allows: one up to 256 distinct characters,
two up to 65,536. Reading a file takes about two bytes of memory for each of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..contract.codec import Codec, UnknownCharacter, describe
from ..contract.errors import P2Error, UsageError
from ..contract.files import reading
from .encodings import UTF8, Faults, check_encoding, unreadable, unreadable_here
from .sources import STDIN, files_of

BUILT_IN = "python:pydoc_data.topics"
"""Source name of the text that every CPython carries."""

Tokens = npt.NDArray[np.unsignedinteger[Any]]

_BLOCK = 1 << 16  # bytes of a file, or characters of a text, that are worked on at once
_NAMED = 10  # files that cannot be read, in one answer


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from.

    Attributes:
        tokens: all of it, uint8, uint16 or uint32 ``[characters]``: places in `vocabulary`.
        vocabulary: its distinct characters, in ascending order.
        sources: the files it was joined from, ``-`` for standard input, or `BUILT_IN`.
        sha256: SHA-256 of the text in UTF-8.
        notes: what was left out or replaced on the way in, a line each.
    """

    tokens: Tokens = field(compare=False, repr=False)
    vocabulary: str
    sources: tuple[str, ...]
    sha256: str
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __len__(self) -> int:
        """Characters."""
        return len(self.tokens)

    @property
    def text(self) -> str:
        """All of it, decoded each time: one to four bytes a character, twice that while it is made."""
        return "".join(self._pieces())

    def _pieces(self) -> Iterator[str]:
        codec = Codec(self.vocabulary)
        for start in range(0, len(self), _BLOCK):
            yield codec.decode(self.tokens[start : start + _BLOCK])

    def encode(self, vocabulary: str) -> Tokens:
        """Its tokens in another vocabulary, in the smallest type that holds all of that one.

        Raises:
            UnknownCharacter: the text has a character that the vocabulary has not.
        """
        if vocabulary == self.vocabulary:
            return self.tokens
        unknown = set(self.vocabulary) - set(vocabulary)
        if unknown:
            position = self.first_of(unknown)
            character = self.vocabulary[self.tokens[position]]
            raise UnknownCharacter(
                f"the text holds {describe(character)} at position {position:,}, not in the vocabulary"
            )
        return _mapped(self.tokens, Codec(vocabulary).encode(self.vocabulary), len(vocabulary))

    def head(self, characters: int) -> Corpus:
        """The same with the first `characters` (>= 1) of the text only."""
        builder = _Builder()
        codec = Codec(self.vocabulary)
        for start in range(0, min(characters, len(self)), _BLOCK):
            builder.add(codec.decode(self.tokens[start : min(start + _BLOCK, characters)]))
        return builder.corpus(self.sources, self.notes)

    def only(self, vocabulary: str) -> Corpus:
        """The same without the characters that are not in `vocabulary`; a note says how many those were."""
        unknown = "".join(character for character in self.vocabulary if character not in vocabulary)
        if not unknown:
            return self
        builder = _Builder()
        leaving_out = str.maketrans("", "", unknown)
        for piece in self._pieces():
            builder.add(piece.translate(leaving_out))
        kinds = _some([repr(character) for character in unknown])
        kept = builder.corpus(self.sources)
        note = f"{len(self) - len(kept):,} characters that the model does not know were left out: {kinds}"
        return dataclasses.replace(kept, notes=(*self.notes, note))

    def first_of(self, characters: set[str]) -> int:
        """Position of the first character of the text that is one of these, of which it has one."""
        wanted = np.array([character in characters for character in self.vocabulary])
        starts = range(0, len(self), _BLOCK)
        hits = ((start, wanted[self.tokens[start : start + _BLOCK]]) for start in starts)
        return next(start + int(hit.argmax()) for start, hit in hits if hit.any())

    def describe(self) -> str:
        """Where the text came from, in a few words."""
        if self.sources == (BUILT_IN,):
            return "the documentation inside Python (pydoc_data.topics)"
        names = ["standard input" if source == STDIN else source for source in self.sources]
        shown = ", ".join(names[:5])
        return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more files"


def load(texts: list[str], encoding: str | None = None, errors: str = "strict") -> Corpus:
    """Read and join texts.

    Args:
        texts: files, folders, glob patterns or ``-``; none means the text inside Python.
        encoding: encoding of all files; None is UTF-8.
        errors: what becomes of bytes that cannot be read, a key of `encodings.ENCODING_ERRORS`.

    Raises:
        P2Error: a file is missing, unreadable, binary, in another encoding (all such files are named), or
            there is no text.
        UsageError: the encoding is unknown, or one of the two is named without a text.
    """
    if encoding is not None:
        check_encoding(encoding)
    builder = _Builder()
    if not texts:
        if encoding is not None or errors != "strict":
            option = "--encoding" if encoding is not None else "--encoding-errors"
            raise UsageError(f"{option} says how to read a TEXT, and none was given")
        builder.add(_built_in_text())
        return builder.corpus((BUILT_IN,))
    sources, notes = files_of(texts)
    for piece in pieces(sources, encoding, errors, notes):
        builder.add(piece)
    corpus = builder.corpus(tuple(sources), tuple(notes))
    if not corpus.vocabulary.strip():
        raise P2Error(f"there is no text in {corpus.describe()}: it is empty or blank")
    return corpus


def pieces(
    sources: Sequence[str], encoding: str | None, errors: str, notes: list[str], *, once: bool = False
) -> Iterator[str]:
    """The text that `load` makes of files, in pieces of at most 65,536 characters and in constant memory.

    Args:
        sources: files, or ``-``, as `sources.files_of` gives them.
        encoding: as `load` takes it.
        errors: likewise.
        notes: gets a line about bytes that were left out or replaced, when all is read.
        once: keep nothing of standard input or a pipe: a refusal of theirs then says less.

    Raises:
        P2Error: a file is missing, unreadable, binary or in another encoding (all such files are named).
    """
    changed: list[str] = []
    problems: list[str] = []
    for index, source in enumerate(sources):
        faults, last = Faults(encoding or UTF8, errors), ""
        try:
            for piece in _read(source, faults, errors, once=once, explain=len(problems) < _NAMED):
                last = piece[-1]
                yield piece
        except P2Error as error:
            problems.append(str(error))
            continue
        if faults.bytes:
            changed.append(f"{faults.bytes:,} in {_name(source)}")
        if index < len(sources) - 1 and last != "\n":
            yield "\n"
    if problems:
        raise _all_of(problems, len(sources))
    if changed:
        done = "replaced by U+FFFD" if errors == "replace" else "left out"
        notes.append(f"bytes that are not {encoding or UTF8} were {done}: {_some(changed)}")


class _Builder:
    """Collects a text as tokens, numbered in the order in which its characters first come."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._numbers = np.zeros(256, np.uint32)  # by code point: 1 + number, 0 for one that has not come yet
        self._characters: list[str] = []
        self._pieces: list[Tokens] = []

    def add(self, text: str) -> None:
        for start in range(0, len(text), _BLOCK):
            self._add(text[start : start + _BLOCK])

    def _add(self, text: str) -> None:
        data = text.encode("utf-32-le")
        self._sha256.update(text.encode())
        points = np.frombuffer(data, "<u4")
        most = int(points.max())
        if most >= len(self._numbers):
            self._numbers = np.pad(self._numbers, (0, most + 1 - len(self._numbers)))
        numbers = self._numbers[points]
        if not numbers.all():
            for point in np.unique(points[numbers == 0]).tolist():
                self._characters.append(chr(point))
                self._numbers[point] = len(self._characters)
            numbers = self._numbers[points]
        self._pieces.append((numbers - 1).astype(_smallest(len(self._characters))))

    def corpus(self, sources: tuple[str, ...], notes: tuple[str, ...] = ()) -> Corpus:
        """What was added; the builder is empty afterwards."""
        vocabulary = "".join(sorted(self._characters))
        places = Codec(vocabulary).encode("".join(self._characters)) if vocabulary else np.zeros(0, np.int64)
        tokens = np.empty(sum(map(len, self._pieces)), _smallest(len(vocabulary)))
        end = len(tokens)
        while self._pieces:  # from the end, so that each is freed when it is done
            piece = self._pieces.pop()
            tokens[end - len(piece) : end] = places[piece]
            end -= len(piece)
        return Corpus(tokens, vocabulary, sources, self._sha256.hexdigest(), notes)


def _smallest(vocabulary: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The type that holds all tokens of so many characters."""
    return np.min_scalar_type(max(vocabulary - 1, 0))


def _mapped(tokens: Tokens, places: npt.NDArray[np.int64], vocabulary: int) -> Tokens:
    """``places[tokens]``, without numpy's eight bytes for each index on the way."""
    mapped = np.empty(len(tokens), _smallest(vocabulary))
    for start in range(0, len(tokens), _BLOCK):
        mapped[start : start + _BLOCK] = places[tokens[start : start + _BLOCK]]
    return mapped


def _built_in_text() -> str:
    """The topics of Python's own help, in alphabetical order, a blank line between two of them.

    Their wrapping at 70-odd columns and their markup are kept. About 465,000 characters, 103 of them
    distinct; the text differs a little from one Python release to the next.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise P2Error("this Python comes without its documentation (pydoc_data): name a TEXT") from None
    return "\n".join(topics[name] for name in sorted(topics))


def _name(source: str) -> str:
    return "standard input" if source == STDIN else source


def _read(source: str, faults: Faults, errors: str, *, once: bool, explain: bool) -> Iterator[str]:
    """The text of one file.

    Args:
        faults: decodes it.
        errors: strict refuses bytes that cannot be read.
        once: see `pieces`.
        explain: whether a refusal says what is wrong and what to do, which takes a while to find out.
    """
    name, text, begun = _name(source), "", False
    with reading(Path(source)), _open(source, once) as file:
        # Joins what a block cuts apart, characters and CRLF alike.
        decoder = io.IncrementalNewlineDecoder(faults, translate=True)
        explain = explain and file.seekable()
        while True:
            block = file.read(_BLOCK)
            text = decoder.decode(block, final=not block)
            if text and not begun:
                text, begun = text.removeprefix("\ufeff"), True
            refused = bool(faults.bytes) and errors == "strict"
            if "\0" in text or (refused and not explain):
                break
            try:
                text.encode()
            except UnicodeEncodeError as error:
                half = f"U+{ord(error.object[error.start]):04X}"
                raise P2Error(
                    f"{name} holds, read as {faults.encoding}, {half}: half of a surrogate pair, which is"
                    " no character (no UTF-8 text has one)"
                ) from None
            if text and not refused:
                yield text
            if not block:
                break
        if "\0" in text or refused:
            if explain:
                file.seek(0)
                raise P2Error(unreadable(file.read(), name, faults))
            raise P2Error(unreadable_here(name, faults))


def _open(source: str, once: bool) -> contextlib.AbstractContextManager[BinaryIO]:
    """The file; if not `once`, so that it can be read twice."""
    path = Path(source)
    if source == STDIN:
        file = sys.stdin.buffer
        return contextlib.nullcontext(file if once else io.BytesIO(file.read()))
    return path.open("rb") if once or path.is_file() else io.BytesIO(path.read_bytes())  # a pipe


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
