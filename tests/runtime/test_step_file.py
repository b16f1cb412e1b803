"""Whatever breaks the step contract is named in one sentence."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from p2.contract.card import CHECKSUM
from p2.contract.errors import ContractError, P2Error
from p2.export.graph import stamp
from p2.runtime.onnxruntime.engine import open_onnx
from p2.runtime.step_file import open_step


@pytest.fixture
def edit(card_of, write_step):
    """Write a good step, changed by a function of its ModelProto."""

    def edited(change, restamp=True):
        path = write_step(card_of("gru", layers=1))
        model = onnx.load(path)
        change(model)
        if restamp:
            stamp(model)
        path.write_bytes(model.SerializeToString())
        return path

    return edited


def test_a_good_step_is_read(card_of, write_step):
    card = card_of("lstm", precision="float16")
    step = open_step(write_step(card))
    assert step.card == card
    assert step.opset == 21


def _drop(values, name):
    del values[next(i for i, value in enumerate(values) if value.name == name)]


def _dim(values, index, at, number):
    values[index].type.tensor_type.shape.dim[at].dim_value = number


BREAKS = {
    "missing input": (lambda m: _drop(m.graph.input, "h_00_in"), "the input h_00_in is missing"),
    "missing output": (lambda m: _drop(m.graph.output, "logits"), "the output logits is missing"),
    "extra input": (
        lambda m: m.graph.input.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])),
        "an input 'x' that it does not know",
    ),
    "fixed batch": (
        lambda m: _dim(m.graph.input, 0, 0, 1),
        r"the input token must be \[batch\], and is \[1\]",
    ),
    "other width": (
        lambda m: _dim(m.graph.output, 1, 1, 31),
        r"the output h_00_out must be \[batch, 32\], and is \[batch, 31\]",
    ),
    "other type": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.INT32),
        "the input token must be int64",
    ),
    "version": (
        lambda m: setattr(m.metadata_props[_key(m, "p2.contract_version")], "value", "2"),
        "step contract version 2, this p2 speaks version 1: export the checkpoint again",
    ),
    "vocabulary": (
        lambda m: setattr(m.metadata_props[_key(m, "p2.vocabulary")], "value", '"abc"'),
        r"the output logits must be \[batch, 3\], and is \[batch, 30\]",
    ),
    "no card": (lambda m: m.ClearField("metadata_props"), "carries no model card"),
    "fewer weights": (
        lambda m: setattr(m.graph.initializer[0], "raw_data", m.graph.initializer[0].raw_data[:-4]),
        "do not have the size that their shape says",
    ),
}


def _key(model, name):
    return next(i for i, entry in enumerate(model.metadata_props) if entry.key == name)


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_contract_is_named(name, edit):
    change, words = BREAKS[name]
    with pytest.raises(ContractError, match=f"charlm.onnx.*{words}"):
        open_step(edit(change))


DAMAGE = {
    "other weights": lambda m: setattr(
        m.graph.initializer[0], "raw_data", m.graph.initializer[0].raw_data[:-1] + b"\1"
    ),
    "other operator": lambda m: setattr(m.graph.node[-1], "op_type", "Sub"),
    "other name": lambda m: setattr(m.graph.node[1], "name", "x"),
    "other vocabulary": lambda m: setattr(
        m.metadata_props[_key(m, "p2.vocabulary")],
        "value",
        m.metadata_props[_key(m, "p2.vocabulary")].value.replace("z", "{"),
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_any_damage_is_noticed(name, edit):
    with pytest.raises(ContractError, match=r"charlm\.onnx is damaged: it does not have the checksum"):
        open_step(edit(DAMAGE[name], restamp=False))


def test_a_file_without_its_checksum_is_refused(edit):
    path = edit(lambda m: m.metadata_props.pop(_key(m, CHECKSUM)), restamp=False)
    with pytest.raises(ContractError, match="carries no checksum"):
        open_step(path)


def test_truncated_empty_and_foreign_files(card_of, write_step, tmp_path):
    path = write_step(card_of())
    data = path.read_bytes()
    for part in (data[:100], data[: len(data) // 2], b"", b"not an onnx file at all"):
        path.write_bytes(part)
        with pytest.raises(ContractError, match="damaged or not an ONNX file"):
            open_step(path)
    with pytest.raises(P2Error, match="no such file"):
        open_step(tmp_path / "absent.onnx")


def test_a_graph_that_onnx_runtime_refuses_is_a_sentence(edit):
    def unknown_operator(model):
        model.graph.node[-1].op_type = "NoSuchOperator"

    engine = open_onnx(edit(unknown_operator))
    with pytest.raises(ContractError, match=r"ONNX Runtime .* refuses the graph: .*NoSuchOperator"):
        engine.feed(engine.zero_state(1), np.zeros((1, 1), np.int64), logits=True)
