"""Protocol buffers, as far as ONNX needs them: a message is a run of (field number, wire type, value).

The wire types are varint = 0, 64-bit = 1, length-delimited = 2, 32-bit = 5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Bytes = bytes | memoryview
Fields = Callable[[Bytes], Iterator[tuple[int, "int | memoryview"]]]

# What one file may have, so that two bytes of it cannot ask for a hundred of memory, or for minutes. A step
# of 99 layers has some twenty thousand fields.
MOST_FIELDS = 1 << 17
MOST_NAME = 1 << 12  # bytes


class Damaged(ValueError):
    """The bytes are not the message they should be."""


def fields(data: Bytes) -> Iterator[tuple[int, int | memoryview]]:
    """The (field number, value) pairs of one message.

    Values are integers (varint) or views of the bytes (every other wire type).

    Raises:
        Damaged: the bytes end inside a field, or are no message.
    """
    view = memoryview(data)
    end, at = len(view), 0
    while at < end:
        key, at = varint(view, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise Damaged("field number 0")
        if wire == 0:
            value, at = varint(view, at)
            yield number, value
            continue
        if wire == 2:
            size, at = varint(view, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise Damaged(f"wire type {wire}")
        if at + size > end:
            raise Damaged("it ends inside a field")
        yield number, view[at : at + size]
        at += size


def limited(most: int = MOST_FIELDS) -> Fields:
    """`fields` for the messages of one file, which together have at most so many.

    Raises:
        Damaged: (what is returned) there are more, or as `fields`.
    """
    left = most

    def read(data: Bytes) -> Iterator[tuple[int, int | memoryview]]:
        nonlocal left
        for one in fields(data):
            left -= 1
            if left < 0:
                raise Damaged(f"it has more than {most:,} parts")
            yield one

    return read


def varint(view: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where the next field does."""
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise Damaged("it ends inside a number")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), at
        shift += 7


def varints(data: memoryview) -> npt.NDArray[np.uint64]:
    """The numbers of a packed field, uint64.

    Raises:
        Damaged: the bytes end inside a number.
    """
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 0x80) + 1
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    if len(octets) != (ends[-1] if len(ends) else 0) or (ends - starts > 10).any():
        raise Damaged("it ends inside a number")
    shifts = 7 * (np.arange(len(octets)) - np.repeat(starts, ends - starts))
    shifted = (octets & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.add.reduceat(shifted, starts) if len(starts) else shifted


def encode(number: int, value: int | str | Bytes) -> bytes:
    """One field: an integer as a varint, everything else length-delimited."""
    if isinstance(value, int):
        return _to_varint(number << 3) + _to_varint(value & (2**64 - 1))
    data = value.encode() if isinstance(value, str) else value
    return b"".join((_to_varint(number << 3 | 2), _to_varint(len(data)), data))


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text(value: int | memoryview, most: int = MOST_NAME) -> str:
    """A text of at most so many bytes."""
    if isinstance(value, int):
        raise Damaged("a number where a text belongs")
    if len(value) > most:
        raise Damaged(f"a text of {len(value):,} bytes")
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise Damaged("a name is not UTF-8") from error


def message(value: int | memoryview) -> memoryview:
    """The bytes of a message inside another."""
    if isinstance(value, int):
        raise Damaged("a number where a message belongs")
    return value


def integer(value: int | memoryview) -> int:
    """A signed integer of 64 bits."""
    if not isinstance(value, int):
        raise Damaged("a message where a number belongs")
    return value - 2**64 if value >= 2**63 else value
