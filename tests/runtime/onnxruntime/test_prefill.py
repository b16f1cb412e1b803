"""Reading layer by layer says what reading step by step says."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from p2.export.graph import stamp
from p2.runtime.onnxruntime import engine as onnx_engine
from p2.runtime.onnxruntime.engine import OnnxEngine, open_onnx
from p2.runtime.onnxruntime.prefill import can_prefill
from p2.runtime.onnxruntime.recurrent_operators import one_hot_pays
from p2.runtime.step_file import open_step


@pytest.mark.parametrize("hidden", [32, 12])  # with more characters than `one_hot_pays` for, it loops
def test_state_and_logits_are_those_of_single_steps(cell, hidden, card_of, write_step, monkeypatch):
    """Of floats; what integers compute is the same to the last bit (`test_exact`)."""
    tolerance = 2e-5
    card = card_of(*cell, layers=3, hidden=hidden)
    assert one_hot_pays(card) == (hidden == 32)
    path = write_step(card)
    fast = open_onnx(path)
    assert can_prefill(open_step(path))
    monkeypatch.setattr(onnx_engine, "can_prefill", lambda step: False)
    slow = open_onnx(path)
    tokens = np.random.default_rng(2).integers(0, card.vocab, (3, 40))
    states = fast.zero_state(3), slow.zero_state(3)
    logits = [e.feed(s, tokens, logits=True) for e, s in zip((fast, slow), states, strict=True)]
    np.testing.assert_allclose(*logits, atol=10 * tolerance)
    for name in card.state_names:
        np.testing.assert_allclose(states[0][name], states[1][name], atol=tolerance)
    assert fast.feed(states[0], tokens) is None  # without logits, from a state that is not zero
    assert slow.feed(states[1], tokens) is None
    for name in card.state_names:
        np.testing.assert_allclose(states[0][name], states[1][name], atol=tolerance)


def test_long_texts_are_read_in_pieces(card_of, write_step, monkeypatch):
    engine = open_onnx(write_step(card_of()))
    tokens = np.random.default_rng(2).integers(0, 30, (2, 50))
    whole_state, cut_state = engine.zero_state(2), engine.zero_state(2)
    whole = engine.feed(whole_state, tokens, logits=True)
    monkeypatch.setattr(onnx_engine, "PREFILL_NUMBERS", 7 * 2 * 4 * 32)  # seven steps at a time
    calls = []
    real = OnnxEngine._run
    monkeypatch.setattr(OnnxEngine, "_run", lambda self, *a: calls.append(a[0]) or real(self, *a))
    np.testing.assert_allclose(engine.feed(cut_state, tokens, logits=True), whole, atol=1e-5)
    assert len(calls) == 8
    for name, array in whole_state.items():
        np.testing.assert_allclose(cut_state[name], array, atol=1e-6)


def test_a_graph_that_was_edited_is_run_as_it_stands(card_of, write_step):
    """With its logits turned over by a node of its own, every path must show it."""
    path = write_step(card_of("gru", layers=1))
    tokens = np.random.default_rng(2).integers(0, 30, (1, 5))
    before = open_onnx(path)
    expected = -before.feed(before.zero_state(1), tokens, logits=True)
    model = onnx.load(path)
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "logits":
                node.output[index] = "upright"
    model.graph.node.append(onnx.helper.make_node("Neg", ["upright"], ["logits"]))
    stamp(model)
    path.write_bytes(model.SerializeToString())
    assert not open_step(path).as_traced
    after = open_onnx(path)
    np.testing.assert_allclose(after.feed(after.zero_state(1), tokens, logits=True), expected, atol=1e-5)
