"""The whole export: what is written, what is refused, what is left alone."""

from __future__ import annotations

import inspect

import numpy as np
import onnx
import pytest
import torch

import p2
from p2.contract.agreement import LIMITS
from p2.contract.card import PRECISIONS
from p2.contract.errors import BackendMissing, BuilderRefused, P2Error, ToleranceExceeded, UsageError
from p2.contract.plan import TENSORRT_RTX, read_header, read_sidecar
from p2.contract.shell import install
from p2.contract.stamp import FIELDS, GRAPH, PROBE
from p2.export import exporter, verify
from p2.export.exporter import export_checkpoint, parse_batch
from p2.runtime import nvidia
from p2.runtime.nvidia import installed
from p2.runtime.onnxruntime.engine import open_onnx
from p2.trainer import checkpoint

from ..conftest import TINY_TEXT

needs_rtx = pytest.mark.skipif(not installed(TENSORRT_RTX), reason="tensorrt_rtx is not installed")


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_checkpoint_becomes_a_checked_graph(precision, tiny_run, tmp_path):
    lines: list[str] = []
    out = tmp_path / "m.onnx"
    made = export_checkpoint(tiny_run, precision=precision, out=out, engine="none", say=lines.append)
    assert made.onnx == out
    assert made.plan is None
    assert made.agreement.steps >= 256
    assert made.agreement.within(LIMITS[precision])
    assert any("agrees with eager PyTorch over 2 x 256 recurrent steps" in line for line in lines)
    onnx.checker.check_model(onnx.load(out), full_check=True)
    assert open_onnx(out).card.precision == precision
    assert {FIELDS, GRAPH, PROBE} <= {entry.key for entry in onnx.load(out).metadata_props}


def test_the_default_name_is_the_runs(tiny_run):
    made = export_checkpoint(tiny_run, engine="none")
    assert made.onnx == tiny_run / f"{tiny_run.name}.onnx"
    # A checkpoint inside the run goes to the same place.
    assert export_checkpoint(tiny_run / "last", engine="none").onnx == made.onnx


@needs_rtx
@pytest.mark.rtx
def test_the_plan_is_built_without_a_gpu(tiny_run, tmp_path):
    out = tmp_path / "charlm.onnx"
    made = export_checkpoint(tiny_run, precision="float16", out=out, engine="tensorrt-rtx", batch=(1, 2, 4))
    assert made.plan == tmp_path / "charlm.plan"
    assert read_header(made.plan).flavour == "tensorrt-rtx"
    sidecar = read_sidecar(made.plan)
    assert sidecar.card == open_onnx(out).card
    assert sidecar.profiles == ((1, 1, 1), (1, 2, 4))
    # Exporting again without a plan must not leave the old one beside a new graph.
    again = export_checkpoint(tiny_run, out=out, engine="none")
    assert again.plan is None
    names = {path.name for path in tmp_path.iterdir() if not path.name.endswith("tuning.json")}
    kept = {f"charlm.float16.{end}" for end in ("onnx", "plan", "plan.json")}
    assert names == {"charlm.onnx"} | kept
    assert read_sidecar(tmp_path / "charlm.float16.plan") == sidecar


def test_a_graph_out_of_tolerance_is_not_written(tiny_run, tmp_path, monkeypatch):
    """Swap two gates on the way: everything has the right shape, and nothing is right."""
    from p2.export import graph
    from p2.export.step import Folded

    real = Folded.split

    def swapped(layer, gates):
        sigmoids, last = real(layer, gates)
        return sigmoids.flip(1), last

    monkeypatch.setattr(Folded, "split", swapped)
    monkeypatch.setattr(graph, "_trace", inspect.unwrap(graph._trace))
    with pytest.raises(ToleranceExceeded, match=r"out of tolerance over 256 steps, so it was not written"):
        export_checkpoint(tiny_run, out=tmp_path / "m.onnx", engine="none")
    assert list(tmp_path.iterdir()) == []


def test_state_that_drifts_is_noticed(tiny_run, tmp_path, monkeypatch):
    """A graph that is right on the first step only: its state never moves on."""
    made = export_checkpoint(tiny_run, out=tmp_path / "m.onnx", engine="none")
    from p2.trainer.eager import open_checkpoint

    model = onnx.load(made.onnx)
    for node in model.graph.node:
        for index, name in enumerate(node.output):
            if name == "h_00_out":
                node.output[index] = "h_00_new"
        for index, name in enumerate(node.input):
            if name == "h_00_out":
                node.input[index] = "h_00_new"
    model.graph.node.append(onnx.helper.make_node("Identity", ["h_00_in"], ["h_00_out"]))
    with pytest.raises(ToleranceExceeded):
        verify.verify(model.SerializeToString(), open_checkpoint(tiny_run), "int8")


def test_impossible_calls_are_sentences(tiny_run, tmp_path):
    for arguments, error, words in (
        ({"precision": "int3"}, UsageError, "unknown precision"),
        ({"engine": "cuda"}, UsageError, "unknown engine"),
        ({"out": tmp_path / "m.plan"}, UsageError, "--out names the .onnx file"),
        ({"engine": "tensorrt"}, BackendMissing, r"pip install .*\[gpu\]"),
    ):
        with pytest.raises(error, match=words):
            export_checkpoint(tiny_run, **arguments)
    with pytest.raises(P2Error, match="there is no checkpoint"):
        export_checkpoint(tmp_path / "absent")


@pytest.mark.parametrize(
    ("capability", "extras"), [(None, {"rtx"}), ((8, 9), {"gpu", "rtx"}), ((9, 0), {"gpu"})]
)
def test_without_any_tensorrt_the_extra_is_named_that_this_gpu_can_use(capability, extras, monkeypatch):
    devices = (nvidia.Gpu("NVIDIA X", capability, 1 << 30),) if capability else ()
    monkeypatch.setattr(nvidia, "gpus", lambda: nvidia.Gpus(devices))
    monkeypatch.setattr(nvidia, "installed", lambda flavour: False)
    builder, note = exporter._choose_builder("auto")
    assert builder is None
    assert {extra for extra in ("gpu", "rtx") if install(extra) in note} == extras


@pytest.mark.parametrize("text", ["", "1,2", "1,2,x", "0,1,2", "2,1,3", "1,3,2"])
def test_batches_must_ascend(text):
    with pytest.raises(UsageError, match="batch"):
        parse_batch(text)


def test_a_graph_too_large_for_one_file_is_refused(monkeypatch, tiny_run, tmp_path):
    from p2.export import graph

    monkeypatch.setattr(graph, "MAX_BYTES", 1000)
    with pytest.raises(P2Error, match="one ONNX file holds at most 2 GiB"):
        export_checkpoint(tiny_run, out=tmp_path / "m.onnx", engine="none")
    # What is no smaller is no advice.
    with pytest.raises(P2Error, match=r"smaller --precision \(float8, int8 or int4\)$"):
        export_checkpoint(tiny_run, precision="float16", out=tmp_path / "m.onnx", engine="none")


def test_exporter_lists_the_builders_that_exist():
    from p2.contract.plan import FLAVOURS

    assert set(exporter.ENGINES) == {"auto", "none", *FLAVOURS}


@needs_rtx
@pytest.mark.rtx
def test_a_refusal_leaves_the_graph_but_a_full_disk_is_a_failure(tiny_run, tmp_path, monkeypatch):
    from p2.export import builder

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(builder, "build_plan", refuse)
    error = BuilderRefused("odd volumes are not for me")
    made = export_checkpoint(tiny_run, out=tmp_path / "m.onnx")
    assert made.plan is None
    assert "odd volumes" in made.plan_note
    with pytest.raises(BuilderRefused):
        export_checkpoint(tiny_run, out=tmp_path / "m.onnx", engine="tensorrt-rtx")
    error = P2Error("cannot write m.plan: the disk is full")
    with pytest.raises(P2Error, match="disk is full"):
        export_checkpoint(tiny_run, out=tmp_path / "m.onnx")


def test_tied_weights_are_exported_as_they_are(tmp_path):
    """The folded embedding is the output layer's matrix; the graph agrees with eager PyTorch."""
    text = tmp_path / "text.txt"
    text.write_text(TINY_TEXT)
    shape = {"embedding": 32, "hidden": 32, "seq_len": 8, "batch_size": 4, "precision": "float32"}
    run = p2.train([text], tied=True, steps=3, val_fraction=0.0, out=tmp_path / "run", **shape).folder
    state = checkpoint.load(run).model_state
    assert torch.equal(state["embedding.weight"], state["output.weight"])
    made = export_checkpoint(run, engine="none")
    assert made.agreement.steps >= 256
    assert made.agreement.within(LIMITS["float32"])
    with p2.load(run) as eager, p2.load(made.onnx) as exported:
        said = (model.logprobs("she sells sea shells") for model in (eager, exported))
        np.testing.assert_allclose(*said, atol=1e-4)
