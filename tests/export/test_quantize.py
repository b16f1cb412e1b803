"""Block-wise rounding of weights, against its definition."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from p2.export.quantize import quantize, quantize_blocks
from p2.spec.card import block_for


@given(
    bits=st.sampled_from([4, 8]),
    block=st.sampled_from([1, 16, 32]),
    blocks=st.integers(1, 3),
    columns=st.integers(1, 5),
    scale=st.floats(1e-3, 1e3),
    seed=st.integers(0, 1000),
)
def test_no_weight_is_off_by_more_than_half_a_scale(bits, block, blocks, columns, scale, seed):
    weights = np.random.default_rng(seed).standard_normal((blocks * block, columns)).astype(np.float32)
    weights *= np.float32(scale)
    q, scales = quantize_blocks(weights, bits, block)
    top = 2 ** (bits - 1) - 1
    assert q.dtype == np.int8
    assert np.abs(q).max() <= top
    by_weight = np.repeat(scales, block, axis=0)
    assert (np.abs(weights - q * by_weight) <= by_weight * (0.5 + 1e-3)).all()
    # The largest of each block is exact: its integer is the largest there is.
    assert (np.abs(q).reshape(blocks, block, columns).max(axis=1) == top).all()


def test_zeros_stay_zeros_with_a_positive_scale():
    q, scales = quantize_blocks(np.zeros((32, 2), np.float32), 8, 32)
    assert not q.any()
    assert (scales > 0).all()


@pytest.mark.parametrize(("rows", "block"), [(64, 32), (96, 32), (48, 16), (40, 40), (7, 7)])
def test_blocks_divide_the_rows(rows, block):
    assert block_for(rows) == block


@pytest.mark.parametrize("rows", [64, 48, 40])
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_the_graph_multiplies_by_the_rounded_weights(rows, precision):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((rows, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", rows])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    quantize(graph, precision)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    q, scales = quantize_blocks(weights, 8 if precision == "int8" else 4, block_for(rows))
    rounded = q * np.repeat(scales, block_for(rows), axis=0)
    x = rng.standard_normal((2, rows)).astype(np.float32)
    import onnxruntime as ort

    options = ort.SessionOptions()
    # Optimised, ONNX Runtime would round the activations to 8 bits as well.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ rounded, atol=1e-4)
    if precision == "int8":  # the evaluator reads int8 blocks; int4 it only reads without
        np.testing.assert_allclose(ReferenceEvaluator(model).run(None, {"x": x})[0], x @ rounded, atol=1e-4)
