"""Tensors of an ONNX file (TensorProto), and their types of elements, as numpy has them or not."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..contract.schema import shown
from .protobuf import Bytes, Damaged, Fields, encode, fields, integer, message, text, varint, varints

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

MOST_DIMENSIONS = 8
MOST_ELEMENTS = 1 << 48  # no dimension of an empty tensor is absurd either


def _e4m3() -> npt.NDArray[np.float32]:
    """The values of the 256 float8 numbers with 4 bits of exponent, 3 of mantissa and no infinities."""
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, (codes & 7) / 8
    size = np.where(exponent == 0, mantissa * 2.0**-6, (1 + mantissa) * 2.0 ** (exponent - 7))
    size[codes & 127 == 127] = np.nan
    return np.where(codes < 128, size, -size).astype(np.float32)


E4M3 = _e4m3()


def _raw(kind: int, typed: dict[int, list[int | memoryview]]) -> bytes:
    """A tensor's elements as raw bytes, from its fields for single types."""
    ((number, parts),) = typed.items() if len(typed) == 1 else (((0, []),))
    if number in (4, 10):  # little-endian floats, packed or one by one
        return b"".join(message(part) for part in parts)
    width = {FLOAT16: "<u2", BFLOAT16: "<u2", INT32: "<i4", INT64: "<i8"}.get(kind, "u1")
    numbers = [varints(p) if isinstance(p, memoryview) else np.array([p], np.uint64) for p in parts]
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
                    shape.append(integer(value))
                else:
                    at = 0
                    while at < len(value) and len(shape) <= MOST_DIMENSIONS:
                        size, at = varint(value, at)
                        shape.append(integer(size))
            elif number == 2:
                kind = integer(value)
            elif number == 8:
                name = text(value)
            elif number == 9:
                raw = message(value)
            elif number in _TYPED:
                typed.setdefault(number, []).append(value)
            elif number == 13 or (number == 14 and value):
                raise Damaged(f"the weights {shown(name)} lie in another file")
        if typed and not raw:
            raw = memoryview(_raw(kind, typed))
        tensor = cls(name, kind, tuple(shape), raw)
        bits = 8 * np.dtype(_NUMPY[kind]).itemsize if kind in _NUMPY else _BITS.get(kind, 0)
        if bits == 0:
            raise Damaged(f"the weights {shown(name)} are of element type {kind}, which p2 does not read")
        if len(shape) > MOST_DIMENSIONS or min(shape, default=1) < 0:
            raise Damaged(f"the weights {shown(name)} have too many dimensions, or a negative one")
        if math.prod(max(size, 1) for size in shape) > MOST_ELEMENTS or len(raw) != -(
            -math.prod(shape) * bits // 8
        ):
            raise Damaged(f"the weights {shown(name)} do not have the size that their shape says")
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
