"""The step with its products as sums says what the step with its products says."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from p2.contract.card import PRECISIONS
from p2.export.matvec import as_sums
from p2.export.short_weights import multiplied

HALF = {"float16": 2e-2, "bfloat16": 1e-1}


def logits_of(model, card, tokens):
    """Run a graph on its own states, unoptimised: then ONNX Runtime rounds no activation."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kind = np.float16 if card.precision == "float16" else np.float32
    states = [np.zeros((len(tokens), card.hidden), kind) for _ in card.state_names]
    out = []
    for column in tokens.T:
        feeds = {f"{name}_in": state for name, state in zip(card.state_names, states, strict=True)}
        logits, *states = session.run(None, feeds | {"token": np.ascontiguousarray(column)})
        out.append(logits)
    return np.stack(out, axis=1)


@pytest.mark.parametrize("precision", [p for p in PRECISIONS if p != "bfloat16"])
def test_sums_are_the_products(precision, cell, card_of, write_step):
    card = card_of(*cell, precision=precision, layers=2)
    model = onnx.load(write_step(card))
    sums = as_sums(model)
    onnx.checker.check_model(sums, full_check=True)
    assert not any(node.op_type == "MatMul" for node in sums.graph.node)
    tokens = np.random.default_rng(4).integers(0, card.vocab, (3, 12))
    expected = logits_of(model, card, tokens)
    tolerance = HALF.get(precision, 1e-4)
    np.testing.assert_allclose(logits_of(sums, card, tokens), expected, atol=tolerance, rtol=tolerance)


def test_the_terms_of_16_bit_products_are_added_in_float32(card_of, write_step):
    for precision in HALF:
        model = multiplied(onnx.load(write_step(card_of("gru", precision=precision))))
        graph = as_sums(model).graph
        makers = {name: node for node in graph.node for name in node.output}
        sums = [node for node in graph.node if node.op_type == "ReduceSum"]
        assert len(sums) == 3  # layer 0, layer 1 with both of its products, the output
        for node in sums:
            cast = makers[node.input[0]]
            assert (cast.op_type, cast.attribute[0].i) == ("Cast", onnx.TensorProto.FLOAT)
            assert makers[cast.input[0]].op_type == "Mul"


def test_the_graph_given_stays_as_it_was(card_of, write_step):
    model = onnx.load(write_step(card_of("gru", precision="int4")))
    before = model.SerializeToString(deterministic=True)
    as_sums(model)
    assert model.SerializeToString(deterministic=True) == before
