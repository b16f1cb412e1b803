"""ONNX files with the standard's recurrent operators, as onnx.helper and PyTorch's exporters write them."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from torch import nn

import p2
from p2.cli import main
from p2.contract.errors import P2Error

from .conftest import V

H, E = 6, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def graph(op="LSTM", layers=2, head="Gather", tail="MatMul", bias=True, layout=0, edit=None, **attributes):
    """A file: characters int64 [batch, time] (or [time, batch]) -> logits."""
    rng = np.random.default_rng(1)
    weights, nodes = {}, []

    def add(name, *shape):
        weights[name] = rng.normal(0, 0.4, shape).astype(np.float32)
        return name

    def node(op, inputs, output, **given):
        nodes.append(helper.make_node(op, inputs, [output], **given))
        return output

    if head == "Gather":
        x, width = node("Gather", [add("table", V, E), "ids"], "x"), E
    elif head == "Select":  # as tf2onnx writes TensorFlow's: a negative number counts from the end
        weights["V"], weights["zero"] = np.array(V), np.array(0.0, np.float32)
        node("Add", ["ids", "V"], "from_the_end")
        node("Less", [node("Cast", ["ids"], "as_float", to=TensorProto.FLOAT), "zero"], "negative")
        node("Cast", [node("Not", ["negative"], "positive")], "one_if_positive", to=TensorProto.INT64)
        node("Cast", ["negative"], "one_if_negative", to=TensorProto.INT64)
        node("Mul", ["ids", "one_if_positive"], "these")
        node("Mul", ["one_if_negative", "from_the_end"], "those")
        x = node("Gather", [add("table", V, E), node("Add", ["those", "these"], "select")], "x")
        width = E
    elif head == "Equal":  # as PyTorch's newer exporter writes one_hot
        weights["last"], weights["numbers"] = np.array([-1]), np.arange(V)
        x = node("Equal", [node("Unsqueeze", ["ids", "last"], "column"), "numbers"], "equal")
        x = node("Cast", [node("Cast", [x], "whole", to=TensorProto.INT64)], "x", to=TensorProto.FLOAT)
        width = V
    else:
        weights["depth"], weights["values"] = np.array([V]), np.array([0, 1], np.float32)
        x, width = node("OneHot", ["ids", "depth", "values"], "x", axis=-1), V
    if not layout:
        x = node("Transpose", [x], "turned", perm=[1, 0, 2])
    for layer in range(layers):
        g = GATES[op] * H
        names = [x, add(f"w{layer}", 1, g, H if layer else width), add(f"r{layer}", 1, g, H)]
        names += [add(f"b{layer}", 1, 2 * g)] if bias else []
        given = {"hidden_size": H, **({"layout": 1} if layout else {}), **attributes}
        nodes.append(helper.make_node(op, names, [f"y{layer}"], **given))
        weights["axis"] = np.array([2 if layout else 1])
        x = node("Squeeze", [f"y{layer}", "axis"], f"h{layer}")
    if tail == "Gemm":
        weights["flat"], weights["three"] = np.array([-1, H]), np.array([-1, 1, V])
        x = node("Reshape", [x, "flat"], "flattened")
        x = node("Gemm", [x, add("w_out", V, H), add("b_out", V)], "dense", transB=1)
        x = node("Reshape", [x, "three"], "logits")
    else:
        x = node("MatMul", [x, add("w_out", H, V)], "product")
        x = node("Add", [add("b_out", V), x], "logits")
    if not layout and tail != "Gemm":
        x = node("Transpose", [x], "by_batch", perm=[1, 0, 2])
    x = node("Softmax", [x], "probabilities", axis=-1)
    made = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "time"])],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if edit:
        edit(model.graph)
    return model


def logits_of(model, name="probabilities"):
    """The logarithm of its probabilities, which a text of it follows just as well."""
    try:
        run = onnxruntime.InferenceSession(model.SerializeToString()).run
    except Exception:  # ONNX Runtime has no layout 1
        run = ReferenceEvaluator(model).run
    return lambda tokens: np.log(np.asarray(run(None, {"ids": tokens[None]})[0]).reshape(len(tokens), V))


FORMS = {
    "LSTM": {},
    "GRU, reset after": {"op": "GRU", "linear_before_reset": 1},
    "GRU, reset before": {"op": "GRU", "linear_before_reset": 0},
    "RNN without bias": {"op": "RNN", "bias": False},
    "one-hot, Gemm": {"head": "OneHot", "tail": "Gemm", "layers": 1},
    "one-hot by comparing": {"head": "Equal"},
    "one-hot by comparing, by batch": {"head": "Equal", "op": "RNN", "layout": 1, "layers": 1},
    "negative numbers too": {"head": "Select"},
    "by batch": {"op": "GRU", "layout": 1, "linear_before_reset": 1, "layers": 1},
    "as it is anyway": {"activations": ["Sigmoid", "Tanh", "Tanh"], "direction": "forward", "layers": 1},
}


@pytest.mark.parametrize("form", FORMS)
def test_it_writes_what_the_file_writes(form, tmp_path, writes_the_same):
    model = graph(**FORMS[form])
    onnx.save(model, tmp_path / "model.onnx")
    made = writes_the_same(tmp_path / "model.onnx", logits_of(model))
    assert made.judge == ("onnx's evaluator" if "by batch" in form else "ONNX Runtime")
    assert (made.card.gru_reset == "before") == (form == "GRU, reset before")
    rows = {row.name: row.role for row in made.rows}
    assert rows["w_out"].startswith("output layer")
    assert rows["w0"].startswith("layer 0, input")


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(V, E)
        self.rnn = nn.LSTM(E, H, 2, batch_first=True)
        self.fc = nn.Linear(H, V)

    def forward(self, x, h, c):
        y, (h, c) = self.rnn(self.emb(x), (h, c))
        return self.fc(y), h, c


@pytest.mark.parametrize("dynamo", [False, True], ids=["TorchScript", "dynamo"])
def test_what_pytorch_exports(dynamo, tmp_path, writes_the_same):
    """With states as inputs, seven characters at a time; the newer exporter puts weights in a file beside."""
    logging.disable(logging.WARNING)
    torch.manual_seed(0)
    network = Network().eval()
    arguments = (torch.zeros(1, 7, dtype=torch.int64), torch.zeros(2, 1, H), torch.zeros(2, 1, H))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, arguments, str(tmp_path / "model.onnx"), dynamo=dynamo, verbose=False)
    logging.disable(logging.NOTSET)

    @torch.no_grad()
    def logits(tokens):
        return network(torch.from_numpy(tokens)[None], *arguments[1:])[0][0].numpy()

    writes_the_same(tmp_path / "model.onnx", logits)


def test_a_model_of_the_last_character_alone(tmp_path, vocab):
    """return_sequences=False, in words of Keras."""

    def last(graph):
        graph.initializer.append(numpy_helper.from_array(np.array(-1), "last"))
        graph.node.insert(len(graph.node) - 4, helper.make_node("Gather", ["h1", "last"], ["end"], axis=0))
        graph.node[-4].input[0] = "end"
        del graph.node[-2:]  # the Transpose of three axes, and the Softmax
        graph.output[0].name = "logits"

    onnx.save(graph(edit=last), tmp_path / "model.onnx")
    assert p2.import_model(tmp_path / "model.onnx", vocab=vocab, out=tmp_path / "out").difference < 1e-5


def initial(values):
    def edit(graph):
        graph.initializer.append(numpy_helper.from_array(np.full((1, 1, H), values, np.float32), "start"))
        next(node for node in graph.node if node.op_type == "LSTM").input.extend(["", "start"])

    return edit


def peepholes(graph):
    graph.initializer.append(numpy_helper.from_array(np.ones((1, 3 * H), np.float32), "peep"))
    next(node for node in graph.node if node.op_type == "LSTM").input.extend(["", "", "", "peep"])


def float_inputs(graph):
    del graph.node[0]
    graph.node[0].input[0] = "ids"
    graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def between(graph):
    """A residual connection, as an example of what is no plain stack."""
    at = next(n for n, node in enumerate(graph.node) if node.output[0] == "h1")
    graph.node.insert(at + 1, helper.make_node("Add", ["h1", "h0"], ["sum"]))
    graph.node[at + 2].input[0] = "sum"


def other_ones(graph):
    next(one for one in graph.initializer if one.name == "values").CopyFrom(
        numpy_helper.from_array(np.array([0, 2], np.float32), "values")
    )


def shifted(graph):
    next(node for node in graph.node if node.output[0] == "those").input[0] = "one_if_positive"


def by_another(graph):
    """Two inputs decide which row of the table it is."""
    graph.input.append(helper.make_tensor_value_info("shift", TensorProto.INT64, ["batch", "time"]))
    next(node for node in graph.node if node.output[0] == "from_the_end").input[1] = "shift"


def written_out(graph):
    for node in [node for node in graph.node if node.op_type == "LSTM"]:
        node.op_type = "Loop"


def nan(graph):
    tensor = next(one for one in graph.initializer if one.name == "r1")
    array = numpy_helper.to_array(tensor).copy()
    array[0, 0, 0] = np.nan
    tensor.CopyFrom(numpy_helper.from_array(array, "r1"))


def two_ways(graph):
    for name in ("w0", "r0", "b0"):
        tensor = next(one for one in graph.initializer if one.name == name)
        tensor.CopyFrom(numpy_helper.from_array(np.repeat(numpy_helper.to_array(tensor), 2, axis=0), name))


def circle(graph):
    graph.node[-2].input[0] = "by_batch"


def outside(graph):
    tensor = graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "../../etc/passwd"), ("length", "600")):
        tensor.external_data.add(key=key, value=value)


REFUSED = {
    "reverse": ({"direction": "reverse"}, "is reverse, and p2's models read forward"),
    "two ways": ({"edit": two_ways}, "'w0' (2 x 24 x 5) is of several directions"),
    "relu": ({"op": "RNN", "activations": ["Relu"]}, "has the activation Relu"),
    "clip": ({"clip": 3.0}, "has the attribute clip"),
    "one gate for two": ({"input_forget": 1}, "input_forget"),
    "peepholes": ({"edit": peepholes}, "has peepholes ('peep')"),
    "a start": ({"edit": initial(0.5)}, "begins at a state that is not zero ('start')"),
    "float inputs": ({"edit": float_inputs}, "the input 'ids' goes into LSTM as numbers"),
    "a residual": ({"edit": between}, "goes through Add, which makes 'sum'"),
    "one-hot of twos": ({"head": "OneHot", "edit": other_ones}, "goes through OneHot, which makes 'x'"),
    "other characters": ({"head": "Select", "edit": shifted}, "goes through Add, which makes 'select'"),
    "two inputs": ({"head": "Select", "edit": by_another}, "goes through Add, which makes 'select'"),
    "no operator": ({"edit": written_out}, "no recurrent operator (GRU, LSTM, RNN) is in it"),
    "nan": ({"edit": nan}, "'r1' holds NaN or infinity"),
    "a circle": ({"edit": circle}, "its nodes go round in a circle"),
    "weights outside": ({"edit": outside}, "does not read"),
    "no cells": ({"layers": 0, "layout": 1}, "goes through Gather, which makes 'x'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_and_nothing_is_written(name, tmp_path, vocab, capsys):
    options, said = REFUSED[name]
    (tmp_path / "model.onnx").write_bytes(graph(**options).SerializeToString())
    refused(tmp_path, vocab, capsys, said)


def refused(folder, vocab, capsys, said):
    before = sorted(folder.rglob("*"))
    assert main(["import", str(folder / "model.onnx"), "--vocab", str(vocab), "-o", str(folder / "out")]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_a_start_at_zero_is_none(tmp_path, vocab):
    onnx.save(graph(edit=initial(0.0)), tmp_path / "model.onnx")
    assert p2.import_model(tmp_path / "model.onnx", vocab=vocab, out=tmp_path / "out").difference < 1e-5


def test_one_hot_of_a_few_characters_at_a_time(tmp_path, vocab):
    def fixed(graph):
        graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5

    onnx.save(graph(head="Equal", edit=fixed), tmp_path / "model.onnx")
    assert p2.import_model(tmp_path / "model.onnx", vocab=vocab, out=tmp_path / "out").difference < 1e-5


def test_damaged_files_and_those_of_p2_are_answered(tmp_path, vocab, capsys, write_step, card_of):
    whole = graph(layers=1).SerializeToString()
    for data in (whole[:-300], whole[:40], b"\x08\x09" + bytes(50)):
        (tmp_path / "model.onnx").write_bytes(data)
        refused(tmp_path, vocab, capsys, "model.onnx is damaged, or holds what p2 does not read")
    write_step(card_of(layers=1), name="model.onnx")
    refused(tmp_path, vocab, capsys, "p2's models have no place for it")


@pytest.mark.parametrize(
    "op", ["Gather", "OneHot", "LSTM", "Squeeze", "Transpose", "MatMul", "Add", "Softmax"]
)
@pytest.mark.parametrize("part", ["input", "output", "constants", "first", "last", "more"])
def test_nodes_without_what_they_need_are_answered(op, part, tmp_path, vocab):
    """No inputs, no outputs, constants of no numbers, one input less, or more of them."""
    model = graph(head="OneHot" if op == "OneHot" else "Gather", layers=1)
    for node in model.graph.node:
        if node.op_type == op and part in ("input", "output"):
            del getattr(node, part)[:]
        elif node.op_type == op and part in ("first", "last"):
            del node.input[0 if part == "first" else -1]
        elif node.op_type == op and part == "more":
            node.input.extend(node.input)
        for tensor in model.graph.initializer:
            if node.op_type == op and part == "constants" and tensor.name in node.input:
                tensor.CopyFrom(numpy_helper.from_array(np.zeros(0, np.float32), tensor.name))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with contextlib.suppress(P2Error):  # what no node needs may be missing
        p2.import_model(tmp_path / "model.onnx", vocab=vocab, out=tmp_path / "out")


def test_a_mapping_is_for_a_state_dict(tmp_path, vocab, capsys):
    onnx.save(graph(layers=1), tmp_path / "model.onnx")
    mapping = {"cell": "rnn", "layers": [{"input": "a", "recurrent": "b"}], "output": "c"}
    (tmp_path / "mapping.json").write_text(json.dumps(mapping))
    argv = ["import", str(tmp_path / "model.onnx"), "--vocab", str(vocab)]
    assert main([*argv, "--mapping", str(tmp_path / "mapping.json")]) == 1
    assert main([*argv, "--print-mapping"]) == 1
    assert capsys.readouterr().err.count("a mapping is for a PyTorch state_dict") == 2
