"""Token files: a text as the integers that a training draws from, mapped into memory and never read whole.

    64 bytes    "P2TOKENS"; tokens, uint64; bytes of each, uint32; bytes of the description, uint32; 8 zeros;
                SHA-256 of the description
    tokens      unsigned, as short as the vocabulary allows (1, 2 or 4 bytes), little-endian
    description JSON: the vocabulary, SHA-256 of the text in UTF-8, where it came from

All of that is checked when the file is opened, but for the tokens: whether each is in the vocabulary is
checked when it is drawn.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypedDict

import numpy as np
import numpy.typing as npt

from ..contract.codec import Codec, vocabulary_of
from ..contract.documents import MOST_BYTES, check, parse
from ..contract.errors import ContractError, P2Error
from ..contract.files import reading
from ..contract.schema import Within, shown
from ..version import __version__
from .numbering import Numbering, Tokens, smallest
from .unfolding import BLOCK, TOKENS, Raw

FORMAT = "p2 tokens 1"

_HEADER = struct.Struct("<8sQII8x32s")
_CHUNK = BLOCK  # tokens that are rewritten at once


class _Description(TypedDict):
    format: str
    vocabulary: str
    sha256: str
    characters: Annotated[int, Within(1)]
    text: str
    producer: str


class Stored:
    """Tokens in a file, read as they are needed. It has of an array what batches are drawn with.

    Args:
        tokens: mapped, ``[characters]``.
        vocabulary: of the file: how many characters it has.
        name: of the file, for people.
        places: what each token becomes, integers ``[vocabulary]``; None leaves them as they are.
    """

    def __init__(self, tokens: Tokens, vocabulary: int, name: str, places: Tokens | None = None) -> None:
        self._tokens = tokens
        self._vocabulary = vocabulary
        self._name = name
        self._places = places

    def __len__(self) -> int:
        """Characters."""
        return len(self._tokens)

    def __getitem__(self, part: slice) -> Stored:
        """A part of the same; nothing is read."""
        return Stored(self._tokens[part], self._vocabulary, self._name, self._places)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """All of them, read into memory."""
        return self._checked(self._tokens).astype(dtype or self.dtype)

    @property
    def width(self) -> int:
        """Bytes of each in the file."""
        return self._tokens.itemsize

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what `take` gives."""
        return (self._tokens if self._places is None else self._places).dtype

    def take(self, positions: npt.NDArray[np.integer[Any]]) -> npt.NDArray[Any]:
        """The tokens at these positions, in an array of the same shape.

        Raises:
            ContractError: one is not in the vocabulary: the file is damaged.
        """
        return self._checked(self._tokens.take(positions))

    def mapped(self, places: Tokens) -> Stored:
        """The same with other tokens: ``places[token]`` instead of each."""
        return Stored(self._tokens, self._vocabulary, self._name, places)

    def _checked(self, tokens: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if tokens.size and int(tokens.max()) >= self._vocabulary:
            raise ContractError(f"{self._name} is damaged: it holds tokens that are not in its vocabulary")
        return tokens if self._places is None else self._places[tokens]


@dataclass(frozen=True)
class TokenFile:
    """What a token file holds.

    Attributes:
        tokens: places in `vocabulary`, ``[characters]``.
        vocabulary: its characters, in ascending order.
        sha256: SHA-256 of the text in UTF-8.
        text: where that came from, in a few words.
    """

    tokens: Stored
    vocabulary: str
    sha256: str
    text: str

    def blocks(self) -> Iterator[str]:
        """The text, a block at a time."""
        codec = Codec(self.vocabulary)
        for start in range(0, len(self.tokens), BLOCK):
            yield codec.decode(np.asarray(self.tokens[start : start + BLOCK]))


def is_token_file(path: Path) -> bool:
    """Whether a file begins as one."""
    if not path.is_file():  # a pipe would be waited for
        return False
    with reading(path), path.open("rb") as file:
        return file.read(len(TOKENS)) == TOKENS


def open_tokens(path: Path) -> TokenFile:
    """A token file; its tokens stay on the disk.

    Raises:
        ContractError: it is damaged or no token file: the sentence says where.
        P2Error: it cannot be read.
    """
    with reading(path), path.open("rb") as file:
        return map_tokens(file, str(path))


def map_tokens(file: BinaryIO, name: str) -> TokenFile:
    """The same of an open file, which may be closed and removed then; `name` is for people."""
    size = file.seek(0, 2)
    file.seek(0)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(TOKENS):
        raise ContractError(f"{name} is no token file (p2 tokenize writes them)")
    _, characters, width, described, seal = _HEADER.unpack(header)
    if width not in (1, 2, 4) or described > MOST_BYTES:
        raise ContractError(f"{name} is damaged: its header makes no sense")
    expected = _HEADER.size + characters * width + described
    if size != expected:
        raise ContractError(f"{name} is damaged: it has {size:,} bytes, and its header asks for {expected:,}")
    file.seek(size - described)
    data = file.read(described)
    if hashlib.sha256(data).digest() != seal:
        raise ContractError(f"{name} is damaged: its description does not have the checksum in its header")
    found = check(parse(data, name), _Description, name)
    vocabulary = found["vocabulary"]
    if found["format"] != FORMAT:
        raise ContractError(f"{name} has the format {shown(found['format'])}, this p2 reads {FORMAT!r}")
    halves = not vocabulary.isascii() and any("\ud800" <= one <= "\udfff" for one in vocabulary)
    ordered = bool(vocabulary) and vocabulary == vocabulary_of(vocabulary)
    if halves or not ordered or found["characters"] != characters:
        raise ContractError(f"{name} is damaged: its description contradicts itself or the header")
    if smallest(len(vocabulary)).itemsize != width:
        raise ContractError(
            f"{name} is damaged: {len(vocabulary):,} characters do not take {width} bytes each"
        )
    mapped = np.memmap(file, f"<u{width}", "r", _HEADER.size, (characters,))
    tokens = Stored(np.asarray(mapped), len(vocabulary), name)
    return TokenFile(tokens, vocabulary, found["sha256"], found["text"])


def text(raw: Raw) -> Iterator[str]:
    """The text of an open token file, a block at a time."""
    if not raw.seekable:
        raise P2Error(f"{raw.name} holds a token file, which is not read from front to back: name the file")
    found = open_tokens(Path(raw.source))
    for start, block in enumerate(found.blocks()):
        yield block
        raw.read_bytes = min(raw.size or 0, start * BLOCK * found.tokens.width)


def pack(file: BinaryIO, blocks: Iterable[str], text: str) -> None:
    """Write a token file in one pass over its text, in constant memory.

    The tokens are first written as numbers in the order in which the characters come, in as few bytes as will
    do by then, and rewritten in place when all characters are known.

    Args:
        file: new, open for writing and reading.
        blocks: the text, none empty.
        text: where that came from, in a few words.

    Raises:
        P2Error: there is no text.
    """
    numbering = Numbering()
    runs: list[list[int]] = []  # bytes of each, and how many follow one another
    file.seek(_HEADER.size)
    for block in blocks:
        tokens = numbering.add(block)
        if not runs or runs[-1][0] != tokens.itemsize:
            runs.append([tokens.itemsize, 0])
        runs[-1][1] += len(tokens)
        file.write(tokens.astype(f"<u{tokens.itemsize}").data)
    vocabulary, places = numbering.vocabulary, numbering.places()
    if not vocabulary.strip():
        raise P2Error(f"there is no text in {text}: it is empty or blank")
    _rewrite(file, runs, places.astype(f"<u{places.itemsize}"))
    characters = sum(count for _, count in runs)
    description: _Description = {
        "format": FORMAT,
        "vocabulary": vocabulary,
        "sha256": numbering.sha256,
        "characters": characters,
        "text": text,
        "producer": f"p2 {__version__}",
    }
    data = json.dumps(description).encode()
    file.seek(_HEADER.size + characters * places.itemsize)
    file.write(data)
    file.seek(0)
    seal = hashlib.sha256(data).digest()
    file.write(_HEADER.pack(TOKENS, characters, places.itemsize, len(data), seal))


def _rewrite(file: BinaryIO, runs: list[list[int]], places: Tokens) -> None:
    """Numbers become places, from the end to the front: nothing is written over before it is read."""
    width = places.itemsize
    source = _HEADER.size + sum(size * count for size, count in runs)
    target = _HEADER.size + width * sum(count for _, count in runs)
    for size, count in reversed(runs):
        for start in reversed(range(0, count, _CHUNK)):
            length = min(_CHUNK, count - start)
            source -= size * length
            target -= width * length
            file.seek(source)
            numbers = np.frombuffer(file.read(size * length), f"<u{size}")
            file.seek(target)
            file.write(places[numbers].data)
