"""int8 and int4: the decoder, ONNX Runtime's loops and the definition say the same, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2.cli import main
from p2.contract.integers import MOST, Definition
from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling, choose
from p2.export.exporter import export_checkpoint
from p2.runtime import native
from p2.runtime.native.engine import why_not
from p2.runtime.onnxruntime import engine as onnx_engine
from p2.runtime.onnxruntime import products
from p2.runtime.onnxruntime.compose import decode_body, decode_graph
from p2.runtime.onnxruntime.engine import OnnxEngine
from p2.runtime.onnxruntime.prefill import can_prefill
from p2.runtime.step_file import open_step
from p2.runtime.step_weights import breach

from ..conftest import CELLS, make_card
from ..levels import on_each
from ..quantized import step_of, tensors_of


def made(cell, layers, hidden, precision, seed=0):
    """A random step, its definition, and the engines that can run it here."""
    card = make_card(*cell, layers=layers, hidden=hidden, precision=precision)
    tensors = tensors_of(card, seed)
    step = step_of(card, tensors)
    engines = [OnnxEngine] if why_not(step) else [OnnxEngine, *on_each()]
    return step, Definition(card, tensors), engines


def same(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("precision", ["int8", "int4"])
@settings(max_examples=6, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    layers=st.integers(1, 3),
    hidden=st.integers(1, 80) | st.sampled_from([32, 40, 48, 64, 144, 256]),
    batch=st.integers(1, 9),
    threads=st.integers(1, 2),
    cut=st.integers(0, 12),
    seed=st.integers(0, 1000),
)
@example(cell=CELLS[0], layers=2, hidden=256, batch=1, threads=1, cut=5, seed=1)
@example(cell=CELLS[1], layers=3, hidden=48, batch=7, threads=2, cut=1, seed=2)
@example(cell=CELLS[2], layers=3, hidden=64, batch=2, threads=2, cut=0, seed=3)
@example(cell=CELLS[3], layers=3, hidden=40, batch=3, threads=1, cut=12, seed=4)
def test_logits_states_and_text_are_those_of_the_definition(
    precision, cell, layers, hidden, batch, threads, cut, seed
):
    step, definition, engines = made(cell, layers, hidden, precision, seed)
    card = step.card
    tokens = np.random.default_rng(seed).integers(0, card.vocab, (batch, 12))
    noise = gumbel(seed, range(batch), 0, 11, card.vocab)  # an odd number: two states take turns
    state, last, written = definition.zero_state(batch), tokens[:, -1], []
    logits = definition.run(state, tokens)
    read = dict(state)
    for now in noise:
        last = choose(definition.step(state, last), now, Sampling())
        written.append(last)
    pieces = [part for part in (tokens[:, :cut], tokens[:, cut:]) if part.size]
    for kind in engines:
        engine = kind(step, threads)
        found = engine.zero_state(batch)
        parts = [engine.feed(found, part, logits=True) for part in pieces]
        assert np.array_equal(np.concatenate(parts, axis=1), logits), engine.name
        assert same(found, read), engine.name
        text = engine.decode(found, tokens[:, -1], noise, Sampling())
        assert np.array_equal(text, np.stack(written, axis=1)), engine.name
        assert same(found, state), engine.name


def test_thousands_of_steps_stay_the_same(cell):
    """With weights of 4 bits and, in the output layer, 8."""
    step, definition, engines = made(cell, 2, 32, "int4", 7)
    tokens = np.random.default_rng(2).integers(0, step.card.vocab, (2, 1200))
    wanted = definition.zero_state(2)
    logits = definition.run(wanted, tokens)
    for kind in engines:
        engine = kind(step, 1)
        state = engine.zero_state(2)
        assert np.array_equal(engine.feed(state, tokens, logits=True), logits), engine.name
        assert same(state, wanted)


def test_any_state_may_be_given(cell):
    """What no text leads to, and no snapshot may hold: what lies outside the grid is brought to its ends."""
    step, definition, engines = made(cell, 2, 32, "int4", 1)
    rng = np.random.default_rng(1)
    given = {
        name: (10.0 ** rng.uniform(-9, 6, (3, 32)) * rng.choice([-1, 1], (3, 32))).astype(np.float32)
        for name in step.card.state_names
    }
    tokens = rng.integers(0, step.card.vocab, (3, 5))
    wanted = dict(given)
    logits = definition.run(wanted, tokens)
    for kind in engines:
        engine = kind(step, 1)
        state = {name: array.copy() for name, array in given.items()}
        assert np.array_equal(engine.feed(state, tokens, logits=True), logits), engine.name
        assert same(state, wanted)


def test_the_largest_weights_and_biases(cell):
    """Most weights -128 or -8, scales and biases far outside what training gives, also hardly above zero."""
    for precision in ("int8", "int4"):
        card = make_card(*cell, layers=2, hidden=64, precision=precision)
        tensors = tensors_of(card)
        rng = np.random.default_rng(3)
        for name, array in tensors.items():
            if name.endswith("_q"):
                array[...] = np.where(rng.random(array.shape) < 0.9, array.min(), array)
            else:
                array *= (10.0 ** rng.integers(-44, 26, array.shape[-1])).astype(np.float32)
        step, definition = step_of(card, tensors), Definition(card, tensors)
        tokens = rng.integers(0, card.vocab, (2, 20))
        wanted = definition.zero_state(2)
        logits = definition.run(wanted, tokens)
        for kind in [OnnxEngine] if why_not(step) else [OnnxEngine, *on_each()]:
            engine = kind(step, 1)
            state = engine.zero_state(2)
            assert np.array_equal(engine.feed(state, tokens, logits=True), logits), engine.name
            assert same(state, wanted)


@pytest.mark.parametrize("name", ["w_01_scale", "table", "b_out"])
def test_what_could_make_a_sum_infinite_is_refused(name):
    """Infinite sums may end as NaN, of which every backend makes something else."""
    card = make_card(layers=2, precision="int4")
    tensors = tensors_of(card)
    assert breach(card, step_of(card, tensors).graph) is None
    tensors[name] = np.full_like(tensors[name], 1e28)
    found = breach(card, step_of(card, tensors).graph)
    assert found == f"the weights {name} must be below 1e+27, and are not"
    for limit in (np.float32(MOST), -np.float32(MOST)):
        assert np.isfinite(np.float32(2**31) * np.float32(1 / 127) * limit * 2 + limit)


def test_int8_in_blocks_as_files_of_the_first_release_have_it(cell):
    card = make_card(*cell, layers=2, hidden=64, precision="int8")
    tensors = tensors_of(card)
    for name in [name for name in tensors if name.endswith("_scale")]:
        rows = len(tensors[name.replace("_scale", "_q")])
        tensors[name] = np.linspace(0.5, 2, rows // 32, dtype=np.float32)[:, None] * tensors[name]
    step, definition = step_of(card, tensors), Definition(card, tensors)
    assert why_not(step) is not None
    tokens = np.random.default_rng(3).integers(0, card.vocab, (2, 30))
    engine, wanted = OnnxEngine(step, 1), definition.zero_state(2)
    state = engine.zero_state(2)
    assert np.array_equal(engine.feed(state, tokens, logits=True), definition.run(wanted, tokens))
    assert same(state, wanted)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_processors_whose_8_bit_products_overflow_get_exact_ones(precision, monkeypatch):
    """Their weights are unsigned bytes: pairs of products with signed ones saturate at 16 bits there."""
    step, definition, _ = made(CELLS[1], 2, 48, precision, 5)
    monkeypatch.setattr(products, "saturates", lambda: True)
    graph = decode_graph(decode_body(step, filters=False), filters=False)
    kinds = {t.array().dtype for name, t in graph.tensors.items() if "_q_" in name}
    assert kinds == {np.dtype(np.uint8)}
    engine = OnnxEngine(step, 1)
    tokens = np.random.default_rng(2).integers(0, step.card.vocab, (2, 30))
    state, wanted = engine.zero_state(2), definition.zero_state(2)
    assert np.array_equal(engine.feed(state, tokens, logits=True), definition.run(wanted, tokens))
    assert same(state, wanted)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_reading_step_by_step_is_reading_layer_by_layer(cell, precision, monkeypatch):
    step, _, _ = made(cell, 3, 48, precision, 6)
    tokens = np.random.default_rng(2).integers(0, step.card.vocab, (3, 40))
    assert can_prefill(step)
    fast = OnnxEngine(step, 1)
    monkeypatch.setattr(onnx_engine, "can_prefill", lambda step: False)
    slow = OnnxEngine(step, 1)
    states = fast.zero_state(3), slow.zero_state(3)
    logits = [e.feed(s, tokens, logits=True) for e, s in zip((fast, slow), states, strict=True)]
    assert np.array_equal(*logits)
    assert same(*states)


@pytest.mark.skipif(not native.available(), reason="there is no compiled decoder on this machine")
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_both_backends_write_the_same_text(precision, tiny_run, capsys):
    path = tiny_run / f"{precision}.onnx"
    export_checkpoint(tiny_run, precision=precision, out=path, engine="none")
    assert why_not(open_step(path)) is None
    capsys.readouterr()
    for options in (
        ["--tau", "0.5"],
        ["--tau", "1", "--top-k", "7"],
        ["--tau", "2", "--top-p", "0.9", "--min-p", "0.01"],
        ["--greedy", "--prompt", "the fox"],
    ):
        texts = []
        for backend in ("native", "onnxruntime-cpu"):
            command = ["generate", "--engine", str(path), "--backend", backend, "--length", "2000"]
            assert main([*command, "--seed", "4", *options]) == 0
            texts.append(capsys.readouterr().out)
        assert texts[0] == texts[1]
        assert len(texts[0]) >= 2000
