"""A step's weights in the order in which the compiled decoder reads them (types.h).

Outputs go into panels: 16 units of an LSTM, or of a GRU that resets after the product, with all their gates
side by side, so that one pass over a panel leaves everything that these units need; 32 units for the gates
of a GRU that resets before; 64 units or characters otherwise. Widths are padded with zeros to multiples of
64: a padded unit stays 0 for ever.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract.card import Card, bytes_per_step, step_shapes, weight_bits
from ...contract.cells import APART, STAGED
from ...contract.integers import GRID, cut, halves
from .. import huge_pages
from ..onnx_tensors import BFLOAT16, FLOAT16
from ..onnx_tensors import INT4 as ONNX_INT4
from ..onnx_tensors import INT8 as ONNX_INT8
from ..step_file import StepFile
from ..weights import FLOATS, Weights
from . import binding, level
from .binding import LANES, PANEL, Layer, Model, Product

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

# Weights of at least so many bytes do not stay in the caches of single processors, and of so many in none, as
# measured where those have 1 MiB and the last one 32 MiB (types.h).
PLACE_BYTES = 2 << 20, 16 << 20

# Layouts: weights as they are; float32 in 28 bits (compact.h), which one text or two ask for in advance; 28
# bits without; as they are, and one text asks in advance, where they stay in the shared cache. For float32
# from the first number of bytes on a measurement tells: some processors keep more than they say, and some
# fetch better than they are told to. From the second one on all wait for the memory: 28 bits are read
# sooner. Only with AVX-512 are they widened fast enough: with AVX2 32 bits were as fast or faster.
PLAIN, COMPACT_AHEAD, COMPACT, PLAIN_AHEAD = range(4)
COMPACT_BYTES = 28 << 20, 96 << 20
WIDEN_FAST = "amx", "avx512"

# Levels whose registers hold the sums of a part of a panel only: floats lie in strips (types.h).
IN_STRIPS = "avxvnni", "avx2"
MOST_LAYERS = 64  # that the decoder takes
MOST_OUTLIERS = 0.005  # share of the numbers that may lie apart


def padded(size: int) -> int:
    """The next multiple of a panel's width."""
    return -(-size // PANEL) * PANEL


def why_not(step: StepFile) -> str | None:
    """Why the decoder does not know a step; None if it does."""
    if not step.as_traced:
        return "the step is not as p2 exports it"
    if step.card.layers > MOST_LAYERS:
        return f"it has {step.card.layers} layers, and the decoder takes {MOST_LAYERS} at most"
    stored = step.graph.tensors
    in_blocks = {
        stored[f"{name}_q"].type
        for name in step_shapes(step.card)
        if f"{name}_q" in stored and len(stored[f"{name}_scale"].shape) == 2
    }
    if ONNX_INT8 in in_blocks:
        return "its integers are in the form of p2 0.1.0: export the checkpoint again"
    # Sums of activations are kept for every 16 units: blocks are whole ones.
    hidden = step.card.hidden
    if in_blocks and hidden % LANES:
        return f"its weights have scales in blocks, and its hidden size, {hidden}, is no multiple of {LANES}"
    return None


def is_compact(layout: int) -> bool:
    """Whether a layout has 28 bits a weight."""
    return layout in (COMPACT, COMPACT_AHEAD)


def layouts(card: Card) -> list[int]:
    """What comes into question for a model's weights; with more than one, a measurement tells."""
    kept = _kept(card)
    size = bytes_per_step(kept)
    if kept.precision != "float32" or size < COMPACT_BYTES[0] or level() not in WIDEN_FAST:
        return [PLAIN, PLAIN_AHEAD] if _place(size) == binding.SHARED else [PLAIN]
    compact = [COMPACT_AHEAD, COMPACT]
    return compact if size >= COMPACT_BYTES[1] else [PLAIN, *compact]


def _place(size: int) -> int:
    """Where so many bytes of weights stay."""
    return binding.OWN + sum(size >= limit for limit in PLACE_BYTES)


def _kept(card: Card) -> Card:
    """A model as it lies in the memory: weights in 8 bits of a float are widened."""
    return replace(card, precision="float32") if card.precision == "float8" else card


class Packed:
    """A model in the decoder's layout, and the memory that it points into.

    Args:
        step: a step of which `why_not` says nothing.
        layout: one of `layouts`; 28 bits only where they hold the weights.

    Attributes:
        width: of the states, padded.
        place: where the weights stay: `binding.OWN`, `SHARED` or `MEMORY`.
        level: the only one that reads it.
        recurrent_bytes: of the weights that meet the state, in one layer.
        model: what the decoder is handed.
    """

    def __init__(self, step: StepFile, layout: int = PLAIN) -> None:
        card = step.card
        self.card = card
        self.width = padded(card.hidden)
        self.level = level()
        self._stored, self._weights = step.graph.tensors, Weights(step)
        self._kept: list[Array] = []
        self._pool = huge_pages.Pool()
        kept = _kept(card)
        self.place = _place(bytes_per_step(kept))
        bits = weight_bits(kept.precision, "w_00") or kept.format.bits
        self.recurrent_bytes = card.gates * self.width**2 * bits // 8  # of one layer
        self._wants_compact = is_compact(layout)
        layers = (Layer * card.layers)(*(self._layer(number) for number in range(card.layers)))
        self._layers = layers
        self.model = Model(
            binding.CELLS[card.form.name],
            card.layers,
            self.width,
            card.vocab,
            padded(card.vocab),
            layers,
            self._product("w_out", slice(0, card.hidden), 1, 4),
            self._keep(_pad(self._weights.array("b_out"), 0, padded(card.vocab))),
        )
        self.ask_ahead(layout)
        del self._stored, self._weights  # and with them the file's bytes

    def ask_ahead(self, layout: int) -> None:
        """Turn a layout that asks for weights in advance into the one that does not, or back."""
        ahead = layout in (PLAIN_AHEAD, COMPACT_AHEAD)
        matrices = [m for one in self._layers for m in (one.x, one.h, one.candidate_x, one.candidate_h)]
        for matrix in (*matrices, self.model.out):
            matrix.ahead = int(ahead)

    def _layer(self, number: int) -> Layer:
        card, name = self.card, f"{number:02d}"
        first, second = slice(0, card.hidden), slice(card.hidden, 2 * card.hidden)
        # Where input and state share a matrix, the input's rows come first; layer 0 has none.
        own = second if number else first
        bias = self._weights.array("table" if number == 0 else f"b_{name}")
        if card.form.products == STAGED:
            both = bias if number == 0 else np.append(bias, self._weights.array(f"b_n_{name}"))
            return Layer(
                self._product(f"w_{name}", first, 2, 2) if number else Product(),
                self._product(f"w_{name}", own, 2, 2),
                self._product(f"w_n_{name}", first, 1, 4) if number else Product(),
                self._product(f"w_n_{name}", own, 1, 4),
                self._bias(both[..., : 2 * card.hidden], 2, 2),
                self._bias(both[..., 2 * card.hidden :], 1, 4),
            )
        if card.form.products == APART:
            inner = np.broadcast_to(self._weights.array(f"b_hn_{name}"), (*bias.shape[:-1], card.hidden))
            return Layer(
                self._product(f"w_x_{name}", first, 3, 1) if number else Product(),
                self._product(f"w_{name}", first, 3, 1),
                Product(),
                Product(),
                self._bias(np.concatenate([bias, inner], axis=-1), 4, 1),
                None,
            )
        gates, run = card.gates, 1 if card.gates > 1 else 4
        return Layer(
            self._product(f"w_{name}", first, gates, run) if number else Product(),
            self._product(f"w_{name}", own, gates, run),
            Product(),
            Product(),
            self._bias(bias, gates, run),
            None,
        )

    def _product(self, name: str, rows: slice, gates: int, run: int) -> Product:
        """Some rows of a matrix.

        Args:
            name: in the contract.
            rows: which.
            gates: of each unit.
            run: vectors of 16 units that a panel has of each gate.
        """
        vectors = gates * run
        stored = self._stored
        if self._weights.kind == FLOATS:
            kind, floats = self._floats(name)
            matrix = _pad(floats[rows], 0, padded(rows.stop - rows.start))
            panels = _panels(matrix, gates, run).transpose(1, 0, 2, 3)
            compact = self._compact(panels) if self._wants_compact and kind == binding.FLOATS else None
            keep = self._keep_strips if self.level in IN_STRIPS else self._keep
            return compact or Product(kind, vectors, len(matrix), 0, self.place, keep(panels))
        q, scales = stored[f"{name}_q"], np.asarray(stored[f"{name}_scale"].array(), np.float32)
        block, scales = cut(q.shape[0], rows, scales)
        scales = scales * GRID * halves(self.card, name)
        integers = _pad(np.asarray(q.array()[rows], np.int8), 0, padded(rows.stop - rows.start))
        count = len(integers)
        if q.type != ONNX_INT4:
            start = _panels(-128 * integers.sum(axis=0, dtype=np.int32)[None], gates, run)
            by_four = _panels(integers, gates, run)  # [rows, panels, vectors, 16]
            by_four = by_four.reshape(count // 4, 4, *by_four.shape[1:]).transpose(2, 0, 3, 4, 1)
            kept = [self._keep(array) for array in (by_four, _panels(scales, gates, run), start)]
            return Product(binding.INT8, vectors, count, 0, self.place, *kept)
        if len(scales) == 1:
            block = count
        scales = _panels(_pad(scales, 0, count // block), gates, run).transpose(1, 0, 2, 3)
        nibbles = _panels((integers + np.int8(8)).view(np.uint8), gates, run)
        nibbles = nibbles.reshape(count // 8, 2, 4, *nibbles.shape[1:])
        both = (nibbles[:, 0] | (nibbles[:, 1] << 4)).transpose(2, 0, 3, 4, 1)
        kept = [self._keep(both), self._keep(scales)]
        return Product(binding.INT4, vectors, count, block, self.place, *kept, None)

    def _floats(self, name: str) -> tuple[int, Array]:
        """A matrix of floats in the width that its step reads, and what the decoder calls its kind."""
        tensor = self._stored.get(name)
        if tensor is not None and tensor.type == FLOAT16:
            return binding.HALVES, tensor.array()
        if tensor is not None and tensor.type == BFLOAT16:
            return binding.BRAIN, np.frombuffer(tensor.raw, "<u2").reshape(tensor.shape)
        return binding.FLOATS, self._weights.array(name)

    def _compact(self, panels: Floats) -> Product | None:
        """Float32 panels ``[panels, rows, vectors, 16]`` in 28 bits a number; None if too many do not fit."""
        count, rows, vectors, lanes = panels.shape
        made = huge_pages.empty((3 * panels.size,), np.uint8)
        places = huge_pages.empty((panels.size // 2,), np.uint8)
        exponents = np.zeros((count, lanes), np.uint8)
        outliers = np.zeros(int(panels.size * MOST_OUTLIERS) + 1, binding.OUTLIER)
        ends = np.zeros((count, -(-rows // binding.PIECE)), np.int32)
        parts = (places, exponents, outliers, ends)
        if binding.compact(np.ascontiguousarray(panels), made, *parts) is None:
            return None
        self._kept += [made, *parts]
        addresses = [array.ctypes.data for array in parts]
        return Product(
            binding.COMPACT, vectors, rows, 0, self.place, made.ctypes.data, None, None, *addresses
        )

    def _bias(self, bias: Floats, gates: int, run: int) -> int:
        return self._keep(_panels(np.atleast_2d(bias), gates, run))

    def _keep(self, array: Array) -> int:
        """Copy an array to memory of its own, in the order of its axes; its address."""
        made = self._pool.empty(array.shape, array.dtype)
        made[...] = array
        self._kept.append(made)
        return int(made.ctypes.data)

    def _keep_strips(self, panels: Array) -> int:
        """The same for floats ``[panels, rows, vectors, 16]``, in the order of AVX2 (types.h)."""
        count, rows, vectors, _ = panels.shape
        made = self._pool.empty((count, panels[0].size), panels.dtype)
        end = 0
        for row in range(0, rows, binding.PIECE):
            for vector in range(0, vectors, 2):
                part = panels[:, row : row + binding.PIECE, vector : vector + 2].reshape(count, -1)
                end += part.shape[1]
                made[:, end - part.shape[1] : end] = part
        self._kept.append(made)
        return int(made.ctypes.data)


def _pad(array: Array, axis: int, size: int) -> Array:
    missing = size - array.shape[axis]
    if not missing:
        return array
    return np.pad(array, [(0, missing if axis == number else 0) for number in range(array.ndim)])


def _panels(matrix: Array, gates: int, run: int) -> Array:
    """``[rows, gates * units]`` as ``[rows, panels, gates * run, 16]``; units are padded."""
    rows, columns = matrix.shape
    units = columns // gates
    split = _pad(matrix.reshape(rows, gates, units), 2, padded(units))
    split = split.reshape(rows, gates, -1, run, LANES).transpose(0, 2, 1, 3, 4)
    return split.reshape(rows, -1, gates * run, LANES)
