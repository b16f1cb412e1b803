"""What products are made of; what they compute is in `test_exact`."""

from __future__ import annotations

import onnxruntime as ort
import pytest

from p2.runtime.onnxruntime import session
from p2.runtime.onnxruntime.compose import decode_body, decode_graph
from p2.runtime.onnxruntime.products import Constants
from p2.runtime.step_file import open_step
from p2.runtime.weights import FLOATS, INTEGERS


@pytest.mark.parametrize(
    ("precision", "hidden", "kind", "block", "count"),
    [
        ("float32", 32, FLOATS, 0, 0),
        ("float8", 32, FLOATS, 0, 0),
        ("int8", 40, INTEGERS, 40, 1),
        ("int4", 48, INTEGERS, 16, 3),  # 96 rows in blocks of 32, cut at 48
        ("int4", 256, INTEGERS, 128, 2),
    ],
)
def test_the_blocks_of_a_matrix(precision, hidden, kind, block, count, card_of, write_step):
    weights = Constants(open_step(write_step(card_of(hidden=hidden, precision=precision))))
    assert weights.kind == kind
    if kind == INTEGERS:
        rows, names = weights.blocks("w_01", slice(hidden, 2 * hidden))
        assert (rows, len(names)) == (block, count)
        assert {weights.tensors[q].shape for q, _ in names} == {(block, 4 * hidden)}


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
