"""Just enough of the ONNX file format to take a step graph apart and wrap it into a loop.

An ONNX file is a protocol-buffer message. A deployment machine needs neither the `onnx` package nor
the generated classes for that: what is not understood here is passed on byte by byte (`protobuf`). Field
numbers are those of onnx.proto3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..contract.schema import shown
from .onnx_tensors import Tensor
from .protobuf import Bytes, Damaged, Fields, encode, fields, integer, limited, message, text

# AttributeProto.AttributeType
_INT_ATTRIBUTE, _GRAPH_ATTRIBUTE = 2, 5

MOST_METADATA = 1 << 24  # bytes of one file's


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
                name = text(value)
            if number != 2:
                continue
            for _, tensor_type in fields(message(value)):
                for part, content in fields(message(tensor_type)):
                    if part == 1:
                        kind = integer(content)
                    elif part == 2:
                        shape = [_dimension(message(dim), fields) for _, dim in fields(message(content))]
        return cls(name, kind, tuple(shape))

    def encoded(self) -> bytes:
        """The ValueInfoProto's bytes."""
        dims = b"".join(encode(1, encode(1 if isinstance(size, int) else 2, size)) for size in self.shape)
        return encode(1, self.name) + encode(2, encode(1, encode(1, self.type) + encode(2, dims)))


def _dimension(data: memoryview, fields: Fields) -> int | str:
    for number, value in fields(data):
        if number == 1:
            return integer(value)
        if number == 2:
            return text(value)
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
                node.inputs.append(text(value))
            elif number == 2:
                node.outputs.append(text(value))
            elif number == 4:
                node.op = text(value)
            elif number == 5:
                attribute = message(value)
                parts = dict(fields(attribute))
                integer(parts.get(3, 0))
                node.attributes[text(parts.get(1, memoryview(b"")))] = bytes(attribute)
            elif number == 7:
                node.domain = text(value)
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
                return integer(value)
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
                graph.nodes.append(Node.parse(message(value), fields))
                digest.update(message(value))
            elif number == 5:
                tensor = Tensor.parse(message(value), fields)
                graph.tensors[tensor.name] = tensor
            elif number == 11:
                graph.inputs.append(Value.parse(message(value), fields))
            elif number == 12:
                graph.outputs.append(Value.parse(message(value), fields))
        graph.nodes_sha256 = digest.hexdigest()
        return graph

    def unsafe(self) -> str | None:
        """What ONNX's own library ends the process about, in ONNX Runtime too: in words, or None."""
        for node in self.nodes:
            if node.op == "Split" and node.integer("num_outputs", len(node.outputs)) != len(node.outputs):
                return f"a Split says that it has another number of outputs than its {len(node.outputs)}"
        empty = (name for name, tensor in self.tensors.items() if 0 in tensor.shape)
        return next((f"the constant {shown(name)} has no numbers" for name in empty), None)

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
                encoded = message(value)
                graph = Graph.parse(encoded, fields)
            elif number == 8:
                entry = dict(fields(message(value)))
                if not len(message(entry.get(1, memoryview(b"")))):
                    opset = integer(entry.get(2, 0))
            elif number == 14:
                entry = dict(fields(message(value)))
                content = message(entry.get(2, memoryview(b"")))
                left -= len(content)
                metadata[text(entry.get(1, memoryview(b"")))] = text(content, left)
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
