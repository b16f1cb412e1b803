"""Real TensorRT-RTX builds of hand-made step graphs, on any machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import pytest
from onnx import helper

from p2.contract.card import PRECISIONS
from p2.contract.errors import BackendMissing, ContractError, P2Error, UsageError
from p2.contract.files import sha256_of
from p2.contract.plan import TENSORRT, TENSORRT_RTX, read_header, read_sidecar, sidecar_path
from p2.export.builder import available, build_plan
from p2.runtime import nvidia

HAS_RTX = nvidia.installed(TENSORRT_RTX)
rtx = [pytest.mark.rtx, pytest.mark.skipif(not HAS_RTX, reason="tensorrt_rtx is not installed")]


def needs_rtx(test):
    for mark in rtx:
        test = mark(test)
    return test


@needs_rtx
@pytest.mark.parametrize("batch", [(1, 1, 1), (1, 4, 8)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_builds_a_plan_with_its_sidecar(precision, batch, step, tmp_path):
    path, card = step(precision, hidden=64)
    out = tmp_path / "charlm.plan"
    header = build_plan(path, card, out, engine="tensorrt-rtx", batch=batch)
    assert header == read_header(out)
    assert header.flavour == "tensorrt-rtx"
    assert header.version == nvidia.library(TENSORRT_RTX).version
    sidecar = read_sidecar(out)
    sidecar.check(out, out.stat().st_size, sha256_of(out))
    assert sidecar.card == card
    assert sidecar.header == header
    assert sidecar.onnx_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sidecar.float_type == ("float16" if precision == "float16" else "float32")
    assert sidecar.profiles == (((1, 1, 1),) if batch == (1, 1, 1) else ((1, 1, 1), batch))
    products = {"products": "matrix products"}
    if batch == (1, 1, 1) and not nvidia.gpus().devices:
        products = {"products": "sums", "products_by": {"weights": 64 * 4 * 64 + 64 * 30}}
    told = {"strongly_typed": True, "tf32": False, "profiling_verbosity": "DETAILED", "portable": True}
    assert sidecar.settings == told | products
    portable = ("sm80", "sm86", "sm89", "sm120", "sm121")
    assert sidecar.targets == header.targets == (portable if precision != "float8" else portable[2:])
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "charlm.onnx",
        "charlm.plan",
        "charlm.plan.json",
    ]


@needs_rtx
def test_progress_goes_through_every_phase_to_its_end(step, tmp_path):
    path, card = step()
    calls = []
    build_plan(
        path, card, tmp_path / "a.plan", engine="tensorrt-rtx", progress=lambda *call: calls.append(call)
    )
    assert {phase for phase, done, _ in calls if done == 0} == {
        phase for phase, done, steps in calls if done == steps
    }
    assert all(0 <= done <= steps for _, done, steps in calls)


@needs_rtx
@pytest.mark.parametrize("where", ["log", "progress"])
def test_ctrl_c_during_a_build_leaves_nothing(where, step, tmp_path):
    path, card = step()

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx", **{where: interrupt})
    assert [file.name for file in tmp_path.iterdir()] == ["charlm.onnx"]
    build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")  # and the next one works


@needs_rtx
def test_a_second_build_replaces_the_pair(step, tmp_path):
    out = tmp_path / "charlm.plan"
    for hidden in (32, 64):
        path, card = step(hidden=hidden)
        build_plan(path, card, out, engine="tensorrt-rtx")
        sidecar = read_sidecar(out)
        sidecar.check(out, out.stat().st_size, sha256_of(out))
        assert sidecar.card.hidden == hidden


@needs_rtx
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_blocks_that_tensorrt_would_read_wrongly_are_refused(precision, step, tmp_path):
    # 40 rows in blocks of 32 make 2 scales: TensorRT would take blocks of 20.
    path, card = step(precision, hidden=40)
    with pytest.raises(
        P2Error, match="w_00_q has 40 rows in blocks of 32, and TensorRT takes whole blocks only"
    ):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")
    assert not (tmp_path / "a.plan").exists()
    path, card = step(precision, hidden=40, block=20)
    build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")


def rename(old, new):
    def change(model):
        for tensor in (*model.graph.input, *model.graph.output):
            tensor.name = new if tensor.name == old else tensor.name
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    return change


def drop_logits(model):
    del model.graph.output[0]


@needs_rtx
@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        (rename("c_00_in", "cell_in"), "c_00_in"),
        (rename("h_00_in", "hidden"), "h_00_in"),
        (drop_logits, "logits"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(change, tensor, step, tmp_path):
    path, card = step(change=change)
    with pytest.raises(ContractError, match=rf"breaks the step contract \(tensor {tensor}\)"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")


@needs_rtx
def test_the_card_of_another_model_is_refused(step, tmp_path):
    path, card = step()
    with pytest.raises(ContractError, match="breaks the step contract"):
        build_plan(path, card.with_(hidden=64), tmp_path / "a.plan", engine="tensorrt-rtx")


@needs_rtx
@pytest.mark.parametrize("data", [b"", b"nonsense" * 50])
def test_what_is_no_graph_is_refused(data, step, tmp_path):
    path, card = step()
    path.write_bytes(data)
    with pytest.raises(ContractError, match=r"charlm.onnx (is damaged|breaks the step contract)"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")


@needs_rtx
def test_what_tensorrt_refuses_is_said_with_its_reason(step, tmp_path):
    def change(model):
        model.graph.node[-1].input[0] = "random"
        model.graph.node.insert(0, helper.make_node("Multinomial", ["h_00_in"], ["random"], sample_size=30))

    path, card = step(change=change)
    with pytest.raises(
        P2Error, match=r"TensorRT-RTX \S+ could not read the graph .*charlm.onnx\): .*Multinomial"
    ):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")


@needs_rtx
def test_a_missing_graph_and_an_unwritable_place_are_one_sentence(step, tmp_path):
    path, card = step()
    with pytest.raises(P2Error, match=r"cannot read .*none.onnx: no such file"):
        build_plan(tmp_path / "none.onnx", card, tmp_path / "a.plan", engine="tensorrt-rtx")
    with pytest.raises(P2Error, match=r"cannot write .*a.plan"):
        build_plan(path, card, path / "a.plan", engine="tensorrt-rtx")


@needs_rtx
def test_a_crash_between_plan_and_sidecar_is_noticed(step, tmp_path):
    path, card = step()
    out = tmp_path / "a.plan"
    build_plan(path, card, out, engine="tensorrt-rtx")
    old = sidecar_path(out).read_bytes()
    path, card = step(hidden=64)
    build_plan(path, card, out, engine="tensorrt-rtx")
    sidecar_path(out).write_bytes(old)
    with pytest.raises(ContractError, match=r"is not the plan that a.plan.json describes"):
        read_sidecar(out).check(out, out.stat().st_size, sha256_of(out))


@pytest.mark.parametrize("batch", [(0, 1, 1), (2, 1, 4), (1, 5, 4), (-1, -1, -1)])
def test_batches_out_of_order(batch, step, tmp_path):
    path, card = step()
    with pytest.raises(UsageError, match="give min,opt,max in ascending order, from 1 up"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx", batch=batch)


def test_an_unknown_engine(step, tmp_path):
    path, card = step()
    with pytest.raises(UsageError, match="unknown engine 'openvino': choose one of tensorrt, tensorrt-rtx"):
        build_plan(path, card, tmp_path / "a.plan", engine="openvino")


@pytest.mark.parametrize(("engine", "extra"), [("tensorrt", "gpu"), ("tensorrt-rtx", "rtx")])
def test_a_builder_that_is_not_installed_names_its_extra(engine, extra, step, tmp_path, monkeypatch):
    nvidia.library.cache_clear()
    monkeypatch.setattr(nvidia, "installed", lambda flavour: False)
    path, card = step()
    with pytest.raises(BackendMissing, match=rf"pip install .*\[{extra}\]"):
        build_plan(path, card, tmp_path / "a.plan", engine=engine)
    assert available() == []


GPUS = nvidia.Gpus((nvidia.Gpu("NVIDIA Test", (9, 0), 1 << 30),))
NONE = nvidia.Gpus(problem="no NVIDIA driver is installed")


@pytest.mark.parametrize(
    ("installed", "gpus", "names"),
    [
        ((), GPUS, []),
        ((TENSORRT_RTX,), NONE, ["tensorrt-rtx"]),
        ((TENSORRT, TENSORRT_RTX), NONE, ["tensorrt-rtx"]),
        ((TENSORRT, TENSORRT_RTX), GPUS, ["tensorrt", "tensorrt-rtx"]),
        ((TENSORRT,), NONE, []),
    ],
)
def test_available_builders(installed, gpus, names, monkeypatch):
    monkeypatch.setattr(nvidia, "installed", lambda flavour: flavour in installed)
    monkeypatch.setattr(nvidia, "gpus", lambda: gpus)
    assert available() == names


@needs_rtx
def test_a_build_needs_no_torch(step, tmp_path):
    path, card = step()
    code = (
        "import json, sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from p2.export.builder import build_plan\n"
        "from p2.contract.card import Card\n"
        "card = Card.from_dict(json.loads(sys.argv[1]), '')\n"
        "print(build_plan(Path(sys.argv[2]), card, Path(sys.argv[3]), engine='tensorrt-rtx'))"
    )
    command = [sys.executable, "-c", code, json.dumps(card.to_dict()), path, tmp_path / "a.plan"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout == f"{read_header(tmp_path / 'a.plan')}\n", run.stderr
