"""A folded step written node by node, which knows nothing of the exporter."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from p2.contract.card import Card


def lstm_step(card: Card, block: int = 32) -> onnx.ModelProto:
    """A folded one-layer LSTM step written node by node, in the precision of the card."""
    rng = np.random.default_rng(0)
    hidden, vocab = card.hidden, card.vocab
    half = card.precision == "float16"
    dtype, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    bits = {"int8": 8, "int4": 4}.get(card.precision)
    short = {"bfloat16": TensorProto.BFLOAT16, "float8": TensorProto.FLOAT8E4M3FN}.get(card.precision)
    tensors, nodes = [], []

    def add(operator, inputs, outputs, **attributes):
        nodes.append(helper.make_node(operator, inputs, outputs, **attributes))

    def constant(name, *shape):
        tensors.append(numpy_helper.from_array((rng.standard_normal(shape) / 8).astype(dtype), name))
        return name

    def matrix(name, rows, columns):
        if not bits and not short:
            return constant(name, rows, columns)
        if short:  # weights alone: the products are float32
            values = rng.standard_normal(rows * columns) / 8
            tensors.append(helper.make_tensor(f"{name}_q", short, (rows, columns), values))
        if short == TensorProto.BFLOAT16:
            add("Cast", [f"{name}_q"], [name], to=TensorProto.FLOAT)
            return name
        if short:
            scale = rng.uniform(0.9, 1.1, columns).astype(np.float32)
            tensors.append(numpy_helper.from_array(scale, f"{name}_scale"))
            add("DequantizeLinear", [f"{name}_q", f"{name}_scale"], [name], axis=1)
            return name
        top = 2 ** (bits - 1) - 1
        values = rng.integers(-top, top + 1, (rows, columns))
        if bits == 8:
            tensors.append(numpy_helper.from_array(values.astype(np.int8), f"{name}_q"))
        else:
            tensors.append(
                helper.make_tensor(f"{name}_q", TensorProto.INT4, values.shape, values.ravel().tolist())
            )
        scales = rng.uniform(0.01, 0.02, (-(-rows // block), columns))
        tensors.append(numpy_helper.from_array(scales.astype(np.float32), f"{name}_scale"))
        add("DequantizeLinear", [f"{name}_q", f"{name}_scale"], [name], axis=0, block_size=block)
        return name

    constant("table", vocab, 4 * hidden)
    add("Gather", ["table", "token"], ["x"])
    add("MatMul", ["h_00_in", matrix("w_00", hidden, 4 * hidden)], ["r"])
    add("Add", ["x", "r"], ["sum"])
    add("Split", ["sum"], ["i", "f", "g", "o"], axis=1, num_outputs=4)
    for gate in "ifo":
        add("Sigmoid", [gate], [f"{gate}s"])
    add("Tanh", ["g"], ["gt"])
    add("Mul", ["is", "gt"], ["ig"])
    add("Mul", ["fs", "c_00_in"], ["fc"])
    add("Add", ["ig", "fc"], ["c_00_out"])
    add("Tanh", ["c_00_out"], ["ct"])
    add("Mul", ["os", "ct"], ["h_00_out"])
    add("MatMul", ["h_00_out", matrix("w_out", hidden, vocab)], ["product"])
    add("Add", ["product", constant("b_out", vocab)], ["typed"])
    add("Cast", ["typed"], ["logits"], to=TensorProto.FLOAT)

    def states(end):
        return [
            helper.make_tensor_value_info(f"{name}_{end}", kind, ["batch", hidden])
            for name in card.state_names
        ]

    inputs = [helper.make_tensor_value_info("token", TensorProto.INT64, ["batch"]), *states("in")]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", vocab]), *states("out")]
    graph = helper.make_graph(nodes, "step", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    helper.set_model_props(model, card.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture
def step(tmp_path):
    """Write a step graph: ``step(precision="int8", hidden=64)`` -> (path of the .onnx, card)."""

    def write(precision="float32", hidden=32, change=lambda model: None, **options):
        card = Card("lstm", 1, 8, hidden, "".join(map(chr, range(32, 62))), precision=precision)
        model = lstm_step(card, **options)
        change(model)
        path = tmp_path / "charlm.onnx"
        path.write_bytes(model.SerializeToString())
        return path, card

    return write
