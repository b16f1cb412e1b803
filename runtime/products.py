"""The matrix products of a step, in the form that ONNX Runtime's CPU kernels run fastest.

What an exported step says with MatMul (and DequantizeLinear) becomes, by the kind of its weights,

- float: Gemm, which adds its third operand for free; a product of several inputs is a chain of them,
  so nothing has to be concatenated. Shorter floats are widened once, at load: x86 has no such arithmetic in
  ONNX Runtime, and a Cast around every operator is 4 times slower;
- 8 bits, a scale for each output: MatMulIntegerToFloat. The states of all three cells lie in [-1, 1], so
  their 8 bits need no measuring: the step is 1/127, everywhere. Sums of integers are exact, so a text
  cannot depend on the batch it is written in;
- blocks that share a scale (4 bits): MatMulNBits with activations rounded to 8 bits for each block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .onnx_format import FLOAT8, INT4, INT8, Node, Tensor
from .step_file import StepFile

Array = npt.NDArray[np.generic]
Source = tuple[str, slice | None]  # a value, and the rows of the matrix that it meets (None: all)

COLUMN_BLOCK = 32  # MatMulNBits knows blocks only
INTEGER_ARITHMETIC = 4  # MatMulNBits' accuracy_level: activations in 8 bits
FLOATS, BLOCKS, COLUMNS = "floats", "blocks", "columns"


class Weights:
    """The constants of a step graph that p2 exported, handed out by name and by rows.

    Attributes:
        tensors: everything handed out so far, under the names the graph knows it by.
    """

    def __init__(self, step: StepFile) -> None:
        self._stored = step.graph.tensors
        self.tensors: dict[str, Tensor] = {}

    def kind(self, matrix: str) -> str:
        """How a matrix is stored: `FLOATS`, `BLOCKS` or `COLUMNS`."""
        if matrix in self._stored or self._stored[f"{matrix}_q"].type == FLOAT8:
            return FLOATS
        bytes_by_output = (
            self._stored[f"{matrix}_q"].type == INT8 and len(self._stored[f"{matrix}_scale"].shape) == 1
        )
        return COLUMNS if bytes_by_output else BLOCKS

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

    def array(self, name: str) -> npt.NDArray[np.float32]:
        """A float constant of the file, widened to float32."""
        if name in self._stored:
            return np.asarray(self._stored[name].array(), np.float32)
        scales = np.asarray(self._stored[f"{name}_scale"].array(), np.float32)  # float8 weights
        return np.asarray(self._stored[f"{name}_q"].array(), np.float32) * scales

    def columns(self, name: str, rows: slice | None = None) -> tuple[str, str]:
        """An int8 matrix ``[rows, outputs]`` and its float32 scales ``[outputs]``."""
        key = _key(f"{name}_q", rows)
        if key not in self.tensors:
            array = self._stored[f"{name}_q"].array()
            self.tensors[key] = Tensor.of(key, array if rows is None else array[rows])
        return key, self.floats(f"{name}_scale")

    def blocks(self, name: str, rows: slice | None = None) -> tuple[str, str, int, int]:
        """A matrix packed for MatMulNBits, its scales, bits and block size."""
        q, scales = self._stored[f"{name}_q"], self._stored[f"{name}_scale"]
        block = self.block_size(name)
        bits = 4 if q.type == INT4 else 8
        key, scale_key = _key(f"{name}_q", rows), _key(f"{name}_scale", rows)
        if key not in self.tensors:
            part = rows or slice(0, q.shape[0])
            integers = np.asarray(q.array()[part], np.int8)
            by_block = np.asarray(scales.array(), np.float32)
            if len(scales.shape) == 1:  # a scale for each output: every block repeats it
                by_block = np.tile(by_block, (-(-q.shape[0] // block), 1))
            by_block = by_block[part.start // block : -(-part.stop // block)]
            self.tensors[key] = Tensor.of(key, pack_blocks(integers, bits, block))
            self.tensors[scale_key] = Tensor.of(scale_key, np.ascontiguousarray(by_block.T).reshape(-1))
        return key, scale_key, bits, block

    def block_size(self, name: str) -> int:
        """Rows of a matrix in blocks that share a scale."""
        scales = self._stored[f"{name}_scale"]
        return COLUMN_BLOCK if len(scales.shape) == 1 else self.shape(name)[0] // scales.shape[0]

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

    weights: Weights
    nodes: list[Node] = field(default_factory=list)
    rounded: set[str] = field(default_factory=set)

    def make(
        self, op: str, inputs: list[str], outputs: list[str], domain: str = "", **attributes: Any
    ) -> None:
        """Add one operator."""
        self.nodes.append(Node.make(op, inputs, outputs, domain, **attributes))

    def round(self, value: str) -> str:
        """The 8-bit form of a value within [-1, 1]: uint8, 128 + 127 * value."""
        name = f"{value}_q8"
        if value not in self.rounded:
            self.make("QuantizeLinear", [value, *self._grid()], [name])
            self.rounded.add(value)
        return name

    def product(
        self, out: str, matrix: str, sources: list[Source], bias: str | None = None, wide: bool = False
    ) -> None:
        """``out = sum of sources @ rows of matrix + bias``.

        Args:
            out: name of the result, float32 ``[..., outputs]``.
            matrix: name in the contract (`spec.card.step_shapes`).
            sources: values ``[..., inputs]`` with their rows, in the order of the rows.
            bias: a constant ``[outputs]``, or a value of the result's shape.
            wide: whether it is one value with three dimensions, as a whole text has.
        """
        if wide:
            self._wide_product(out, matrix, sources, bias)
        elif self.weights.kind(matrix) == FLOATS:
            self._float_product(out, matrix, sources, bias)
        else:
            self._integer_product(out, matrix, sources, bias)

    def _wide_product(self, out: str, matrix: str, sources: list[Source], bias: str | None) -> None:
        """Three dimensions folded into two for the product, and back."""
        (value, rows), *_ = sources
        rounded = self.weights.kind(matrix) == COLUMNS
        actual = self.round(value) if rounded else value
        count, outputs = self.weights.shape(matrix)
        inputs = rows.stop - rows.start if rows else count
        flat = self.weights.add(f"flat_{inputs}", np.array([-1, inputs], np.int64))
        width = self.weights.add(f"width_{outputs}", np.array([outputs], np.int64))
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

    def _integer_product(self, out: str, matrix: str, sources: list[Source], bias: str | None) -> None:
        columns = self.weights.kind(matrix) == COLUMNS
        names = [self.round(value) if columns else value for value, _ in sources]
        # Several sources come in the order of their rows and together meet all of them.
        rows = sources[0][1] if len(sources) == 1 else None
        source = names[0]
        if len(names) > 1:
            source = f"{out}_inputs"
            self.make("Concat", names, [source], axis=-1)
        fused = bias if bias in self.weights.tensors else None
        product = out if bias == fused else f"{out}_bare"
        if columns:
            q, scale = self.weights.columns(matrix, rows)
            step, zero = self._grid()
            inputs = [source, q, step, scale, zero, "", fused or ""]
            self.make("MatMulIntegerToFloat", _trimmed(inputs), [product], "com.microsoft")
        else:
            q, scale, bits, block = self.weights.blocks(matrix, rows)
            count, outputs = self.weights.shape(matrix)
            inputs = [source, q, scale, "", "", fused or ""]
            self.nodes.append(
                block_product(
                    _trimmed(inputs), product, rows.stop - rows.start if rows else count, outputs, bits, block
                )
            )
        if bias != fused:
            assert bias is not None
            self.make("Add", [product, bias], [out])

    def _grid(self) -> list[str]:
        return [
            self.weights.add("q8_step", np.array(1 / 127, np.float32)),
            self.weights.add("q8_zero", np.array(128, np.uint8)),
        ]


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


def _trimmed(inputs: list[str]) -> list[str]:
    while inputs and not inputs[-1]:
        inputs.pop()
    return inputs
