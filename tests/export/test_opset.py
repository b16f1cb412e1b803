"""Operator sets: a step says the same in each that its precision has, and the others are refused."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.reference import ReferenceEvaluator

from p2.contract.card import PRECISIONS
from p2.contract.errors import UsageError
from p2.contract.sampling import Sampling
from p2.export.graph import nodes_sha256, stamp
from p2.export.opset import LOWEST, OPSET, at_opset, check_opset
from p2.export.short_weights import multiplied
from p2.runtime.decoder import Decoder
from p2.runtime.opening import open_step_engine, usable_backends

SETTINGS = (Sampling(0.8), Sampling(top_k=5, top_p=0.9, min_p=0.01))


def texts(path):
    """What every processor backend writes, by backend and setting."""
    written = {}
    for backend in usable_backends(path):
        engine = open_step_engine(path, threads=1, backend=backend)
        for number, sampling in enumerate(SETTINGS):
            written[backend, number] = Decoder(engine, sampling, 5, (0, 1)).write(20).tolist()
    return written


def test_every_precision_has_a_lowest():
    assert list(LOWEST) == list(PRECISIONS)
    for precision, lowest in LOWEST.items():
        check_opset(lowest, precision)
        check_opset(OPSET, precision)
        with pytest.raises(UsageError, match=f"--opset {lowest - 1}: the lowest for {precision} is {lowest}"):
            check_opset(lowest - 1, precision)
        with pytest.raises(UsageError, match=f"the highest is {OPSET}"):
            check_opset(OPSET + 1, precision)


@pytest.mark.parametrize("precision", [name for name in PRECISIONS if LOWEST[name] < OPSET])
def test_the_lowest_operator_set_says_the_same(precision, card_of, write_step):
    card = card_of("gru", precision=precision)
    lowest = LOWEST[precision]
    newest, path = write_step(card), write_step(card, name="old.onnx", opset=lowest)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    # Older runtimes refuse a format version that is newer than theirs.
    assert (model.opset_import[0].version, model.ir_version) == (lowest, {13: 7, 19: 9}[lowest])
    assert texts(path) == texts(newest)
    rng = np.random.default_rng(0)
    kind = np.float16 if precision == "float16" else np.float32
    feeds = {f"{n}_in": rng.uniform(-1, 1, (3, card.hidden)).astype(kind) for n in card.state_names}
    feeds["token"] = np.arange(3)
    expected = ort.InferenceSession(newest.read_bytes()).run(None, feeds)
    for found, wanted in zip(ort.InferenceSession(path.read_bytes()).run(None, feeds), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    if precision != "int8":  # onnx's own evaluator has DequantizeLinear from set 19 on
        np.testing.assert_allclose(ReferenceEvaluator(model).run(None, feeds)[0], expected[0], atol=0.02)


def test_up_again_is_where_it_was(card_of, write_step):
    """A plan is built from any of them: what is put behind the step is of the newest set."""
    model = onnx.load(write_step(card_of("gru")))
    again = at_opset(at_opset(model, 13), OPSET)
    assert sorted(map(str, again.graph.node)) == sorted(map(str, model.graph.node))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_plain_onnx_runtime_and_the_reference_evaluator_run_it(precision, card_of, write_step):
    card = card_of("gru", precision=precision)
    path = write_step(card)
    kind = np.float16 if precision == "float16" else np.float32
    feeds = {f"{name}_in": np.zeros((2, card.hidden), kind) for name in card.state_names} | {
        "token": np.arange(2)
    }
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # nothing is fused
    found = ort.InferenceSession(path, options).run(None, feeds)
    for one, other in zip(found, ReferenceEvaluator(str(path)).run(None, feeds), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, atol=2e-3 if kind == np.float16 else 1e-5)


def test_bfloat16_products_are_a_plans_alone_and_older_files_open(card_of, write_step):
    """Files of before multiply in bfloat16, as plans still do; p2 reads both alike."""
    path = write_step(card_of("gru", precision="bfloat16"))
    model = onnx.load(path)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert {kinds[name] for name in ("table", "w_00", "w_x_01", "w_out")} == {onnx.TensorProto.BFLOAT16}
    assert {kinds[name] for name in ("b_hn_00", "b_01", "b_out")} == {onnx.TensorProto.FLOAT}
    before = texts(path)
    older = multiplied(model)
    products = [node for node in older.graph.node if node.op_type == "MatMul"]
    assert {node.input[1] for node in products} == {"w_00", "w_01", "w_x_01", "w_out"}
    entry = next(entry for entry in older.metadata_props if entry.key == "p2.nodes_sha256")
    entry.value = f'"{nodes_sha256(older.graph)}"'
    stamp(older)
    path.write_bytes(older.SerializeToString())
    assert texts(path) == before
