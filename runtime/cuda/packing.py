"""A step's weights in the order in which the kernels read them.

Every block of the grid has its units side by side, and of each unit all its gates: what a block reads lies in
one piece. float32 is rows of numbers. All else is tiles of 16 rows, of which every lane of a warp finds its
numbers in 16 bytes: the operand of the tensor core's instruction. What is padded is zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract.cells import APART, STAGED
from ...contract.integers import GRID, cut, halves
from .. import onnx_tensors
from ..step_file import StepFile
from ..weights import Weights
from . import geometry as geometries
from .geometry import FLOAT32, KINDS, MAX_LAYERS, TILE_K, Geometry, Limits, Matrix

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

LARGEST_VOCABULARY = 1 << 16

# Logits are added as integers of 64 bits: so many hold a sum over a row, at most so many of them fractions.
SUM_BITS, FRACTION_BITS = 61, 40

# How the numbers of a tile's row are split before they are put into the order of the lanes, and that order.
# Lane 4 q + t has rows q and q + 8. Axes: 0 tile of rows, 1 row8, 2 q, 3 tile of numbers, and then the split.
_SHORT_FLOATS = (4, 2, 2), (0, 3, 2, 4, 5, 1, 6)
_SCALED_FLOATS = (2, 4, 2, 2), (0, 3, 2, 5, 4, 6, 1, 7)
_INTEGERS = (2, 4, 4), (0, 3, 2, 5, 4, 1, 6)


@dataclass(frozen=True)
class PackedProduct:
    """The product with a matrix.

    Attributes:
        weights: of all blocks of the grid.
        scales: float32 ``[grid, blocks of the scales, rows]``; None without.
        block: rows of the matrix that share a scale; 0 for all.
    """

    weights: Array
    scales: Floats | None
    block: int


@dataclass(frozen=True)
class Output:
    """The output layer.

    Attributes:
        weights: ``[vocab, k_padded]``.
        scale: float32 ``[vocab]`` with integers; None without.
        bias: float32 ``[vocab]``.
        fixed: by how much a term of a logit is multiplied before it becomes an integer, a power of two.
    """

    weights: Array
    scale: Floats | None
    bias: Floats
    fixed: float


def why_not(step: StepFile) -> str | None:
    """Why the decoder does not know a step; None if it does."""
    card, stored = step.card, step.graph.tensors
    if not step.as_traced:
        return "the step is not as p2 exports it"
    if card.layers > MAX_LAYERS:
        return f"it has {card.layers} layers, and the decoder takes {MAX_LAYERS} at most"
    if card.vocab > LARGEST_VOCABULARY:
        return f"it has {card.vocab:,} characters, and the decoder takes {LARGEST_VOCABULARY:,} at most"
    if not card.format.integers:
        return None
    in_blocks = {name for name, one in stored.items() if name.endswith("_scale") and len(one.shape) == 2}
    old = stored["w_out_q"].type != onnx_tensors.INT8 or "w_out_scale" in in_blocks
    if old or (in_blocks and card.precision == "int8"):
        return "its integers are in the form of p2 0.1.0: export the checkpoint again"
    if in_blocks and card.hidden % 16:
        return f"its weights have scales in blocks, and its hidden size, {card.hidden}, is no multiple of 16"
    if any(len({_cut(step, *part)[0] for part in parts}) > 1 for parts in _all_parts(step)):
        return "the scales of its matrices do not fit one another"
    return None


def kind_of(step: StepFile, limits: Limits) -> int:
    """How a GPU multiplies the weights of a step; short floats of former versions are stored in float32."""
    own = step.card.format
    widened = own.is_widened and step.graph.tensors["w_out"].type != own.element
    return FLOAT32 if widened else geometries.kind_of(step.card, limits)


def block_of(step: StepFile) -> int:
    """The fewest rows of a recurrent matrix that share a scale; 0 where all do."""
    if not step.card.format.integers:
        return 0
    block = min(_cut(step, *part)[0] for parts in _all_parts(step) for part in parts)
    return 0 if block == step.card.hidden else block


def pack(step: StepFile, geometry: Geometry, matrix: Matrix) -> PackedProduct:
    """A matrix of a layer."""
    parts = _parts(step, matrix.layer, matrix.role)
    numbers = [_numbers(step, name, geometry.kind)[rows] for name, rows in parts]
    kind, gates, size = geometry.kind, matrix.gates, geometry.card.hidden
    # [inputs, gates, units] each: of a block all that is needed lies in few pieces.
    sources = [array.reshape(size, -1, size) for array in numbers]
    width = geometry.width(gates)
    if kind == FLOAT32:
        packed = np.zeros((geometry.grid, width, geometry.k_padded), np.float32)
        for number, own in _units(geometry):
            _fill(packed[number], sources, own)
    else:
        packed = np.zeros((geometry.grid, width // 16, geometry.k_padded // TILE_K[kind], 512), np.uint8)
        rows = np.zeros((width, geometry.k_padded), numbers[0].dtype)
        for number, own in _units(geometry):
            rows[:] = 0
            _fill(rows, sources, own)
            packed[number] = _tiles(rows, kind).view(np.uint8).reshape(packed[number].shape)
    scales, block = _scales(step, geometry, parts, width)
    return PackedProduct(packed, scales, block)


def bias(step: StepFile, geometry: Geometry, layer: int) -> Floats:
    """The biases of a layer, ``[grid * units, biases]``; of the first one such for each character."""
    card, weights, name = step.card, Weights(step), f"{layer:02d}"
    own = weights.array(f"b_{name}" if layer else "table")
    if card.form.products == STAGED and layer:
        own = np.concatenate([own, weights.array(f"b_n_{name}")])
    own = np.atleast_2d(own)
    by_unit = own.reshape(len(own), -1, card.hidden).swapaxes(1, 2)
    packed = np.zeros((len(own), geometry.grid * geometry.units, geometry.biases), np.float32)
    packed[:, : card.hidden, : by_unit.shape[2]] = by_unit
    if card.form.products == APART:
        packed[:, : card.hidden, 3] = weights.array(f"b_hn_{name}")
    return packed if layer == 0 else packed[0]


def output(step: StepFile, geometry: Geometry) -> Output:
    """The output layer, a row for each character."""
    card, weights, kind = step.card, Weights(step), geometry.kind
    scale, fixed = None, 0.0
    if KINDS[kind].integers:
        numbers: Array = np.asarray(step.graph.tensors["w_out_q"].array(), np.int8)
        scale = np.asarray(step.graph.tensors["w_out_scale"].array(), np.float32) * GRID
    else:
        floats = weights.array("w_out")
        numbers = floats if kind == FLOAT32 or KINDS[kind].is_scaled else _numbers(step, "w_out", kind)
        largest = float(np.abs(floats).sum(axis=0, dtype=np.float64).max())
        bits = math.frexp(largest)[1] if largest else 0
        fixed = 2.0 ** min(FRACTION_BITS, SUM_BITS - bits)
    packed = np.zeros((card.vocab, geometry.k_padded), numbers.dtype)
    packed[:, : card.hidden] = numbers.T
    return Output(packed, scale, weights.array("b_out"), fixed)


Part = tuple[str, slice]  # a tensor and some of its rows


def _all_parts(step: StepFile) -> Iterator[list[Part]]:
    """The parts of every matrix."""
    for layer in range(step.card.layers):
        for role in (
            "h",
            *(["x"] if layer else []),
            *(["candidate"] if step.card.form.products == STAGED else []),
        ):
            yield _parts(step, layer, role)


def _parts(step: StepFile, layer: int, role: str) -> list[Part]:
    """What a matrix consists of, one beside the other. Where input and state share a tensor, the input's rows
    come first, and the first layer has none.
    """
    size, products, name = step.card.hidden, step.card.form.products, f"{layer:02d}"
    first, own = slice(0, size), slice(size, 2 * size) if layer else slice(0, size)
    if products == APART:
        return [(f"w_x_{name}" if role == "x" else f"w_{name}", first)]
    if role == "candidate":
        return [(f"w_n_{name}", own)]
    joint = [(f"w_{name}", first if role == "x" else own)]
    return [*joint, (f"w_n_{name}", first)] if products == STAGED and role == "x" else joint


def _numbers(step: StepFile, name: str, kind: int) -> Array:
    """A matrix as it is stored, ``[inputs, outputs]``, in a type of numpy's."""
    one, stored = KINDS[kind], step.graph.tensors
    if kind == FLOAT32:
        return Weights(step).array(name)
    tensor = stored[f"{name}_q" if one.is_scaled else name]
    if one.integers:
        return tensor.array()
    return np.frombuffer(tensor.raw, f"<u{one.bits // 8}").reshape(tensor.shape)


def _cut(step: StepFile, name: str, rows: slice) -> tuple[int, Floats]:
    """The rows of a matrix's blocks, and the blocks' scales ``[blocks, outputs]``: see `cut`."""
    stored = step.graph.tensors
    scales = np.asarray(stored[f"{name}_scale"].array(), np.float32)
    return cut(stored[f"{name}_q"].shape[0], rows, scales)


def _scales(step: StepFile, geometry: Geometry, parts: list[Part], width: int) -> tuple[Floats | None, int]:
    """Scales ``[grid, blocks, width]`` for rows in the order of the weights, and the rows of a block."""
    card, one = step.card, KINDS[geometry.kind]
    if not one.is_scaled:
        return None, 0
    found, block = [], card.hidden
    for name, rows in parts:
        if not one.integers:
            scales = np.asarray(step.graph.tensors[f"{name}_scale"].array(), np.float32)[None]
        else:
            block, scales = _cut(step, name, rows)
            scales = scales * GRID * halves(card, name)
        found.append(scales.reshape(len(scales), -1, card.hidden))
    packed = np.zeros((geometry.grid, len(found[0]), width), np.float32)
    for number, own in _units(geometry):
        _fill(packed[number].T, found, own)
    return packed, 0 if block == card.hidden else block


def _units(geometry: Geometry) -> list[tuple[int, slice]]:
    """The blocks of the grid that have units, and which."""
    size, units = geometry.card.hidden, geometry.units
    return [(start // units, slice(start, min(start + units, size))) for start in range(0, size, units)]


def _fill(rows: Array, sources: list[Array], own: slice) -> None:
    """Put some units into the first rows: unit by unit all gates.

    Args:
        rows: ``[rows, numbers]``.
        sources: ``[numbers, gates, units]``, gates of one beside those of the other.
        own: the units.
    """
    gates = sum(source.shape[1] for source in sources)
    count, numbers = own.stop - own.start, len(sources[0])
    target = rows[: count * gates].reshape(count, gates, -1)[..., :numbers]
    at = 0
    for source in sources:
        # A piece that fits into the cache is turned round in a third of the time.
        piece = np.ascontiguousarray(source[..., own])
        target[:, at : at + source.shape[1]] = piece.transpose(2, 1, 0)
        at += source.shape[1]


def _tiles(rows: Array, kind: int) -> Array:
    """Rows ``[16 n, k]`` in the order of the lanes: ``[n, tiles of k, 32, 16 bytes]``."""
    one = KINDS[kind]
    if one.integers and one.bits == 4:
        in_halves = rows.view(np.uint8).reshape(len(rows), -1, 2, 16)
        rows = ((in_halves[:, :, 0] & 15) | (in_halves[:, :, 1] << 4)).reshape(len(rows), -1)
    axes, order = _INTEGERS if one.integers else _SCALED_FLOATS if one.is_scaled else _SHORT_FLOATS
    split = rows.reshape(len(rows) // 16, 2, 8, -1, *axes)
    return np.ascontiguousarray(split.transpose(order))
