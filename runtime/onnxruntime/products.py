"""The matrix products of a step, in the form that ONNX Runtime's CPU kernels run fastest.

What an exported step says with MatMul (and DequantizeLinear) becomes, by the kind of its weights,

- float: Gemm, which adds its third operand for free; a product of several inputs is a chain of them,
  so nothing has to be concatenated. Shorter floats are widened once, at load: x86 has no such arithmetic in
  ONNX Runtime, and a Cast around every operator is 4 times slower;
- integers: what `contract.integers` defines, to the last bit. MatMulIntegerToFloat for each block of rows,
  without the bias that it could add: its sum of integers is exact, and it turns the sum into a float32 and
  multiplies that once, each correctly rounded, on every processor. MatMulNBits would round the states again,
  block by block, and add the blocks in an order of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract.integers import GRID, STEPS, cut, halves
from ..onnx_format import Node
from ..onnx_tensors import Tensor
from ..processor import saturates
from ..step_file import StepFile
from ..weights import FLOATS, INTEGERS, Weights

Array = npt.NDArray[np.generic]
Source = tuple[str, slice | None]  # a value, and the rows of the matrix that it meets (None: all)

COLUMN_BLOCK = 32  # MatMulNBits knows blocks only
INTEGER_ARITHMETIC = 4  # MatMulNBits' accuracy_level: activations in 8 bits


class Constants(Weights):
    """The constants of a step graph that p2 exported, handed out by name and by rows.

    Attributes:
        tensors: everything handed out so far, under the names the graph knows it by.
    """

    def __init__(self, step: StepFile) -> None:
        super().__init__(step)
        self.tensors: dict[str, Tensor] = {}

    def add(self, name: str, array: Array) -> str:
        """Put an array of our own among the constants."""
        if name not in self.tensors:
            self.tensors[name] = Tensor.of(name, array)
        return name

    def floats(self, name: str, rows: slice | None = None) -> str:
        """A float32 constant, or some rows of it."""
        key = _key(name, rows)
        if key not in self.tensors:
            array = self.array(name)
            self.tensors[key] = Tensor.of(key, array if rows is None else array[rows])
        return key

    def blocks(self, name: str, rows: slice | None = None) -> tuple[int, list[tuple[str, str]]]:
        """The blocks of some rows of a matrix of integers (`contract.integers.cut`).

        Returns:
            rows of each block, and by block the name of its weights ``[rows, outputs]`` and of what their
            sums are multiplied with, float32 ``[outputs]``.
        """
        height, _ = self.shape(name)
        rows = rows or slice(0, height)
        block, scales = cut(height, rows, np.asarray(self._stored[f"{name}_scale"].array(), np.float32))
        starts = range(rows.start, rows.stop, block)
        names = [(f"{name}_q_{start}_{block}", f"{name}_factor_{start}_{block}") for start in starts]
        if names[0][0] not in self.tensors:
            weights: Array = np.asarray(self._stored[f"{name}_q"].array(), np.int8)
            if saturates():  # products of unsigned bytes do not
                weights = weights.view(np.uint8) ^ np.uint8(128)
            factors = scales * GRID * halves(self._card, name)
            for (q, factor), start, row in zip(names, starts, factors, strict=True):
                self.tensors[q] = Tensor.of(q, weights[start : start + block])
                self.tensors[factor] = Tensor.of(factor, row)
        return block, names

    def shape(self, name: str) -> tuple[int, ...]:
        """Of a matrix, however it is stored: ``(inputs, outputs)``."""
        return (self._stored.get(name) or self._stored[f"{name}_q"]).shape


@dataclass
class Scope:
    """A graph body under construction.

    Attributes:
        weights: constants, shared by all bodies of a graph.
        nodes: the operators so far.
        rounded: values of which the 8-bit form, ``<value>_q8``, is at hand.
    """

    weights: Constants
    nodes: list[Node] = field(default_factory=list)
    rounded: set[str] = field(default_factory=set)
    _divided: set[tuple[str, int]] = field(default_factory=set)

    def make(
        self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any
    ) -> None:
        """Add one operator."""
        self.nodes.append(Node.make(op, inputs, outputs, domain, **attributes))

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        """A small constant of our own."""
        return self.weights.add(name, np.array(value, dtype))

    def split(self, value: str, sizes: list[int], outputs: list[str]) -> None:
        """Cut a value along its second axis."""
        name = self.constant("split_" + "_".join(map(str, sizes)), sizes, np.int64)
        self.make("Split", [value, name], outputs, axis=1)

    def round(self, value: str) -> str:
        """The 8-bit form of a state (`contract.integers.rounded`), plus 128: uint8."""
        name = f"{value}_q8"
        if value not in self.rounded:
            self.make("Mul", [value, self.constant("q8_steps", STEPS)], [f"{value}_steps"])
            one = self.constant("q8_one", 1)
            self.make("QuantizeLinear", [f"{value}_steps", one, self._zero()], [name])
            self.rounded.add(value)
        return name

    def product(
        self, out: str, matrix: str, sources: list[Source], bias: str | None = None, wide: bool = False
    ) -> None:
        """``out = sum of sources @ rows of matrix + bias``.

        Args:
            out: name of the result, float32 ``[..., outputs]``.
            matrix: name in the contract (`contract.card.step_shapes`).
            sources: values ``[..., inputs]`` with their rows, in the order of the rows.
            bias: a constant ``[outputs]``, or a value of the result's shape.
            wide: whether it is one value with three dimensions, as a whole text has.
        """
        if wide:
            self._wide_product(out, matrix, sources, bias)
        elif self.weights.kind == FLOATS:
            self._float_product(out, matrix, sources, bias)
        else:
            self.integer_product(out, matrix, sources, bias=bias)

    def _wide_product(self, out: str, matrix: str, sources: list[Source], bias: str | None) -> None:
        """Three dimensions folded into two for the product, and back."""
        (value, rows), *_ = sources
        rounded = self.weights.kind == INTEGERS
        actual = self.round(value) if rounded else value
        count, outputs = self.weights.shape(matrix)
        inputs = rows.stop - rows.start if rows else count
        flat = self.constant(f"flat_{inputs}", [-1, inputs], np.int64)
        width = self.constant(f"width_{outputs}", [outputs], np.int64)
        self.make("Reshape", [actual, flat], [f"{out}_flat" + ("_q8" if rounded else "")])
        if rounded:
            self.rounded.add(f"{out}_flat")
        self.product(f"{out}_2d", matrix, [(f"{out}_flat", rows)], bias)
        self.make("Shape", [actual], [f"{out}_leading"], start=0, end=-1)
        self.make("Concat", [f"{out}_leading", width], [f"{out}_shape"], axis=0)
        self.make("Reshape", [f"{out}_2d", f"{out}_shape"], [out])

    def _float_product(self, out: str, matrix: str, sources: list[Source], bias: str | None) -> None:
        total = bias
        # The state's part first: it does not wait for the layer below.
        for number, (value, rows) in enumerate(reversed(sources)):
            result = out if number == len(sources) - 1 else f"{out}_{number}"
            weights = self.weights.floats(matrix, rows)
            if total is None:
                self.make("MatMul", [value, weights], [result])
            else:
                self.make("Gemm", [value, weights, total], [result])
            total = result

    def integer_product(
        self,
        out: str,
        matrix: str,
        sources: list[Source],
        begun: str | None = None,
        bias: str | None = None,
    ) -> None:
        """``out = begun + sum of sources @ rows of matrix + bias``, from left to right, block after block.

        Args:
            out: name of the result, float32 ``[rows, outputs]``.
            matrix: name in the contract.
            sources: values ``[rows, inputs]`` with their rows, in the order of the rows.
            begun: a value of the result's shape.
            bias: a constant ``[outputs]``, or a value of the result's shape.
        """
        pieces: list[tuple[str, tuple[str, str]]] = []
        for value, rows in sources:
            block, blocks = self.weights.blocks(matrix, rows)
            pieces += zip(self._parts(value, block, len(blocks)), blocks, strict=True)
        terms = [begun] if begun else []
        for part, (q, factor) in pieces:
            name = f"{out}_from_{q}" if begun or bias or len(pieces) > 1 else out
            inputs = [part, q, self.constant("q8_one", 1), factor, self._zero()]
            if saturates():
                inputs.append(self._zero())
            self.make("MatMulIntegerToFloat", inputs, [name], "com.microsoft")
            terms.append(name)
        terms += [bias] if bias else []
        total = terms[0]
        for number, term in enumerate(terms[1:], 2):
            result = out if number == len(terms) else f"{out}_sum_{number}"
            self.make("Add", [total, term], [result])
            total = result

    def _parts(self, value: str, block: int, count: int) -> list[str]:
        """The 8-bit form of a value in pieces of `block` columns."""
        whole = self.round(value)
        if count == 1:
            return [whole]
        parts = [f"{whole}_{block}_{number}" for number in range(count)]
        if (whole, block) not in self._divided:
            self.split(whole, [block] * count, parts)
            self._divided.add((whole, block))
        return parts

    def _zero(self) -> str:
        return self.constant("q8_zero", 128, np.uint8)


def block_product(inputs: list[str], out: str, rows: int, columns: int, bits: int, block: int) -> Node:
    """MatMulNBits: `inputs` name x ``[..., rows]``, the packed weights, their scales, perhaps a bias."""
    return Node.make(
        "MatMulNBits",
        inputs,
        [out],
        domain="com.microsoft",
        K=rows,
        N=columns,
        bits=bits,
        block_size=block,
        accuracy_level=INTEGER_ARITHMETIC,
    )


def pack_blocks(q: npt.NDArray[np.int8], bits: int, block: int) -> npt.NDArray[np.uint8]:
    """Signed integers ``[inputs, outputs]`` in the layout of MatMulNBits.

    That is uint8 ``[outputs, blocks, block * bits / 8]`` with 2**(bits-1) added, two 4-bit values to a
    byte, the first in the low half.
    """
    rows, columns = q.shape
    blocks = -(-rows // block)
    zero = 1 << (bits - 1)
    padded: npt.NDArray[np.uint8] = np.full((columns, blocks * block), zero, dtype=np.uint8)
    padded[:, :rows] = (q.T.astype(np.int16) + zero).astype(np.uint8)
    if bits == 4:
        padded = np.bitwise_or(padded[:, 0::2], padded[:, 1::2] << 4)
    return padded.reshape(columns, blocks, block * bits // 8)


def _key(name: str, rows: slice | None) -> str:
    return name if rows is None else f"{name}_from_{rows.start}"
