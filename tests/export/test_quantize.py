"""Block-wise rounding of weights, against its definition."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from p2.contract.card import block_for
from p2.export.quantize import quantize, quantize_blocks

matrices = {
    "block": st.sampled_from([1, 16, 32]),
    "blocks": st.integers(1, 3),
    "columns": st.integers(1, 5),
    "scale": st.floats(1e-3, 1e3),
    "seed": st.integers(0, 1000),
}


def random_matrix(block, blocks, columns, scale, seed):
    weights = np.random.default_rng(seed).standard_normal((blocks * block, columns)).astype(np.float32)
    return weights * np.float32(scale)


@given(**matrices)
def test_in_8_bits_no_weight_is_off_by_more_than_half_a_scale(block, blocks, columns, scale, seed):
    weights = random_matrix(block, blocks, columns, scale, seed)
    q, scales = quantize_blocks(weights, 8, block)
    assert q.dtype == np.int8
    assert np.abs(q).max() <= 127
    by_weight = np.repeat(scales, block, axis=0)
    assert (np.abs(weights - q * by_weight) <= by_weight * (0.5 + 1e-3)).all()
    # The largest of each block is exact: its integer is the largest there is.
    assert (np.abs(q).reshape(blocks, block, columns).max(axis=1) == 127).all()


@given(**matrices)
def test_in_4_bits_no_block_is_worse_than_rounded_by_its_largest_weight(block, blocks, columns, scale, seed):
    weights = random_matrix(block, blocks, columns, scale, seed)
    q, scales = quantize_blocks(weights, 4, block)
    assert q.min() >= -8
    assert q.max() <= 7

    def squared(by_block, integers):
        error = weights - integers * np.repeat(by_block, block, axis=0)
        return np.square(error.astype(np.float64)).reshape(blocks, block, columns).sum(axis=1)

    widest = np.abs(weights).reshape(blocks, block, columns).max(axis=1) / 7
    plain = np.rint(weights / np.repeat(widest, block, axis=0))
    assert (squared(scales, q) <= squared(widest, plain) * (1 + 1e-4)).all()


def test_cutting_off_the_largest_weight_helps_a_whole_block_of_4_bits():
    weights = np.full((32, 1), 0.1, np.float32)
    weights[0] = 1.0
    weights[1:] += np.linspace(-0.03, 0.03, 31, dtype=np.float32)[:, None]
    _, scales = quantize_blocks(weights, 4, 32)
    assert scales[0, 0] < 1 / 7


def test_zeros_stay_zeros_with_a_positive_scale():
    q, scales = quantize_blocks(np.zeros((32, 2), np.float32), 8, 32)
    assert not q.any()
    assert (scales > 0).all()


@pytest.mark.parametrize(
    ("rows", "block"), [(512, 128), (128, 128), (192, 64), (96, 32), (48, 16), (40, 40), (7, 7)]
)
def test_blocks_divide_the_rows(rows, block):
    assert block_for(rows, 4) == block
    assert block_for(rows, 8) == rows


@pytest.mark.parametrize("rows", [192, 48, 40])
@pytest.mark.parametrize(
    ("precision", "name", "bits"), [("int8", "w_00", 8), ("int4", "w_00", 4), ("int4", "w_out", 8)]
)
def test_the_graph_multiplies_by_the_rounded_weights(rows, precision, name, bits):
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((rows, 3)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", name], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", rows])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weights, name)],
    )
    quantize(graph, precision)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    q, scales = quantize_blocks(weights, bits, block_for(rows, bits))
    rounded = q * np.repeat(scales, block_for(rows, bits), axis=0)
    x = rng.standard_normal((2, rows)).astype(np.float32)
    import onnxruntime as ort

    options = ort.SessionOptions()
    # Optimised, ONNX Runtime would round the activations to 8 bits as well.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ rounded, atol=1e-4)
    if bits == 8:  # the evaluator reads int8 blocks; int4 it only reads without
        np.testing.assert_allclose(ReferenceEvaluator(model).run(None, {"x": x})[0], x @ rounded, atol=1e-4)
