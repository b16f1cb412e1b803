"""The choice as operators, run by ONNX's own reference evaluator, against the definition."""

from __future__ import annotations

import functools

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from p2.contract.choice import constants, filter_row, operators
from p2.contract.sampling import Sampling, choose


@functools.cache
def evaluator(vocab):
    value = helper.make_tensor_value_info
    widths = {"logits": vocab, "noise": vocab, "filters": 4}
    graph = helper.make_graph(
        [helper.make_node(op, i, o, **attributes) for op, i, o, attributes in operators()],
        "choice",
        [value(name, TensorProto.FLOAT, ["b", width]) for name, width in widths.items()],
        [value("next", TensorProto.INT64, ["b"])],
        [numpy_helper.from_array(array, name) for name, array in constants(vocab).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    onnx.checker.check_model(model, full_check=True)
    return ReferenceEvaluator(model)


def chosen(logits, noise, *each):
    filters = np.stack([filter_row(one, logits.shape[1]) for one in each])
    (result,) = evaluator(logits.shape[1]).run(None, {"logits": logits, "noise": noise, "filters": filters})
    return result


# Few distinct values, so that many tie; probabilities that no rounding can move across a limit.
LOGITS = st.lists(st.sampled_from([-2.0, -0.5, 0.0, 0.25, 1.0, 3.0]), min_size=5, max_size=5)


@settings(max_examples=200, deadline=None)
@given(
    LOGITS,
    st.lists(st.floats(-3, 5, width=32), min_size=5, max_size=5),
    st.integers(0, 6),
    st.sampled_from([1.0, 0.93, 0.71, 0.37, 0.05]),
    st.sampled_from([0.0, 0.013, 0.17, 0.83]),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
)
def test_chooses_what_the_definition_chooses(logits, noise, top_k, top_p, min_p, temperature):
    sampling = Sampling(temperature, top_k, top_p, min_p)
    logits = np.array([logits], np.float32)
    noise = np.array([noise], np.float32) * np.float32(temperature)
    np.testing.assert_array_equal(chosen(logits, noise, sampling), choose(logits, noise, sampling))


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(), {0, 1, 2, 3}),
        (Sampling(top_k=1), {2, 3}),  # what ties with the last one kept stays
        (Sampling(top_k=3), {1, 2, 3}),
        (Sampling(top_p=0.35), {2, 3}),  # 0.4, 0.4, 0.15, 0.05
        (Sampling(top_p=0.85), {1, 2, 3}),
        (Sampling(min_p=0.3), {1, 2, 3}),  # 0.15 / 0.4 = 0.375, 0.05 / 0.4 = 0.125
        (Sampling(min_p=0.4), {2, 3}),
        (Sampling(top_k=1, top_p=0.5), {2, 3}),  # one alone has all the probability
        (Sampling(top_k=3, top_p=0.83), {2, 3}),  # of the 0.95 that three have
        (Sampling(0, top_k=1), {0, 1, 2, 3}),
    ],
    ids=str,
)
def test_what_the_filters_keep(sampling, kept):
    logits = np.log(np.array([[0.05, 0.15, 0.4, 0.4]], np.float32))
    alive = set()
    for token in range(4):
        noise = np.zeros((1, 4), np.float32)
        noise[0, token] = 100  # would win if it may
        if chosen(logits, noise, sampling)[0] == token:
            alive.add(token)
    assert alive == kept


def test_ties_go_to_the_lowest_token():
    flat = np.zeros((2, 6), np.float32)
    np.testing.assert_array_equal(chosen(flat, flat, Sampling(0), Sampling(top_k=2)), [0, 0])


def test_large_and_small_temperatures_stay_finite():
    logits = np.array([[3.0, -60.0, 1.0]], np.float32)
    for temperature in (1e-6, 1e6):
        sampling = Sampling(temperature, min_p=0.5)
        noise = np.zeros((1, 3), np.float32)
        np.testing.assert_array_equal(chosen(logits, noise, sampling), choose(logits, noise, sampling))
