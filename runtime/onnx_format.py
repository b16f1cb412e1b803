"""Just enough of the ONNX file format to take a step graph apart and wrap it into a loop.

An ONNX file is a protocol-buffer message. A deployment machine needs neither the `onnx` package nor
the generated classes for that: a message is a run of (field number, wire type, value), and
what is not understood here is passed on byte by byte. Field numbers are those of onnx.proto3;
the wire format is protobuf's (varint = 0, 64-bit = 1, length-delimited = 2, 32-bit = 5).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from .onnx_elements import E4M3, varints

Bytes = bytes | memoryview
Fields = Callable[[Bytes], Iterator[tuple[int, "int | memoryview"]]]

# TensorProto.DataType
FLOAT, INT8, INT64, BOOL, FLOAT16, BFLOAT16, FLOAT8, INT4 = 1, 3, 7, 9, 10, 16, 17, 22
UINT8, INT32, DOUBLE = 2, 6, 11  # DOUBLE only in files that a tool wrote
_NUMPY = {
    FLOAT: np.float32,
    UINT8: np.uint8,
    INT8: np.int8,
    INT32: np.int32,
    DOUBLE: np.float64,
    INT64: np.int64,
    BOOL: np.bool_,
    FLOAT16: np.float16,
}
_CODES = {np.dtype(kind): code for code, kind in _NUMPY.items()}

TYPE_NAMES = {
    FLOAT: "float32",
    UINT8: "uint8",
    INT8: "int8",
    INT32: "int32",
    DOUBLE: "float64",
    INT64: "int64",
    BOOL: "bool",
    FLOAT16: "float16",
    BFLOAT16: "bfloat16",
    FLOAT8: "float8",
    INT4: "int4",
}

# What numpy has no type for: the bits of an element.
_BITS = {INT4: 4, FLOAT8: 8, BFLOAT16: 16}

# Where a TensorProto may have its elements in place of raw bytes: as floats, or as varints. Tools write so.
_TYPED = (4, 5, 7, 10, 11)

# AttributeProto.AttributeType
_INT_ATTRIBUTE, _GRAPH_ATTRIBUTE = 2, 5

# What one file may have, so that two bytes of it cannot ask for a hundred of memory, or for minutes. A step
# of 99 layers has some twenty thousand fields.
MOST_FIELDS = 1 << 17
MOST_DIMENSIONS = 8
MOST_ELEMENTS = 1 << 48  # no dimension of an empty tensor is absurd either
MOST_NAME = 1 << 12  # bytes
MOST_METADATA = 1 << 24


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
        key, at = _varint(view, at)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise Damaged("field number 0")
        if wire == 0:
            value, at = _varint(view, at)
            yield number, value
            continue
        if wire == 2:
            size, at = _varint(view, at)
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


def _varint(view: memoryview, at: int) -> tuple[int, int]:
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


def _text(value: int | memoryview, most: int = MOST_NAME) -> str:
    if isinstance(value, int):
        raise Damaged("a number where a text belongs")
    if len(value) > most:
        raise Damaged(f"a text of {len(value):,} bytes")
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise Damaged("a name is not UTF-8") from error


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise Damaged("a number where a message belongs")
    return value


def _integer(value: int | memoryview) -> int:
    """A signed integer of 64 bits."""
    if not isinstance(value, int):
        raise Damaged("a message where a number belongs")
    return value - 2**64 if value >= 2**63 else value


def _raw(kind: int, typed: dict[int, list[int | memoryview]]) -> bytes:
    """A tensor's elements as raw bytes, from its fields for single types."""
    ((number, parts),) = typed.items() if len(typed) == 1 else (((0, []),))
    if number in (4, 10):  # little-endian floats, packed or one by one
        return b"".join(_message(part) for part in parts)
    width = {FLOAT16: "<u2", BFLOAT16: "<u2", INT32: "<i4", INT64: "<i8"}.get(kind, "u1")
    try:
        numbers = [varints(p) if isinstance(p, memoryview) else np.array([p], np.uint64) for p in parts]
    except ValueError as error:
        raise Damaged(str(error)) from error
    return np.concatenate([np.zeros(0, np.uint64), *numbers]).astype(width).tobytes()


@dataclass(frozen=True)
class Tensor:
    """A constant of the graph (TensorProto with raw data).

    Attributes:
        name: its name in the graph.
        type: TensorProto.DataType.
        shape: its dimensions.
        raw: little-endian elements in row-major order; int4 packed two to a byte, low half first.
    """

    name: str
    type: int
    shape: tuple[int, ...]
    raw: Bytes

    @classmethod
    def parse(cls, data: Bytes, fields: Fields = fields) -> Tensor:
        """Read a TensorProto."""
        name, kind, shape, raw = "", 0, [], memoryview(b"")
        typed: dict[int, list[int | memoryview]] = {}
        for number, value in fields(data):
            if number == 1:
                if isinstance(value, int):
                    shape.append(_integer(value))
                else:
                    at = 0
                    while at < len(value) and len(shape) <= MOST_DIMENSIONS:
                        size, at = _varint(value, at)
                        shape.append(_integer(size))
            elif number == 2:
                kind = _integer(value)
            elif number == 8:
                name = _text(value)
            elif number == 9:
                raw = _message(value)
            elif number in _TYPED:
                typed.setdefault(number, []).append(value)
            elif number == 13 or (number == 14 and value):
                raise Damaged(f"the weights {name!r} lie in another file")
        if typed and not raw:
            raw = memoryview(_raw(kind, typed))
        tensor = cls(name, kind, tuple(shape), raw)
        bits = 8 * np.dtype(_NUMPY[kind]).itemsize if kind in _NUMPY else _BITS.get(kind, 0)
        if bits == 0:
            raise Damaged(f"the weights {name!r} are of element type {kind}, which p2 does not read")
        if len(shape) > MOST_DIMENSIONS or min(shape, default=1) < 0:
            raise Damaged(f"the weights {name!r} have too many dimensions, or a negative one")
        if math.prod(max(size, 1) for size in shape) > MOST_ELEMENTS or len(raw) != -(
            -math.prod(shape) * bits // 8
        ):
            raise Damaged(f"the weights {name!r} do not have the size that their shape says")
        return tensor

    @classmethod
    def of(cls, name: str, array: npt.NDArray[np.generic]) -> Tensor:
        """A tensor holding `array`."""
        contiguous = np.ascontiguousarray(array)
        return cls(name, _CODES[contiguous.dtype], array.shape, contiguous.reshape(-1).view(np.uint8).data)

    def array(self) -> npt.NDArray[np.generic]:
        """The elements; int4 comes out as int8, bfloat16 and float8 (E4M3) as float32."""
        if self.type == BFLOAT16:  # the upper half of a float32
            upper = np.frombuffer(self.raw, dtype="<u2").astype(np.uint32)
            return (upper << 16).view(np.float32).reshape(self.shape)
        if self.type == FLOAT8:
            return E4M3[np.frombuffer(self.raw, dtype=np.uint8)].reshape(self.shape)
        if self.type != INT4:
            return np.frombuffer(self.raw, dtype=_NUMPY[self.type]).reshape(self.shape)
        packed = np.frombuffer(self.raw, dtype=np.uint8)
        nibbles = np.empty(2 * len(packed), dtype=np.uint8)
        nibbles[0::2], nibbles[1::2] = packed & 0x0F, packed >> 4
        signed = ((nibbles ^ 8).astype(np.int8) - np.int8(8))[: math.prod(self.shape)]
        return signed.reshape(self.shape)

    def encoded(self, outside: bool = False) -> bytes:
        """The TensorProto's bytes; `outside` leaves the elements out: they are handed over apart."""
        dims = b"".join(encode(1, size) for size in self.shape)
        head = dims + encode(2, self.type) + encode(8, self.name)
        if not outside:
            return head + encode(9, self.raw)
        return head + encode(13, encode(1, "location") + encode(2, "memory")) + encode(14, 1)


@dataclass(frozen=True)
class Value:
    """An input or output of a graph.

    Attributes:
        name: its name.
        type: TensorProto.DataType of its elements.
        shape: dimensions, a name where one is left open.
    """

    name: str
    type: int
    shape: tuple[int | str, ...]

    @classmethod
    def parse(cls, data: Bytes, fields: Fields = fields) -> Value:
        """Read a ValueInfoProto of tensor type."""
        name, kind, shape = "", 0, []
        for number, value in fields(data):
            if number == 1:
                name = _text(value)
            if number != 2:
                continue
            for _, tensor_type in fields(_message(value)):
                for part, content in fields(_message(tensor_type)):
                    if part == 1:
                        kind = _integer(content)
                    elif part == 2:
                        shape = [_dimension(_message(dim), fields) for _, dim in fields(_message(content))]
        return cls(name, kind, tuple(shape))

    def encoded(self) -> bytes:
        """The ValueInfoProto's bytes."""
        dims = b"".join(encode(1, encode(1 if isinstance(size, int) else 2, size)) for size in self.shape)
        return encode(1, self.name) + encode(2, encode(1, encode(1, self.type) + encode(2, dims)))


def _dimension(data: memoryview, fields: Fields) -> int | str:
    for number, value in fields(data):
        if number == 1:
            return _integer(value)
        if number == 2:
            return _text(value)
    return ""


Attribute = int | bytes  # bytes: an encoded GraphProto


@dataclass
class Node:
    """One operator call. Attributes are kept as encoded AttributeProtos by name."""

    op: str
    inputs: list[str]
    outputs: list[str]
    domain: str = ""
    attributes: dict[str, bytes] = field(default_factory=dict)

    @classmethod
    def parse(cls, data: Bytes, fields: Fields = fields) -> Node:
        """Read a NodeProto."""
        node = cls("", [], [])
        for number, value in fields(data):
            if number == 1:
                node.inputs.append(_text(value))
            elif number == 2:
                node.outputs.append(_text(value))
            elif number == 4:
                node.op = _text(value)
            elif number == 5:
                attribute = _message(value)
                parts = dict(fields(attribute))
                _integer(parts.get(3, 0))
                node.attributes[_text(parts.get(1, memoryview(b"")))] = bytes(attribute)
            elif number == 7:
                node.domain = _text(value)
        return node

    @classmethod
    def make(
        cls, op: str, inputs: Iterable[str], outputs: Iterable[str], domain: str = "", **attributes: Attribute
    ) -> Node:
        """A node with attributes given as Python values; `bytes` is an encoded graph."""
        encoded = {name: _attribute(name, value) for name, value in attributes.items()}
        return cls(op, list(inputs), list(outputs), domain, encoded)

    def integer(self, name: str, default: int) -> int:
        """An integer attribute."""
        for number, value in fields(self.attributes.get(name, b"")):
            if number == 3:
                return _integer(value)
        return default

    def encoded(self) -> bytes:
        """The NodeProto's bytes."""
        parts = [encode(1, name) for name in self.inputs]
        parts += [encode(2, name) for name in self.outputs]
        parts += [encode(4, self.op), *(encode(5, data) for data in self.attributes.values())]
        if self.domain:
            parts.append(encode(7, self.domain))
        return b"".join(parts)


def _attribute(name: str, value: Attribute) -> bytes:
    head = encode(1, name)
    if isinstance(value, bytes):
        return head + encode(6, value) + encode(20, _GRAPH_ATTRIBUTE)
    return head + encode(3, value) + encode(20, _INT_ATTRIBUTE)


@dataclass
class Graph:
    """A graph taken apart."""

    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    nodes_sha256: str = ""  # of the encoded nodes, for a graph that was read

    @classmethod
    def parse(cls, data: Bytes, fields: Fields = fields) -> Graph:
        """Read a GraphProto."""
        graph, digest = cls(), hashlib.sha256()
        for number, value in fields(data):
            if number == 1:
                graph.nodes.append(Node.parse(_message(value), fields))
                digest.update(_message(value))
            elif number == 5:
                tensor = Tensor.parse(_message(value), fields)
                graph.tensors[tensor.name] = tensor
            elif number == 11:
                graph.inputs.append(Value.parse(_message(value), fields))
            elif number == 12:
                graph.outputs.append(Value.parse(_message(value), fields))
        graph.nodes_sha256 = digest.hexdigest()
        return graph

    def encoded(self, name: str, outside: frozenset[str] = frozenset()) -> bytes:
        """The GraphProto's bytes, without the elements of the tensors named in `outside`."""
        parts = [encode(1, node.encoded()) for node in self.nodes]
        parts.append(encode(2, name))
        parts += [encode(5, tensor.encoded(key in outside)) for key, tensor in self.tensors.items()]
        parts += [encode(11, value.encoded()) for value in self.inputs]
        parts += [encode(12, value.encoded()) for value in self.outputs]
        return b"".join(parts)


@dataclass
class Model:
    """An ONNX file taken apart."""

    graph: Graph
    opset: int
    metadata: dict[str, str]
    graph_bytes: memoryview

    @classmethod
    def parse(cls, data: Bytes) -> Model:
        """Read a ModelProto.

        Raises:
            Damaged: the bytes are no ONNX model.
        """
        graph, opset, metadata, encoded = None, 0, {}, memoryview(b"")
        fields, left = limited(), MOST_METADATA
        for number, value in fields(data):
            if number == 7:
                encoded = _message(value)
                graph = Graph.parse(encoded, fields)
            elif number == 8:
                entry = dict(fields(_message(value)))
                if not len(_message(entry.get(1, memoryview(b"")))):
                    opset = _integer(entry.get(2, 0))
            elif number == 14:
                entry = dict(fields(_message(value)))
                content = _message(entry.get(2, memoryview(b"")))
                left -= len(content)
                metadata[_text(entry.get(1, memoryview(b"")))] = _text(content, left)
        if graph is None or not graph.nodes:
            raise Damaged("there is no graph in it")
        return cls(graph, opset, metadata, encoded)


def encode_model(
    graph: Graph, opset: int, ir_version: int = 10, outside: frozenset[str] = frozenset()
) -> bytes:
    """A ModelProto's bytes; com.microsoft operators (ONNX Runtime's own) are allowed in it.

    Args:
        graph: what it holds.
        opset: ONNX operator set version.
        ir_version: version of the format.
        outside: tensors whose elements are left out, to be handed over apart.
    """
    return b"".join(
        (
            encode(1, ir_version),
            encode(2, "p2"),
            encode(7, graph.encoded("p2", outside)),
            encode(8, encode(2, opset)),
            encode(8, encode(1, "com.microsoft") + encode(2, 1)),
        )
    )
