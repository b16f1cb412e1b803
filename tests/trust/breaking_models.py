"""Step files, other ONNX files and tensors, changed by who understands them: see `breaking`."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from typing import Any

from p2.contract.stamp import stamped
from p2.runtime.protobuf import Damaged, encode, fields

from ..test_documents import NASTY
from .breaking import NUMBERS, WORDS, any_bytes

# A message is a list of (field number, wire type, value); a value may itself be a message.


def _taken_apart(data: bytes | memoryview, depth: int = 0) -> list[list[Any]]:
    parts: list[list[Any]] = []
    for number, value in fields(data):
        if isinstance(value, int):
            parts.append([number, 0, value])
            continue
        inner: Any = bytes(value)
        if depth < 6 and 1 < len(inner) < 1 << 14:
            try:
                again = _taken_apart(inner, depth + 1)
                inner = again if _together(again) == inner else inner
            except Damaged:
                pass
        parts.append([number, 2, inner])
    return parts


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _together(parts: list[list[Any]]) -> bytes:
    made = []
    for part in parts:
        number, wire, value, *length = part
        key = _varint(number << 3 | wire)
        if wire == 0:
            made.append(key + _varint(value & 2**64 - 1))
        elif wire in (1, 5):
            made.append(
                key + (struct.pack("<Q", value) if wire == 1 else struct.pack("<I", value & 2**32 - 1))
            )
        else:
            body = _together(value) if isinstance(value, list) else value
            made.append(key + _varint(length[0] if length else len(body)) + body)
    return b"".join(made)


def _messages(parts: list[list[Any]]) -> list[list[list[Any]]]:
    found = [parts]
    for part in parts:
        if isinstance(part[2], list):
            found += _messages(part[2])
    return found


def protobuf(data: bytes, rnd: random.Random) -> bytes:
    """A message with fields dropped, doubled, moved, of another number, wire type or length."""
    try:
        parts = _taken_apart(data)
    except Damaged:
        return any_bytes(data, rnd)
    for _ in range(rnd.choice((1, 1, 2, 3))):
        messages = _messages(parts)
        where = rnd.choice(messages)
        if not where:
            continue
        at = rnd.randrange(len(where))
        part = where[at]
        how = rnd.randrange(9)
        if how == 0:
            del where[at]
        elif how == 1:
            where[at:at] = [part] * (rnd.choice((1, 1, 2, 300)) if len(_together([part])) < 100 else 1)
        elif how == 2:
            where.append(where.pop(at))
        elif how == 3:
            part[0] = rnd.choice((1, 2, 3, 5, 7, 8, 9, 13, 14, 20, 1000, 2**29 - 1))
        elif how == 4:
            where[at] = [part[0], 0, rnd.choice(NUMBERS)]
        elif how == 5:
            where[at] = [part[0], rnd.choice((1, 5)), rnd.choice(NUMBERS) & 2**64 - 1]
        elif how == 6:
            where[at] = [part[0], 2, rnd.choice((*WORDS, "x" * 70000)).encode()]
        elif how == 7 and part[1] == 2:
            where[at] = [part[0], 2, part[2], rnd.choice(NUMBERS)]
        else:
            inner: Any = rnd.choice(messages)
            body = _together(inner)[: 1 << 12]
            for _ in range(rnd.choice((1, 3, 100))):
                body = encode(part[0] or 1, body)
            where[at] = [part[0], 2, body]
    return _together(parts)


def signed(data: bytes) -> bytes:
    """A step file with the checksums that fit it, as far as its outermost fields can be told."""
    try:
        parts = [(number, value) for number, value in fields(data)]
        graph = next(value for number, value in parts if number == 7)
        metadata = {}
        for number, value in parts:
            if number == 14:
                entry = dict(fields(value))
                metadata[str(entry[1], "utf-8")] = str(entry.get(2, b""), "utf-8")
        found = [value for number, value in fields(graph) if number == 1 and not isinstance(value, int)]
        nodes = hashlib.sha256(b"".join(map(bytes, found)))
        if "p2.nodes_sha256" in metadata:
            metadata["p2.nodes_sha256"] = json.dumps(nodes.hexdigest())
        made = b"".join(encode(number, value) for number, value in parts if number != 14)
        entries = stamped(metadata, graph).items()
        return made + b"".join(encode(14, encode(1, name) + encode(2, text)) for name, text in entries)
    except (Damaged, StopIteration, UnicodeDecodeError, KeyError, TypeError):
        return data


def safetensors(data: bytes, rnd: random.Random) -> bytes:
    """Names, types, shapes and places of tensors changed, in a header whose length fits, or does not; or a
    number that is none, or is enormous.
    """
    if rnd.random() < 0.2:
        return _numbers(data, rnd)
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    how = rnd.randrange(8)
    names = [name for name in header if name != "__metadata__"]
    if how == 0:
        return any_bytes(data, rnd)
    for _ in range(rnd.choice((1, 1, 2))):
        name = rnd.choice(names)
        entry = header.get(name)
        if not isinstance(entry, dict) or len(entry) != 3 or "x" in str(entry) or "None" in str(entry):
            continue  # it has been changed
        if how == 1:
            entry["dtype"] = rnd.choice(("F64", "F16", "BF16", "I8", "BOOL", "F8_E4M3", "X", 3, None, "U64"))
        elif how == 2:
            size = rnd.choice((*NUMBERS, -1))
            entry["shape"] = rnd.choice(
                ([size], [size, size], [], [1] * 100, [0, size], "x", None, entry["shape"][::-1])
            )
        elif how == 3:
            start, end = (*entry["data_offsets"], 0, 0)[:2]
            ends = (start, end, 0, len(body), start + 1, end - 4, rnd.choice(NUMBERS))
            entry["data_offsets"] = rnd.choice(
                ([rnd.choice(ends), rnd.choice(ends)], [], None, [start, end, end])
            )
        elif how == 4:
            header[rnd.choice(WORDS)] = header.pop(name)
        elif how == 5:
            del header[name]
        elif how == 6:
            values = rnd.choice((None, [], {"a": 1}, {"a": "x" * 100}, "x"))
            header["__metadata__"] = values
        else:
            entry[rnd.choice(("dtype", "shape", "data_offsets", "more"))] = rnd.choice(NASTY)
    text = json.dumps(header).encode()
    if rnd.random() < 0.1:
        text = text.replace(b"{", b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, ' * 2, 1)
    said = rnd.choice(NUMBERS) if rnd.random() < 0.1 else len(text)
    return (
        struct.pack("<Q", said)
        + text
        + (body if rnd.random() < 0.9 else body[: rnd.randrange(len(body) + 1)])
    )


def _numbers(data: bytes, rnd: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    made = bytearray(data)
    at = 8 + length + 4 * rnd.randrange((len(data) - 8 - length) // 4)
    made[at : at + 4] = struct.pack(
        "<f", rnd.choice((float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-45))
    )
    return bytes(made)
