"""Texts to train on: what `reader` reads, kept as tokens, or the text inside Python itself.

Tokens take as few bytes each as their vocabulary allows: one up to 256 distinct characters, two up to 65,536.
Reading a file takes about two bytes of memory for each of its own;
a token file (`token_file`) stays on the disk.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..contract.codec import Codec, UnknownCharacter, describe
from ..contract.errors import P2Error, UsageError
from . import token_file
from .encodings import check_encoding
from .numbering import Numbering, Tokens, smallest
from .reader import Reader
from .sources import STDIN
from .token_file import Stored
from .unfolding import BLOCK

BUILT_IN = "python:pydoc_data.topics"
"""Source name of the text that every CPython carries."""

_NAMED = 10  # characters that were left out, in a note


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from.

    Attributes:
        tokens: all of it, uint8, uint16 or uint32 ``[characters]``: places in `vocabulary`; `Stored` of a
            token file.
        vocabulary: its distinct characters, in ascending order.
        sources: the files it was joined from, ``-`` for standard input, or `BUILT_IN`.
        sha256: SHA-256 of the text in UTF-8.
        notes: what was left out or replaced on the way in, a line each.
    """

    tokens: Tokens | Stored = field(compare=False, repr=False)
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
        return self._first(len(self))

    def _first(self, characters: int) -> Iterator[str]:
        codec = Codec(self.vocabulary)
        for start in range(0, characters, BLOCK):
            yield codec.decode(np.asarray(self.tokens[start : min(start + BLOCK, characters)]))

    def encode(self, vocabulary: str) -> Tokens | Stored:
        """Its tokens in another vocabulary, in the smallest type that holds all of that one.

        Raises:
            UnknownCharacter: the text has a character that the vocabulary has not.
        """
        if vocabulary == self.vocabulary:
            return self.tokens
        unknown = set(self.vocabulary) - set(vocabulary)
        if unknown:
            position = self.first_of(unknown)
            character = self.at(position)
            raise UnknownCharacter(
                f"the text holds {describe(character)} at position {position:,}, not in the vocabulary"
            )
        places = Codec(vocabulary).encode(self.vocabulary).astype(smallest(len(vocabulary)))
        if isinstance(self.tokens, Stored):
            return self.tokens.mapped(places)
        mapped = np.empty(len(self), smallest(len(vocabulary)))
        for start in range(0, len(self), BLOCK):  # numpy takes eight bytes for each index on the way
            mapped[start : start + BLOCK] = places[self.tokens[start : start + BLOCK]]
        return mapped

    def head(self, characters: int) -> Corpus:
        """The same with the first `characters` (>= 1) of the text only."""
        return _collected(self._first(min(characters, len(self))), self.sources, self.notes)

    def only(self, vocabulary: str) -> Corpus:
        """The same without the characters that are not in `vocabulary`; a note says how many those were."""
        unknown = "".join(character for character in self.vocabulary if character not in vocabulary)
        if not unknown:
            return self
        leaving_out = str.maketrans("", "", unknown)
        pieces = filter(None, (piece.translate(leaving_out) for piece in self._pieces()))
        kept = (_spilled if isinstance(self.tokens, Stored) else _collected)(pieces, self.sources)
        kinds = _some([repr(character) for character in unknown])
        note = f"{len(self) - len(kept):,} characters that the model does not know were left out: {kinds}"
        return dataclasses.replace(kept, notes=(*self.notes, note))

    def at(self, position: int) -> str:
        """The character at a position."""
        return self.vocabulary[int(np.asarray(self.tokens[position : position + 1])[0])]

    def first_of(self, characters: set[str]) -> int:
        """Position of the first character of the text that is one of these, of which it has one."""
        wanted = np.array([character in characters for character in self.vocabulary])
        starts = range(0, len(self), BLOCK)
        hits = ((start, wanted[np.asarray(self.tokens[start : start + BLOCK])]) for start in starts)
        return next(start + int(hit.argmax()) for start, hit in hits if hit.any())

    def describe(self) -> str:
        """Where the text came from, in a few words."""
        return describe_sources(self.sources)


def describe_sources(sources: tuple[str, ...]) -> str:
    """Where a text came from, in a few words."""
    if sources == (BUILT_IN,):
        return "the documentation inside Python (pydoc_data.topics)"
    names = ["standard input" if source == STDIN else source for source in sources]
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more files"


def load(
    texts: list[str], encoding: str | None = None, errors: str = "strict", column: str | None = None
) -> Corpus:
    """Read and join texts. A token file alone stays where it is; beside others it is read as they are.

    Args:
        texts: files, folders, glob patterns or ``-``; none means the text inside Python.
        encoding: encoding of all files; None is UTF-8.
        errors: what becomes of bytes that cannot be read, a key of `encodings.ENCODING_ERRORS`.
        column: of the tables that the texts are, see `reader.Reader`.

    Raises:
        P2Error: a file is missing, unreadable, damaged, binary, in another encoding, without the column (all
            such files are named), or there is no text.
        UsageError: the encoding is unknown, or how to read a text is said without one.
    """
    if not texts:
        _check_says_nothing(encoding, errors, column)
        return _collected([_built_in_text()], (BUILT_IN,))
    reader = Reader(texts, encoding, errors, column)
    if len(reader.sources) == 1 and token_file.is_token_file(Path(reader.sources[0])):
        found = token_file.open_tokens(Path(reader.sources[0]))
        return Corpus(found.tokens, found.vocabulary, reader.sources, found.sha256, tuple(reader.notes))
    corpus = _collected(reader, reader.sources)
    if not corpus.vocabulary.strip():
        raise P2Error(f"there is no text in {corpus.describe()}: it is empty or blank")
    return dataclasses.replace(corpus, notes=tuple(reader.notes))


def characters_of(texts: list[str], encoding: str | None, errors: str, column: str | None) -> str:
    """The distinct characters of texts that `load` would read, in ascending order, in constant memory."""
    reader = Reader(texts, encoding, errors, column)
    if len(reader.sources) == 1 and token_file.is_token_file(Path(reader.sources[0])):
        return token_file.open_tokens(Path(reader.sources[0])).vocabulary
    return "".join(sorted(set[str]().union(*map(set, reader))))


def _check_says_nothing(encoding: str | None, errors: str, column: str | None) -> None:
    if encoding is not None:
        check_encoding(encoding)
    given = {
        "encoding": encoding,
        "encoding-errors": None if errors == "strict" else errors,
        "column": column,
    }
    for option, value in given.items():
        if value is not None:
            raise UsageError(f"--{option} says how to read a TEXT, and none was given")


def _collected(blocks: Iterable[str], sources: tuple[str, ...], notes: tuple[str, ...] = ()) -> Corpus:
    """The corpus of a text that comes in pieces of any size, none empty."""
    numbering, pieces = Numbering(), list[Tokens]()
    for block in blocks:
        pieces += [numbering.add(block[start : start + BLOCK]) for start in range(0, len(block), BLOCK)]
    places = numbering.places()
    tokens = np.empty(sum(map(len, pieces)), places.dtype)
    end = len(tokens)
    while pieces:  # from the end, so that each is freed when it is done
        piece = pieces.pop()
        tokens[end - len(piece) : end] = places[piece]
        end -= len(piece)
    return Corpus(tokens, numbering.vocabulary, sources, numbering.sha256, notes)


def _spilled(blocks: Iterable[str], sources: tuple[str, ...]) -> Corpus:
    """The same in constant memory, on a disk: in a file that is gone with the process."""
    with tempfile.TemporaryFile() as file:
        token_file.pack(file, blocks, describe_sources(sources))
        found = token_file.map_tokens(file, describe_sources(sources))
    return Corpus(found.tokens, found.vocabulary, sources, found.sha256)


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


def _some(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED:,} more"
