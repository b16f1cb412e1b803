"""The onnx package's own node tests of LSTM, GRU and RNN, through an import and p2's cells.

A node test hands an operator vectors, weights and what must come out. Around each a model is built: every
vector is a character of its own, and the output layer is the identity, so that logits are the operator's
outputs.
"""

from __future__ import annotations

import importlib

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.backend.test.case import node as node_tests

import p2
from p2.cli import main
from p2.contract.engine import predictions
from p2.trainer import checkpoint
from p2.trainer.model import CharModel

OPERATORS = ("LSTM", "GRU", "RNN")


def cases():
    """By name, every test of a single recurrent operator."""
    for operator in OPERATORS:
        importlib.import_module(f"onnx.backend.test.case.node.{operator.lower()}")
    found = [(case, [node.op_type for node in case.model.graph.node]) for case in node_tests._NodeTestCases]
    return {case.name: case for case, used in found if len(used) == 1 and used[0] in OPERATORS}


CASES = cases()
COVERED = {
    *("test_lstm_defaults", "test_lstm_with_initial_bias", "test_lstm_batchwise"),
    *("test_gru_defaults", "test_gru_with_initial_bias", "test_gru_seq_length", "test_gru_batchwise"),
    *("test_simple_rnn_defaults", "test_simple_rnn_with_initial_bias", "test_simple_rnn_batchwise"),
    "test_rnn_seq_length",
}
NOT_COVERED = {
    "test_lstm_reverse": "is reverse, and p2's models read forward",
    "test_lstm_bidirectional": "is bidirectional, and p2's models read forward",
    "test_lstm_with_peepholes": "has peepholes ('P'), which p2's cells have not",
    "test_gru_reverse": "is reverse, and p2's models read forward",
    "test_gru_bidirectional": "is bidirectional, and p2's models read forward",
    "test_simple_rnn_reverse": "is reverse, and p2's models read forward",
    "test_simple_rnn_bidirectional": "is bidirectional, and p2's models read forward",
}


def test_every_node_test_is_covered_or_has_its_reason():
    assert COVERED | NOT_COVERED.keys() == CASES.keys()
    assert not COVERED & NOT_COVERED.keys()


def around(case):
    """The model around a node, its characters int64 ``[batch, time]``, and hidden."""
    node = onnx.NodeProto()
    node.CopyFrom(case.model.graph.node[0])
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    (given, _) = case.data_sets[0]
    x = given[0] if attributes.get("layout") else np.swapaxes(given[0], 0, 1)
    batch, time, width = x.shape
    directions = given[1].shape[0]
    hidden = attributes["hidden_size"]
    vocab = max(batch * time, hidden * directions)
    table = np.zeros((vocab, width), np.float32)
    table[: batch * time] = x.reshape(-1, width)
    weights = {name: np.asarray(value) for name, value in zip(node.input, given, strict=True) if name != "X"}
    weights |= {"table": table, "identity": np.eye(hidden * directions, vocab, dtype=np.float32)}
    weights["shape"] = np.array([0, 0, -1])
    del node.output[:]
    node.output.append("Y")
    nodes = [helper.make_node("Gather", ["table", "ids"], ["by batch"])]
    if attributes.get("layout"):
        nodes[0].output[0] = "X"
        nodes.append(node)
        nodes.append(helper.make_node("Reshape", ["Y", "shape"], ["hidden"]))
    else:
        nodes.append(helper.make_node("Transpose", ["by batch"], ["X"], perm=[1, 0, 2]))
        nodes.append(node)
        nodes.append(helper.make_node("Transpose", ["Y"], ["turned"], perm=[2, 0, 1, 3]))
        nodes.append(helper.make_node("Reshape", ["turned", "shape"], ["hidden"]))
    nodes.append(helper.make_node("MatMul", ["hidden", "identity"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        case.name,
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    imports = [helper.make_opsetid("", case.model.opset_import[0].version)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=case.model.ir_version)
    return model, np.arange(batch * time).reshape(batch, time), hidden


@pytest.fixture
def source(tmp_path):
    """Write a case's model and its vocabulary: ``source(case)`` -> paths, characters, hidden."""

    def write(case):
        model, tokens, hidden = around(case)
        (table,) = [one for one in model.graph.initializer if one.name == "table"]
        characters = "".join(chr(ord("a") + number) for number in range(table.dims[0]))
        onnx.save(model, tmp_path / "model.onnx")
        (tmp_path / "vocab.txt").write_text(characters)
        return tmp_path / "model.onnx", tmp_path / "vocab.txt", tokens, hidden

    return write


@pytest.mark.parametrize("name", sorted(COVERED))
def test_p2s_cells_give_what_the_node_test_expects(name, source, tmp_path):
    case = CASES[name]
    path, vocab, tokens, hidden = source(case)
    made = p2.import_model(path, vocab=vocab, out=tmp_path / "out")
    with p2.load(made.folder) as model:
        fused = predictions(model.engine, tokens)[:, :, :hidden]
    # Step by step, by the equations in trainer/cells.py.
    found = checkpoint.load(made.folder)
    network = CharModel(found.card)
    network.load_state_dict(found.model_state)
    state, steps = network.zero_state(len(tokens)), []
    with torch.no_grad():
        for column in tokens.T:
            logits, state = network.step(torch.from_numpy(column.copy()), state)
            steps.append(logits.numpy()[:, :hidden])
    node = case.model.graph.node[0]
    by_batch = any(one.name == "layout" and one.i for one in node.attribute)
    expected = dict(zip(filter(None, node.output), case.data_sets[0][1], strict=True))
    for y in (fused, np.stack(steps, axis=1)):  # [batch, time, hidden]
        ours = {"Y": y[:, :, None] if by_batch else y.swapaxes(0, 1)[:, None]}
        ours["Y_h"] = y[:, -1:] if by_batch else y[None, :, -1]
        assert expected
        for output, value in expected.items():
            np.testing.assert_allclose(ours[output], value, rtol=case.rtol, atol=case.atol)
    np.testing.assert_allclose(fused, np.stack(steps, axis=1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NOT_COVERED)
def test_what_p2_has_no_cell_for_is_refused_with_the_reason(name, source, tmp_path, capsys):
    path, vocab, _, _ = source(CASES[name])
    assert main(["import", str(path), "--vocab", str(vocab), "-o", str(tmp_path / "out")]) == 1
    assert NOT_COVERED[name] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
