"""What p2 inspect says of each kind of file."""

from __future__ import annotations

import json

import pytest

from p2.cli import main
from p2.commands.inspection import describe
from p2.contract.plan import TENSORRT_RTX
from p2.export.exporter import export_checkpoint
from p2.runtime.nvidia import installed


def test_checkpoint_and_graph_agree_on_the_model(tiny_run):
    export_checkpoint(tiny_run, precision="int8", out=tiny_run / "c.onnx", engine="none")
    checkpoint, graph = describe(str(tiny_run)), describe(str(tiny_run / "c.onnx"))
    assert checkpoint["card"] | {"precision": "int8"} == graph["card"]
    assert checkpoint["parameters"] == graph["parameters"]
    # 4*16*32 + 4*32*32 + 4*32 for layer 0, by hand.
    assert checkpoint["layers"][1] == {"layer": "lstm 0", "inputs": 16, "outputs": 32, "parameters": 6272}
    assert (
        sum(layer["parameters"] for layer in checkpoint["layers"]) == checkpoint["parameters"]["by_formula"]
    )
    assert graph["bytes_per_step"] < checkpoint["bytes_per_step"]
    assert graph["tensors"]["w_01_q"] == "int8 [64, 128]"
    assert graph["operators"]["DequantizeLinear"] == 3
    assert checkpoint["training"]["step"] == 40


@pytest.mark.rtx
@pytest.mark.skipif(not installed(TENSORRT_RTX), reason="tensorrt_rtx is not installed")
def test_plan_header_and_sidecar(tiny_run, capsys):
    made = export_checkpoint(tiny_run, engine="tensorrt-rtx", batch=(1, 1, 1))
    found = describe(str(made.plan))
    assert found["flavour"] == "tensorrt-rtx"
    assert found["version"].count(".") == 3
    assert found["sidecar"]["profiles"] == [{"min": 1, "opt": 1, "max": 1}]
    assert main(["inspect", str(made.plan)]) == 0
    shown = capsys.readouterr().out
    assert f"tensorrt-rtx {found['version']}" in shown
    assert "1,1,1" in shown


def test_the_table_shows_what_a_person_asks_for(tiny_run, capsys):
    made = export_checkpoint(tiny_run, precision="float16", engine="none")
    assert main(["inspect", str(made.onnx)]) == 0
    shown = capsys.readouterr().out
    card = describe(str(made.onnx))["card"]
    for words in ("lstm, 2 x 32", "float16", "by the formula", card["checkpoint_sha256"], "Sigmoid", "opset"):
        assert words in shown


def test_json_is_everything(tiny_run, capsys):
    assert main(["inspect", str(tiny_run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "checkpoint"
    vocab = len(found["card"]["vocabulary"])
    # A row of the table, the two products, a bias, the output layer: by hand, in float32.
    assert found["bytes_per_step"] == 4 * (128 + 32 * 128 + 64 * 128 + 128 + 32 * vocab + vocab)


def test_what_is_not_there_is_a_sentence(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["inspect"]) == 1
    assert "there is no charlm.onnx here" in capsys.readouterr().err
