"""The step graph: what it says, by onnx's reference evaluator, and how it keeps the contract."""

from __future__ import annotations

import inspect
import json

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from p2.contract.card import PRECISIONS, Card, step_shapes
from p2.contract.errors import P2Error


def run_reference(
    model: onnx.ModelProto, card: Card, tokens: np.ndarray, dtype: type = np.float32
) -> np.ndarray:
    """Logits of a step graph over many steps, by the reference evaluator (plain numpy)."""
    evaluator = ReferenceEvaluator(model)
    states = [np.zeros((len(tokens), card.hidden), dtype) for _ in card.state_names]
    logits = []
    for column in tokens.T:
        feeds = {"token": column} | {f"{n}_in": s for n, s in zip(card.state_names, states, strict=True)}
        out, *states = evaluator.run(None, feeds)
        assert out.dtype == np.float32
        assert all(state.dtype == dtype for state in states)
        logits.append(out)
    return np.stack(logits, axis=1)


@pytest.mark.parametrize("layers", [1, 2])
def test_says_what_the_equations_say(cell, layers, card_of, write_step, numpy_model):
    card = card_of(*cell, layers=layers)
    tokens = np.random.default_rng(5).integers(0, card.vocab, (2, 30))
    found = run_reference(onnx.load(write_step(card)), card, tokens)
    np.testing.assert_allclose(found, numpy_model(card).run(tokens), atol=1e-4)


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 0.02), ("int8", 0.2)])
def test_typed_graphs_are_close_to_the_equations(
    precision, tolerance, cell, card_of, write_step, numpy_model
):
    card = card_of(*cell, precision=precision)
    tokens = np.random.default_rng(5).integers(0, card.vocab, (2, 20))
    dtype = np.float16 if precision == "float16" else np.float32
    found = run_reference(onnx.load(write_step(card)), card, tokens, dtype)
    expected = numpy_model(card).run(tokens)
    assert 0 < np.abs(found - expected).max() < tolerance * np.abs(expected).max()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_keeps_the_contract(precision, cell, card_of, write_step):
    card = card_of(*cell, precision=precision)
    model = onnx.load(write_step(card))
    onnx.checker.check_model(model, full_check=True)
    ins, outs = ([value.name for value in values] for values in (model.graph.input, model.graph.output))
    assert ins == ["token", *(f"{name}_in" for name in card.state_names)]
    assert outs == ["logits", *(f"{name}_out" for name in card.state_names)]
    assert [n.removesuffix("_in") for n in sorted(ins[1:])] == [
        n.removesuffix("_out") for n in sorted(outs[1:])
    ]
    for value in (*model.graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_param  # the batch is open
    elements = {
        value.name: value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)
    }
    inner = onnx.TensorProto.FLOAT16 if precision == "float16" else onnx.TensorProto.FLOAT
    assert elements.pop("token") == onnx.TensorProto.INT64
    assert elements.pop("logits") == onnx.TensorProto.FLOAT
    assert set(elements.values()) == {inner}


def test_the_embedding_is_folded_and_the_cell_decomposed(cell, card_of, write_step):
    card = card_of(*cell)
    graph = onnx.load(write_step(card)).graph
    operators = {node.op_type for node in graph.node}
    allowed = {"Gather", "MatMul", "Add", "Sub", "Mul", "Sigmoid", "Tanh", "Split", "Concat"}
    assert operators <= allowed
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer if len(tensor.dims) == 2}
    expected = {name: shape for name, shape in step_shapes(card).items() if len(shape) == 2}
    assert shapes == expected  # no embedding, no second copy of anything


def test_the_card_travels_inside(card_of, write_step):
    card = card_of("gru", "before", precision="int4")
    metadata = {entry.key: entry.value for entry in onnx.load(write_step(card)).metadata_props}
    assert json.loads(metadata["p2.vocabulary"]) == card.vocabulary
    assert Card.from_metadata(metadata, "x") == card


def test_a_trace_depends_on_sizes_in_nothing_but_sizes(cell, card_of, parameters_of, monkeypatch):
    """The tests export with one trace for all sizes (`tests/tracing.py`): it makes the very same file."""
    import torch

    from p2.export import graph
    from p2.export.fold import fold

    precision = "float16" if cell in (("lstm", "after"), ("gru", "before")) else "float32"
    card = card_of(*cell, hidden=20, precision=precision)
    card = card.with_(vocabulary=card.vocabulary[:11])
    weights = fold(card, {name: torch.tensor(array) for name, array in parameters_of(card).items()})
    resized = graph.step_graph(card, weights).SerializeToString()
    monkeypatch.setattr(graph, "_trace", inspect.unwrap(graph._trace))
    assert graph.step_graph(card, weights).SerializeToString() == resized


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.characters(codec="utf-8"), min_size=30, max_size=30).map(lambda c: "".join(sorted(c))))
def test_any_vocabulary_survives_in_every_artifact(card_of, write_step, parameters_of, tmp_path, vocabulary):
    """Checkpoint, ONNX file and sidecar, each as a file; what they give encodes and decodes all of it."""
    import torch

    from p2.contract.codec import Codec
    from p2.contract.plan import Sidecar, read_sidecar, write_sidecar
    from p2.export.graph import stamp
    from p2.runtime.step_file import open_step
    from p2.trainer import checkpoint
    from p2.trainer.record import Record

    plain = card_of("rnn", layers=1, hidden=4)
    state = {name: torch.tensor(array) for name, array in parameters_of(plain).items()}
    card = checkpoint.save(tmp_path, plain.with_(vocabulary=vocabulary), state, Record({}, {}, {}))
    assert checkpoint.load(tmp_path).card == card
    path = write_step(plain)
    model = onnx.load(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, metadata | card.to_metadata())
    stamp(model)
    path.write_bytes(model.SerializeToString())
    sidecar = Sidecar(card, "tensorrt", "10.1", "", "", 1, "float32", ((1, 1, 1),), {}, "")
    write_sidecar(path, sidecar)
    for found in (open_step(path).card, read_sidecar(path).card, checkpoint.load(tmp_path).card):
        assert found == card
        codec = Codec(found.vocabulary)
        assert codec.encode(vocabulary).tolist() == list(range(30))
        assert codec.decode(range(30)) == vocabulary


def test_nothing_of_the_machine_it_was_made_on_is_inside(card_of, write_step):
    path = write_step(card_of())
    data = path.read_bytes()
    for trace in (b"/home", b"/usr", b".py", b"site-packages", b"Traceback"):
        assert trace not in data


@pytest.mark.parametrize(
    ("precision", "name", "value", "what"),
    [
        ("float32", "embedding.weight", float("nan"), "table"),
        ("int8", "rnn.bias_hh_l1", float("-inf"), "b_01"),
        ("float32", "embedding.weight", 3e38, "table"),  # finite, but not its products
        ("float16", "output.weight", 7e4, "w_out .* choose --precision bfloat16"),  # finite in float32
    ],
)
def test_what_would_not_be_finite_is_refused_by_name(card_of, parameters_of, precision, name, value, what):
    """Before anything is traced: a row of the table may be of a character that no check ever meets."""
    import torch

    from p2.export.fold import fold
    from p2.export.graph import step_graph

    card = card_of(precision=precision)
    parameters = {name: torch.tensor(array) for name, array in parameters_of(card).items()}
    parameters[name].view(-1)[-1] = value
    if value == 3e38:
        parameters["rnn.weight_ih_l0"] += 10.0
    with pytest.raises(
        P2Error, match=f"^{what.replace(' .* ', ' would hold NaN or infinity in float16.* ')}"
    ):
        step_graph(card, fold(card, parameters))
