"""Weights in the kernels' layouts: every number is where the definition says, and all else is zero."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from p2.contract.card import Card
from p2.contract.integers import cut, halves
from p2.runtime.cuda import packing
from p2.runtime.cuda.geometry import TILE_K, Geometry, Limits
from p2.runtime.onnx_format import Graph
from p2.runtime.onnx_tensors import FLOAT, Tensor
from p2.runtime.step_file import StepFile
from p2.runtime.step_weights import expected

FLOAT32, HALF, BRAIN, FLOAT8, INT8, INT4 = range(6)
CELLS = (("rnn", "after"), ("lstm", "after"), ("gru", "after"), ("gru", "before"))
KINDS = {"float32": FLOAT32, "float16": HALF, "bfloat16": BRAIN, "float8": FLOAT8, "int8": INT8, "int4": INT4}
BITS = {1: 32, 3: 8, 10: 16, 16: 16, 17: 8, 22: 4}
HOPPER = Limits(132, 227 << 10, 90)


def make_step(card: Card, seed: int = 0, forms: dict | None = None, blocks: bool = True) -> StepFile:
    """A step whose every number is another.

    Args:
        forms: the shapes of some tensors.
        blocks: let int4 have scales in blocks, as the exporter does, and not a row's.
    """
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, (types, shapes) in expected(card).items():
        usual = shapes[-1 if blocks and card.precision == "int4" and "out" not in name else 0]
        kind, shape = types[0], (forms or {}).get(name, usual)
        count = int(np.prod(shape))
        if kind == FLOAT:
            tensors[name] = Tensor.of(name, rng.random(shape, dtype=np.float32) + np.float32(0.5))
            continue
        raw = rng.integers(0, 256, -(-count * BITS[kind] // 8)).astype(np.uint8)
        if kind == 10:
            raw = rng.random(count).astype(np.float16).view(np.uint8)
        if kind in (16, 17):  # no NaN
            raw &= 0x77
        tensors[name] = Tensor(name, kind, shape, raw.data)
    return StepFile(Path("charlm.onnx"), card, Graph([], tensors), 21, FLOAT, True)


def stored(step: StepFile, name: str, kind: int) -> np.ndarray:
    """A matrix, or its bits where numpy has no such number."""
    tensors = step.graph.tensors
    if kind == FLOAT32:
        return np.asarray(tensors[name].array(), np.float32)
    if kind in (HALF, BRAIN):
        return np.frombuffer(tensors[name].raw, np.uint16).reshape(tensors[name].shape)
    tensor = tensors[f"{name}_q"]
    if kind == FLOAT8:
        return np.frombuffer(tensor.raw, np.uint8).reshape(tensor.shape)
    return tensor.array()


def rows_of(step: StepFile, layer: int, role: str, gate: int) -> tuple[str, int, int]:
    """Where a gate of a matrix is stored: the tensor, its first row, and which gate of the tensor it is."""
    size, name, form = step.card.hidden, f"{layer:02d}", step.card.form.name
    own = size if layer else 0
    if form == "gru":
        return (f"w_x_{name}" if role == "x" else f"w_{name}"), 0, gate
    if form == "gru-before" and (role == "candidate" or gate == 2):
        return f"w_n_{name}", (0 if role == "x" else own), 0
    return f"w_{name}", (0 if role == "x" else own), gate


def unpacked(weights: np.ndarray, kind: int, geometry: Geometry, gates: int) -> np.ndarray:
    """``[grid, rows, numbers]`` of a packed matrix, as CUDA's instructions find them, lane by lane."""
    width, length = geometry.width(gates), geometry.k_padded
    if kind == FLOAT32:
        return weights.reshape(geometry.grid, width, length)
    step = TILE_K[kind]
    found = np.full((geometry.grid, width, length), 999 if kind in (INT8, INT4) else 0xDEAD, np.int64)
    lanes = weights.reshape(-1).view(np.uint8).reshape(geometry.grid, width // 16, length // step, 32, 16)
    for b, m, tile, lane in itertools.product(*map(range, lanes.shape[:4])):
        q, t = divmod(lane, 4)
        piece = lanes[b, m, tile, lane]
        if kind in (HALF, BRAIN):
            numbers = piece.view(np.uint16)
            places = [(q, 0), (q, 1), (q + 8, 0), (q + 8, 1), (q, 2), (q, 3), (q + 8, 2), (q + 8, 3)]
            pairs = [(r, 4 * t + k, numbers[i]) for i, (r, k) in enumerate(places)]
        elif kind == FLOAT8:
            places = [(q, 0), (q, 1), (q + 8, 0), (q + 8, 1), (q, 2), (q, 3), (q + 8, 2), (q + 8, 3)]
            pairs = [
                (r, 16 * j + 4 * t + k, piece[8 * j + i]) for j in (0, 1) for i, (r, k) in enumerate(places)
            ]
        elif kind == INT8:
            numbers = piece.view(np.int8)
            places = [(q, 0), (q + 8, 0), (q, 16), (q + 8, 16)]
            pairs = [
                (r, k + 4 * t + i, numbers[4 * n + i]) for n, (r, k) in enumerate(places) for i in range(4)
            ]
        else:
            pairs = []
            for n, (j, r) in enumerate([(0, q), (0, q + 8), (1, q), (1, q + 8)]):
                for i in range(4):
                    low, high = int(piece[4 * n + i]) & 15, int(piece[4 * n + i]) >> 4
                    pairs.append((r, 32 * j + 4 * t + i, low - 16 * (low > 7)))
                    pairs.append((r, 32 * j + 16 + 4 * t + i, high - 16 * (high > 7)))
        for r, k, number in pairs:
            found[b, 16 * m + r, tile * step + k] = number
    return found


@st.composite
def models(draw):
    """A step of any cell and precision, and any geometry: its last blocks may have nothing to do."""
    cell, reset = draw(st.sampled_from(CELLS))
    precision = draw(st.sampled_from(sorted(KINDS)))
    hidden = draw(st.integers(1, 40) | st.sampled_from([16, 32, 48, 64, 80]))
    card = Card(cell, draw(st.integers(1, 2)), 4, hidden, "abcde", gru_reset=reset, precision=precision)
    step = make_step(card, draw(st.integers(0, 9)), blocks=draw(st.booleans()))
    units = draw(st.integers(1, hidden))
    grid = -(-hidden // units) + draw(st.integers(0, 2))
    kind = packing.kind_of(step, HOPPER)
    assume(packing.why_not(step) is None)
    return step, Geometry(card, kind, packing.block_of(step), 1, grid, units, 64, 0, 1 << 16)


@settings(max_examples=40, deadline=None)
@given(models())
def test_every_weight_and_every_scale_is_where_the_kernels_look(model):
    step, geometry = model
    card, kind, size = step.card, geometry.kind, step.card.hidden
    for matrix in geometry.matrices():
        packed = packing.pack(step, geometry, matrix)
        width = geometry.width(matrix.gates)
        found = unpacked(packed.weights, kind, geometry, matrix.gates)
        wanted = np.zeros_like(found)
        scales = None if packed.scales is None else np.zeros_like(packed.scales)
        for unit in range(size):
            b, u = divmod(unit, geometry.units)
            for gate in range(matrix.gates):
                name, first, number = rows_of(step, matrix.layer, matrix.role, gate)
                row, column = u * matrix.gates + gate, number * size + unit
                wanted[b, row, :size] = stored(step, name, kind)[first : first + size, column]
                if scales is None:
                    continue
                assert scales.shape[2] == width
                of_file = np.asarray(step.graph.tensors[f"{name}_scale"].array())
                if kind == FLOAT8:
                    scales[b, 0, row] = of_file[column]
                    continue
                height = step.graph.tensors[f"{name}_q"].shape[0]
                block, found_scales = cut(height, slice(first, first + size), of_file)
                assert packed.block == (0 if block == size else block)
                exact = found_scales * np.float32(1 / 127) * halves(card, name)
                scales[b, :, row] = exact[:, column]
        np.testing.assert_array_equal(found, wanted)
        if scales is not None:
            np.testing.assert_array_equal(packed.scales, scales)


@settings(max_examples=40, deadline=None)
@given(models())
def test_every_bias_and_the_output_layer(model):
    step, geometry = model
    card, size, tensors = step.card, step.card.hidden, step.graph.tensors
    exact = card.format.integers

    def array(name):
        own = np.asarray(tensors[name].array(), np.float32)
        return own * halves(card, name) if exact else own

    for layer in range(card.layers):
        name, found = f"{layer:02d}", packing.bias(step, geometry, layer)
        assert found.dtype == np.float32
        assert found.shape[-2:] == (geometry.grid * geometry.units, geometry.biases)
        for row in range(card.vocab) if layer == 0 else [...]:
            wanted = np.zeros(found.shape[-2:], np.float32)
            own = array("table")[row] if layer == 0 else array(f"b_{name}")
            for gate in range(len(own) // size):
                wanted[:size, gate] = own[gate * size : (gate + 1) * size]
            if card.form.name == "gru":
                wanted[:size, 3] = array(f"b_hn_{name}")
            if card.form.name == "gru-before" and layer:
                wanted[:size, 2] = array(f"b_n_{name}")
            np.testing.assert_array_equal(found[row], wanted)
    out = packing.output(step, geometry)
    kind = geometry.kind
    weights = stored(step, "w_out", kind) if kind != FLOAT8 else None
    if kind == FLOAT8:
        weights = np.asarray(tensors["w_out_q"].array()) * np.asarray(tensors["w_out_scale"].array())
    assert out.weights.shape == (card.vocab, geometry.k_padded)
    np.testing.assert_array_equal(out.weights[:, :size], weights.T)
    assert not out.weights[:, size:].any()
    np.testing.assert_array_equal(out.bias, np.asarray(tensors["b_out"].array(), np.float32))
    if exact:
        np.testing.assert_array_equal(
            out.scale, np.asarray(tensors["w_out_scale"].array()) * np.float32(1 / 127)
        )
        return
    assert out.scale is None
    floats = np.asarray(tensors["w_out"].array() if kind != FLOAT8 else weights, np.float64)
    most = np.abs(floats).sum(axis=0).max()
    assert most * out.fixed < 2.0**61
    assert out.fixed == 2.0**40 or most * out.fixed * 2 >= 2.0**60


@pytest.mark.parametrize("largest", [0.0, 1e-30, 1.0, 2.0**21, 1e30])
def test_logits_do_not_leave_their_integers(largest):
    card = Card("rnn", 1, 4, 4, "abc")
    step = make_step(card)
    step.graph.tensors["w_out"] = Tensor.of("w_out", np.full((4, 3), largest, np.float32))
    geometry = Geometry(card, FLOAT32, 0, 1, 1, 4, 64, 0, 1 << 16)
    fixed = packing.output(step, geometry).fixed
    assert 0 < fixed <= 2.0**40
    assert 4 * largest * fixed < 2.0**61
    assert np.log2(fixed) == round(np.log2(fixed))
    assert np.float32(fixed) == fixed


def test_steps_that_it_does_not_know():
    def of(precision="float32", layers=1, hidden=32, vocabulary="ab", forms=None, cell="lstm", reset="after"):
        return make_step(
            Card(cell, layers, 4, hidden, vocabulary, gru_reset=reset, precision=precision), forms=forms
        )

    assert packing.why_not(of()) is None
    assert "16 at most" in packing.why_not(of(layers=17))
    many = "".join(map(chr, range(0xE000, 0xE000 + (1 << 16) + 1)))
    assert "65,537 characters, and the decoder takes 65,536 at most" in packing.why_not(
        of(hidden=1, vocabulary=many)
    )
    step = of()
    foreign = StepFile(step.path, step.card, step.graph, 21, FLOAT, False)
    assert packing.why_not(foreign) == "the step is not as p2 exports it"
    assert packing.why_not(of("int8")) is None
    in_blocks = {"w_00_scale": (2, 128)}
    assert "0.1.0" in packing.why_not(of("int8", forms=in_blocks))
    assert packing.why_not(of("int4", forms=in_blocks)) is None
    assert packing.block_of(of("int4", forms=in_blocks)) == 16
    assert packing.block_of(of("int4", forms={"w_00_scale": (128,)})) == 0
    old = of("int4")
    old.graph.tensors["w_out_q"] = Tensor("w_out_q", 22, (32, 2), bytes(32))
    assert "0.1.0" in packing.why_not(old)
    assert "no multiple of 16" in packing.why_not(of("int4", 2, 24, forms={"w_01_scale": (3, 96)}))
    unlike = {"w_01_scale": (4, 64), "w_n_01_scale": (2, 32)}
    step = of("int4", 2, 32, cell="gru", reset="before", forms=unlike)
    assert packing.why_not(step) == "the scales of its matrices do not fit one another"


def test_bfloat16_of_former_versions_and_older_gpus_is_multiplied_as_float32():
    card = Card("lstm", 1, 4, 8, "ab", precision="bfloat16")
    step = make_step(card)
    assert packing.kind_of(step, HOPPER) == BRAIN
    assert packing.kind_of(step, Limits(68, 64 << 10, 75)) == FLOAT32
    for name, (_, shapes) in expected(card).items():
        step.graph.tensors[name] = Tensor.of(name, np.ones(shapes[0], np.float32))
    assert packing.kind_of(step, HOPPER) == FLOAT32
