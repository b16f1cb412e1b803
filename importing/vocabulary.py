"""The characters of a model trained elsewhere, in the order of its numbers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..contract.codec import describe, vocabulary_of
from ..contract.documents import parse
from ..contract.errors import P2Error
from ..contract.files import reading
from ..contract.schema import shown

_MOST_TEXT = 1 << 30  # bytes


def read_vocabulary(path: Path, size: int) -> list[str]:
    """The characters that a file lists, in the model's order.

    Args:
        path: JSON, if it begins with a bracket and is called .json: a list of the characters, or an object
            from characters to numbers or back; else a text of the characters, one after the other.
        size: how many the model tells apart. A line break at the end of a text, and a byte-order mark, count
            only if they are needed.

    Raises:
        P2Error: it cannot be read, is of another size, holds a character twice, or what is not one character.
    """
    data = _read(path)
    if path.suffix.lower() == ".json":
        listed = _from_json(parse(data, str(path)), path)
    else:
        text = _decode(data, path)
        ends = [text, text.removesuffix("\n"), text.removesuffix("\r\n")]
        options = [*(end.removeprefix("\ufeff") for end in ends), *ends]
        listed = list(next((one for one in options if len(one) == size), options[1]))
    return _checked(listed, size, path)


def vocabulary_of_text(path: Path, size: int) -> list[str]:
    """The distinct characters of a training text, sorted, as is usual; line ends as the model has them.

    Raises:
        P2Error: it cannot be read, or holds another number of characters.
    """
    text = _decode(_read(path), path)
    plain = re.sub("\r\n?", "\n", text)
    options = [plain, text, plain.removeprefix("\ufeff"), text.removeprefix("\ufeff")]
    found = [vocabulary_of(one) for one in options]
    return _checked(list(next((one for one in found if len(one) == size), found[0])), size, path)


def _read(path: Path) -> bytes:
    with reading(path), path.open("rb") as file:
        data = file.read(_MOST_TEXT + 1)
    if len(data) > _MOST_TEXT:
        raise P2Error(f"{path} has more than {_MOST_TEXT >> 20} MiB")
    return data


def _decode(data: bytes, path: Path) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise P2Error(f"{path} is not UTF-8: the byte at offset {error.start:,} cannot be read") from error


def _from_json(value: object, path: Path) -> list[str]:
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise P2Error(f"{path} is no vocabulary: give a list of characters, or an object of them and numbers")
    if all(type(number) is int for number in value.values()):
        pairs = [(number, character) for character, number in value.items()]
    elif all(re.fullmatch(r"\d{1,9}", number) for number in value):
        pairs = [(int(number), character) for number, character in value.items()]
    else:
        raise P2Error(
            f"{path} is no vocabulary: its object leads neither from characters to numbers nor back"
        )
    pairs.sort(key=lambda pair: pair[0])
    for expected, (number, _) in enumerate(pairs):
        if number != expected:
            raise P2Error(
                f"{path} is no vocabulary: its numbers are not 0 to {len(pairs) - 1}, each once: {expected}"
                f" is missing, {number} is there"
            )
    return [character for _, character in pairs]


def _checked(listed: Sequence[object], size: int, path: Path) -> list[str]:
    seen: dict[str, int] = {}
    for number, one in enumerate(listed):
        if not isinstance(one, str) or len(one) != 1:
            raise P2Error(
                f"{path}: entry {number} is {shown(one)}, not one character, and p2's models write characters"
            )
        if one in seen:
            raise P2Error(f"{path} holds {describe(one)} twice, as number {seen[one]} and {number}")
        seen[one] = number
    if len(seen) != size:
        raise P2Error(f"{path} has {len(seen)} characters, and the model tells {size} apart")
    return list(seen)
