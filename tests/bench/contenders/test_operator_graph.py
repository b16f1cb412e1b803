"""The exported recurrent operator, and ONNX Runtime with it."""

from __future__ import annotations

import pytest

from p2.bench.contender import Model
from p2.bench.contenders import operator_graph
from p2.bench.contenders.ort_operator import OperatorRunning
from p2.bench.contenders.registry import by_key, prepare
from p2.contract.errors import BackendMissing

from .reference import CELLS, save_checkpoint


@pytest.mark.parametrize(("cell", "reset"), CELLS)
def test_operator_graph_is_valid_and_made_once(cell, reset, tmp_path, card_of, parameters_of):
    import onnx

    card = card_of(cell, reset, layers=3)
    saved = save_checkpoint(tmp_path / "checkpoint", card, parameters_of(card))
    model = Model("three layers", saved, tmp_path / "checkpoint", {"float32": tmp_path / "charlm.onnx"})
    prepare(model)
    path = operator_graph.ensure(model)
    assert path.parent == tmp_path
    onnx.checker.check_model(onnx.load(path), full_check=True)
    made = path.stat().st_mtime_ns
    prepare(model)
    assert path.stat().st_mtime_ns == made
    other = Model(model.name, model.card.with_(checkpoint_sha256="d" * 64), model.checkpoint, model.steps)
    assert operator_graph.ensure(other) != path


def test_a_model_too_large_for_one_file_is_refused(model_of, card_of, monkeypatch):
    monkeypatch.setattr("p2.export.graph.MAX_BYTES", 1000)
    with pytest.raises(Exception, match="one ONNX file holds at most 2 GiB"):
        prepare(model_of(card_of()))


def test_onnx_runtime_without_the_provider_is_refused(model_of, card_of):
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has the CUDA provider")
    with pytest.raises(BackendMissing, match="this ONNX Runtime has no CUDAExecutionProvider, only "):
        by_key("ort-cuda").load(model_of(card_of()), None)


def test_a_graph_that_onnx_runtime_refuses_is_a_sentence(model_of, card_of):
    model = model_of(card_of())
    operator_graph.ensure(model).write_bytes(b"not a graph")
    with pytest.raises(BackendMissing, match=r"ONNX Runtime does not run operator-\w+\.onnx on CPU"):
        OperatorRunning(model, 1)
