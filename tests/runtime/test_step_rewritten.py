"""Step files that tools rewrote: opened if they still say what they said, refused if they are broken."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from p2.commands.inspection import describe
from p2.contract.card import CHECKSUM
from p2.contract.errors import BackendMissing, ContractError, P2Error
from p2.contract.sampling import Sampling
from p2.contract.stamp import FIELDS, GRAPH, PROBE
from p2.export.graph import add_probe
from p2.export.opset import at_opset
from p2.runtime.decoder import Decoder
from p2.runtime.opening import open_step_engine, usable_backends
from p2.runtime.step_file import open_step

SETTINGS = (Sampling(0.7), Sampling(top_k=4, top_p=0.9, min_p=0.01))


@pytest.fixture
def exported(card_of, write_step):
    """A step file as `p2 export` writes it, with a probe: ``exported("int8")`` -> path."""

    def write(precision="float32", cell="gru", **changes):
        card = card_of(cell, precision=precision, **changes)
        path = write_step(card)
        model = onnx.load(path)
        session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
        kind = np.float16 if precision == "float16" else np.float32
        states = [np.zeros((1, card.hidden), kind) for _ in card.state_names]
        tokens = np.arange(16) % card.vocab
        for token in tokens:
            feeds = {f"{name}_in": state for name, state in zip(card.state_names, states, strict=True)}
            logits, *states = session.run(None, feeds | {"token": np.array([token])})
        add_probe(model, tokens, logits[0])
        path.write_bytes(model.SerializeToString())
        return path

    return write


def texts(path, backend="onnxruntime-cpu"):
    engine = open_step_engine(path, threads=1, backend=backend)
    return [Decoder(engine, sampling, 3, (0, 1)).write(30).tolist() for sampling in SETTINGS]


def by_single_types(model):
    """Constants in the fields for single types, as onnx.helper writes them, with the place said aloud."""
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type == onnx.TensorProto.BFLOAT16:
            values = values.astype(np.float32)
        plain = helper.make_tensor(tensor.name, tensor.data_type, tensor.dims, values.flatten().tolist())
        plain.data_location = onnx.TensorProto.DEFAULT
        tensor.CopyFrom(plain)
    return model


def by_nodes(model):
    """Constants as nodes."""
    for tensor in list(model.graph.initializer):
        model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=tensor))
    del model.graph.initializer[:]
    return model


def optimised(model):
    """By ONNX Runtime's own optimiser, with its contractions."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    options.optimized_model_filepath = "optimised.onnx"
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load("optimised.onnx")


def renamed(model):
    """Nodes without names, as some simplifiers leave them, and shapes of what lies between."""
    for node in model.graph.node:
        node.ClearField("name")
    return onnx.shape_inference.infer_shapes(model)


TOOLS = {
    "single types": by_single_types,
    "constants as nodes": by_nodes,
    "optimised": optimised,
    "renamed": renamed,
    "older operator set": lambda model: renamed(at_opset(model, 13)),
}
CASES = [(tool, "float32") for tool in TOOLS]
CASES += [("single types", p) for p in ("bfloat16", "int4")] + [("optimised", p) for p in ("float16", "int8")]


@pytest.mark.parametrize(("tool", "precision"), CASES)
def test_a_tools_file_says_the_same_and_one_line_says_so(
    tool, precision, exported, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    path = exported(precision)
    before = texts(path)
    assert open_step(path).as_traced
    assert capsys.readouterr().err == ""
    assert not describe(str(path))["changed"]
    path.write_bytes(TOOLS[tool](onnx.load(path)).SerializeToString())
    step = open_step(path)
    assert not step.as_traced
    assert describe(str(path))["changed"]
    found = texts(path)
    (line,) = capsys.readouterr().err.splitlines()
    if precision in ("int8", "int4"):  # p2's own loop rounds the states as well, or in other blocks
        assert float(line.split(" off ")[0].rsplit(" ", 1)[1]) < 0.05
    else:
        assert found == before
    assert line.startswith(f"p2: {path} was changed after its export, so it runs as it stands")
    assert usable_backends(path) == ["onnxruntime-cpu"]
    with pytest.raises(BackendMissing, match="not as p2 exports it"):
        open_step_engine(path, threads=1, backend="native")


def test_what_quantize_dynamic_makes_runs(exported, tmp_path, capsys):
    from onnxruntime.quantization import quantize_dynamic

    path, out = exported(), tmp_path / "dynamic.onnx"
    quantize_dynamic(path, out)
    assert "MatMulInteger" in {node.op for node in open_step(out).graph.nodes}
    texts(out)
    off = float(capsys.readouterr().err.split(" off ")[0].rsplit(" ", 1)[1])
    assert 0 < off < 0.2


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_foreign_metadata_changes_nothing(precision, exported, capsys):
    path = exported(precision)
    model, before = onnx.load(path), open_step(path)
    model.metadata_props.add(key="note", value="by hand")
    path.write_bytes(model.SerializeToString())
    assert open_step(path) == before
    assert before.as_traced
    assert before.probe is None
    assert capsys.readouterr().err == ""


def own_entry(model, key, change):
    entry = next(entry for entry in model.metadata_props if entry.key == key)
    entry.value = change(entry.value)


def swap(model, one, other):
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors[one].raw_data, tensors[other].raw_data = tensors[other].raw_data, tensors[one].raw_data
    renamed(model)
    model.graph.doc_string = "longer by this"


def poison(model):
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == "b_01")
    tensor.raw_data = np.full(tensor.dims, np.nan, np.float32).tobytes()
    model.graph.doc_string = "longer by this"


def rename_output(model):
    for value in model.graph.output:
        value.name = value.name.replace("h_00_out", "state")
    for node in model.graph.node:
        node.output[:] = [name.replace("h_00_out", "state") for name in node.output]
        node.input[:] = [name.replace("h_00_out", "state") for name in node.input]


BROKEN = {
    "other weights of the same size": (lambda m: swap_same(m), "does not have the checksum"),
    "other weights": (lambda m: swap(m, "w_00", "w_01"), r"no longer says what it said: its logits are \d+%"),
    "NaN": (poison, "b_01 hold NaN"),
    "output": (rename_output, "the output h_00_out is missing"),
    "vocabulary": (
        lambda m: own_entry(m, "p2.vocabulary", lambda text: text.replace("z", "{")),
        "does not have the checksum",
    ),
    "probe": (
        lambda m: own_entry(m, PROBE, lambda text: text.replace("1", "2")),
        "does not have the checksum",
    ),
    "size": (
        lambda m: own_entry(m, GRAPH, lambda text: text.replace("1", "2")),
        "does not have the checksum",
    ),
    "operator": (lambda m: setattr(m.graph.node[-1], "op_type", "NoSuchThing"), "refuses the graph"),
}


def swap_same(model):
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors["w_00"].raw_data, tensors["w_01"].raw_data = tensors["w_01"].raw_data, tensors["w_00"].raw_data


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_refused(name, exported):
    change, words = BROKEN[name]
    path = exported()
    model = onnx.load(path)
    change(model)
    model.metadata_props.add(key="note", value="by a tool")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ContractError, match=words):
        open_step_engine(path, threads=1)


def test_a_file_of_before_is_whole_or_damaged(card_of, write_step):
    path = write_step(card_of())
    model = onnx.load(path)
    assert not {FIELDS, GRAPH, PROBE} & {entry.key for entry in model.metadata_props}
    model.metadata_props.add(key="note", value="by hand")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ContractError, match="does not have the checksum"):
        open_step(path)


def test_a_flipped_bit_is_refused_or_harmless(exported):
    path = exported("int8", "rnn", layers=1)
    data, good = path.read_bytes(), open_step(path)
    said = texts(path)
    rng = np.random.default_rng(0)
    end = (
        data.index(b"p2.cell") - 100
    )  # the graph comes before it: a third of the flips; the rest is metadata
    places = np.concatenate([rng.integers(0, end, 80), rng.integers(end, len(data), 160)])
    refused = 0
    for place in places.tolist():
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            step = open_step(path)
            if step.probe is not None or step.opset != good.opset:
                assert texts(path) == said
        except P2Error:
            refused += 1
            continue
        assert step.card == good.card
        assert {n: bytes(t.raw) for n, t in step.graph.tensors.items()} == {
            n: bytes(t.raw) for n, t in good.graph.tensors.items()
        }
    assert refused > 200


def test_the_entries_are_json_and_the_earlier_rule_still_holds(exported):
    """A p2 of before reads the file as it reads its own."""
    import hashlib

    model = onnx.load(exported())
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert all(json.loads(value) is not None for value in metadata.values())
    expected = json.loads(metadata.pop(CHECKSUM))
    digest = hashlib.sha256(model.graph.SerializeToString(deterministic=True))
    digest.update(json.dumps(metadata, sort_keys=True).encode())
    assert digest.hexdigest() == expected
