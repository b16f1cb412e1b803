"""An export over another model's files: those are kept, and a kill at any moment loses nothing."""

from __future__ import annotations

import hashlib
import os
import types

import numpy as np
import onnx
import pytest

from p2.contract.agreement import Agreement
from p2.contract.errors import P2Error
from p2.contract.files import write_bytes
from p2.contract.plan import Sidecar, read_sidecar, sidecar_path, write_sidecar
from p2.export import builder, graph, verify
from p2.export.aside import Place
from p2.export.exporter import export_checkpoint
from p2.runtime.step_file import open_step
from p2.trainer import checkpoint as checkpoints


class Killed(BaseException):
    pass


@pytest.fixture
def export(tiny_run, tmp_path, monkeypatch, card_of, write_step):
    """Export for real but for the slow parts: ``export(precision, checkpoint=...)`` -> lines."""
    out = tmp_path / "out" / "charlm.onnx"
    loaded = checkpoints.load(tiny_run)
    small = [card_of("gru", precision=precision) for precision in ("float32", "float16", "int8")]
    models = {card.precision: onnx.load(write_step(card)) for card in small}

    def step_graph(card, *_):
        model = models[card.precision]
        values = {entry.key: entry.value for entry in model.metadata_props}
        values.pop("p2.probe", None)
        own = {"p2.checkpoint_sha256": f'"{card.checkpoint_sha256}"'}
        onnx.helper.set_model_props(model, values | own)
        graph.stamp(model)
        return model

    def build_plan(path, card, plan, **_):
        data = b"vtrt" + bytes(range(60)) + card.precision.encode() + card.checkpoint_sha256[:4].encode()
        shas = [hashlib.sha256(content).hexdigest() for content in (path.read_bytes(), data)]
        write_sidecar(
            plan,
            Sidecar(card, "tensorrt-rtx", "1.7.1.116", *shas, len(data), "float32", ((1, 1, 1),), {}, "now"),
        )
        write_bytes(plan, data)
        return "a plan"

    tokens, logits = np.zeros((2, 16), np.int64), np.zeros((2, 16, 30), np.float32)
    agreed = verify.Verified(Agreement(1, 0, 0, 0, 0), tokens, logits, logits)
    monkeypatch.setattr(graph, "step_graph", step_graph)
    monkeypatch.setattr(verify, "verify", lambda *_: agreed)
    monkeypatch.setattr(verify, "read_back", lambda *_: None)
    monkeypatch.setattr(builder, "available", lambda: ["tensorrt-rtx"])
    monkeypatch.setattr(builder, "build_plan", build_plan)

    def run(precision="float32", checkpoint="a", engine="auto"):
        lines = []
        card = loaded.card.with_(checkpoint_sha256=checkpoint * 64)
        monkeypatch.setattr(
            checkpoints, "load", lambda _: types.SimpleNamespace(**vars(loaded) | {"card": card})
        )
        export_checkpoint(tiny_run, precision=precision, out=out, engine=engine, say=lines.append)
        return lines

    run.folder = out.parent
    return run


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith(".part")}


def assert_pairs_match(folder):
    """No plan that would run lies beside a graph that it was not built from."""
    for plan in folder.glob("*.plan"):
        if not sidecar_path(plan).exists():
            continue
        sidecar = read_sidecar(plan)
        if sidecar.plan_sha256 == hashlib.sha256(plan.read_bytes()).hexdigest():
            beside = plan.with_suffix(".onnx").read_bytes()
            assert sidecar.onnx_sha256 == hashlib.sha256(beside).hexdigest(), plan.name


def test_another_precision_is_kept_with_its_plan(export):
    export("float32")
    before = contents(export.folder)
    lines = export("float16")
    assert sum("was float32: kept as" in line for line in lines) == 1
    after = contents(export.folder)
    for name, data in before.items():
        assert after[name.replace("charlm", "charlm.float32")] == data
    assert open_step(export.folder / "charlm.onnx").card.precision == "float16"
    assert read_sidecar(export.folder / "charlm.plan").card.precision == "float16"
    assert len(after) == 6
    assert_pairs_match(export.folder)


def test_its_own_files_are_replaced_and_a_plan_of_the_same_graph_stays(export):
    export("int8")
    before = contents(export.folder)
    lines = export("int8", engine="none")
    assert contents(export.folder) == before
    assert not any("removed" in line or "kept" in line for line in lines)


def test_there_and_back_keeps_one_of_each(export):
    for precision in ("float32", "float16", "float32", "float16", "float32"):
        export(precision)
    names = {path.name for path in export.folder.glob("*.onnx")}
    assert names == {"charlm.onnx", "charlm.float16.onnx", "charlm.float32.onnx"}
    assert_pairs_match(export.folder)


def test_another_checkpoint_is_kept_and_taken_names_are_numbered(export):
    for checkpoint in "abc":
        export("float32", checkpoint)
    (export.folder / "charlm.float32.3.onnx").write_text("my own notes")
    export("float32", "d")
    found = {
        path.name: Place(path).held()[0] for path in export.folder.glob("*.onnx") if ".3." not in path.name
    }
    assert {name: held.checkpoint[0] for name, held in found.items()} == {
        "charlm.onnx": "d",
        "charlm.float32.onnx": "a",
        "charlm.float32.2.onnx": "b",
        "charlm.float32.4.onnx": "c",
    }
    assert (export.folder / "charlm.float32.3.onnx").read_text() == "my own notes"
    assert_pairs_match(export.folder)


@pytest.mark.parametrize("name", ["charlm.onnx", "charlm.plan", "charlm.plan.json"])
def test_what_p2_did_not_make_is_refused(name, export):
    export.folder.mkdir()
    (export.folder / name).write_text("somebody's")
    with pytest.raises(
        P2Error, match=rf"{name} is there already, and is no file that p2 can read back: .*--out"
    ):
        export()
    assert contents(export.folder) == {name: b"somebody's"}


@pytest.mark.parametrize(
    ("then", "links"),
    [(("float16", "a"), True), (("float16", "a"), False), (("float32", "b"), True), (("float32", "a"), True)],
)
def test_killed_before_every_file_operation(then, links, export, monkeypatch):
    names = ["replace", "link", "unlink", "rename", "fsync", "chmod"]
    real = {name: getattr(os, name) for name in names}
    left = [10**6]

    def counted(name):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            if name == "link" and not links:
                raise OSError("no links here")
            return real[name](*arguments, **options)

        return call

    for name in names:
        monkeypatch.setattr(os, name, counted(name))
    export("float32", "a")
    original = contents(export.folder)
    export(*then)
    finished = contents(export.folder)
    operations = 0
    while True:
        for path in export.folder.iterdir():
            real["unlink"](path)
        for name, data in original.items():
            (export.folder / name).write_bytes(data)
        left[0] = operations
        try:
            export(*then)
        except Killed:
            left[0] = 10**6
        else:
            break
        found = contents(export.folder)
        assert_pairs_match(export.folder)
        if then != ("float32", "a"):
            assert set(original.values()) <= set(found.values())
        export(*then)  # the next one finishes what was begun
        assert contents(export.folder) == finished
        operations += 1
    assert operations >= 8
