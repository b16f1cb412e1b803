"""Products in 8 bits and in blocks, against the arithmetic they stand for."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from p2.runtime import session
from p2.runtime.compose import decode_body, decode_graph
from p2.runtime.onnx_engine import open_onnx
from p2.runtime.onnx_format import INT8
from p2.runtime.products import BLOCKS, COLUMNS, FLOATS, Weights
from p2.runtime.step_file import open_step


@pytest.mark.parametrize(
    ("precision", "hidden", "kinds"),
    [
        ("float32", 32, (FLOATS, FLOATS)),
        ("float16", 32, (FLOATS, FLOATS)),
        ("int8", 32, (COLUMNS, COLUMNS)),
        ("int8", 40, (COLUMNS, COLUMNS)),
        ("int4", 32, (BLOCKS, COLUMNS)),
        ("int4", 40, (BLOCKS, COLUMNS)),
    ],
)
def test_the_kind_of_each_matrix(precision, hidden, kinds, card_of, write_step):
    weights = Weights(open_step(write_step(card_of(hidden=hidden, precision=precision))))
    assert (weights.kind("w_01"), weights.kind("w_out")) == kinds


def test_8_bits_multiply_rounded_states_by_rounded_weights_exactly(card_of, write_step):
    """One step of a vanilla RNN by hand, in integers."""
    card = card_of("rnn", layers=1, precision="int8")
    path = write_step(card)
    stored = open_step(path).graph.tensors
    assert stored["w_00_q"].type == INT8
    rng = np.random.default_rng(0)
    state = rng.uniform(-1, 1, (3, card.hidden)).astype(np.float32)
    tokens = rng.integers(0, card.vocab, (3, 1))

    def product(x, name):
        rounded = np.rint(x.astype(np.float64) * 127).astype(np.int64)
        return (
            (rounded @ stored[f"{name}_q"].array().astype(np.int64)) / 127 * stored[f"{name}_scale"].array()
        )

    h = np.tanh(product(state, "w_00") + stored["table"].array()[tokens[:, 0]])
    expected = product(h, "w_out") + stored["b_out"].array()
    engine = open_onnx(path)
    logits = engine.feed({"h_00": state}, tokens, logits=True)
    # A state within rounding of the middle between two steps may go either way: one step of one input.
    step = np.abs(stored["w_out_q"].array() * stored["w_out_scale"].array()).max() / 127
    np.testing.assert_allclose(logits[:, 0], expected, atol=1.01 * step)
    assert np.median(np.abs(logits[:, 0] - expected)) < 1e-5


def test_processors_whose_8_bit_products_overflow_get_exact_ones(monkeypatch, card_of, write_step):
    """The setting for them gives the same logits; without weights near 127 times 255 it could not fail."""
    path = write_step(card_of(precision="int8"))
    tokens = np.random.default_rng(1).integers(0, 30, (2, 20))
    logits = []
    for answer in (False, True):
        monkeypatch.setattr(session, "saturates", lambda answer=answer: answer)
        engine = open_onnx(path)
        logits.append(engine.feed(engine.zero_state(2), tokens, logits=True))
    np.testing.assert_allclose(*logits, atol=1e-5)


def test_a_text_in_8_bits_is_the_same_number_for_number_in_any_batch(card_of, write_step, cell):
    card = card_of(*cell, precision="int8", hidden=48)
    engine = open_onnx(write_step(card))
    tokens = np.random.default_rng(1).integers(0, card.vocab, (9, 60))
    together, alone = engine.zero_state(9), engine.zero_state(1)
    engine.feed(together, tokens)
    engine.feed(alone, tokens[4:5])
    for name, array in alone.items():
        np.testing.assert_allclose(together[name][4:5], array, atol=1e-6)


def test_large_weights_are_handed_over_outside_the_message(monkeypatch, card_of, write_step):
    step = open_step(write_step(card_of(hidden=96)))
    graph = decode_graph(decode_body(step, filters=False), filters=False)
    sizes = []
    real = ort.InferenceSession
    monkeypatch.setattr(
        ort, "InferenceSession", lambda data, *a, **k: sizes.append(len(data)) or real(data, *a, **k)
    )
    session.open_session(graph, step.opset, 1)
    inside = sum(len(t.raw) for t in graph.tensors.values() if len(t.raw) < session.OUTSIDE)
    total = sum(len(t.raw) for t in graph.tensors.values())
    assert inside < sizes[0] < inside + 20_000 < total
