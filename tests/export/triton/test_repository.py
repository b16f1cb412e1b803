"""What `p2 export --triton` lays out, adds, leaves alone and refuses."""

from __future__ import annotations

import os

import pytest

from p2.cli import main
from p2.contract.errors import P2Error, UsageError
from p2.contract.plan import Sidecar, write_sidecar
from p2.export import exporter
from p2.export.triton import repository
from p2.export.triton.repository import Repository


def put(models, onnx, name="m", plan=None):
    said = []
    repo = Repository(models, name)
    repo.check()
    repo.put(onnx, plan, said.append)
    return said


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def onnx(card_of, write_step):
    return write_step(card_of())


def test_what_is_there(models, onnx):
    put(models, onnx)
    assert sorted(tree(models)) == [
        "m/1/model.onnx",
        "m/1/model.py",
        "m/config.pbtxt",
        "m_step/1/model.onnx",
        "m_step/config.pbtxt",
    ]
    assert (models / "m_step/1/model.onnx").read_bytes() == onnx.read_bytes()
    assert (models / "m_step").stat().st_mode & 0o777 == models.stat().st_mode & 0o777


@pytest.fixture
def plan(card_of, tmp_path):
    """A plan of TensorRT, as far as its sidecar goes."""

    def make(data=b"ftrt", flavour="tensorrt", most=8):
        path = tmp_path / "charlm.plan"
        path.write_bytes(data)
        profiles = ((1, 1, 1), (1, most, most))
        sidecar = Sidecar(
            card_of(), flavour, "10.1.0.27", "a", "b", len(data), "float32", profiles, {}, "now"
        )
        write_sidecar(path, sidecar)
        return path

    return make


def test_a_plan_has_its_sidecar_beside_it(models, onnx, plan):
    assert len(put(models, onnx, plan=plan())) == 3
    assert {"m_plan/1/model.plan", "m_plan/1/model.plan.json"} <= set(tree(models))
    assert put(models, onnx)[0] == f"{models / 'm_plan'} stays as an earlier export made it"
    put(models, onnx, plan=plan(b"ftrt again"))
    assert (models / "m_plan/2/model.plan").read_bytes() == b"ftrt again"
    with pytest.raises(P2Error, match="m_plan holds a model of another shape"):
        put(models, onnx, plan=plan(most=16))


def test_a_plan_that_triton_cannot_run_is_left_out(models, onnx, plan):
    said = put(models, onnx, plan=plan(flavour="tensorrt-rtx"))
    assert said[0] == "charlm.plan is not put in: Triton runs plans of TensorRT, not of TensorRT-RTX"
    assert not (models / "m_plan").exists()


def test_other_weights_are_the_next_version(models, onnx, card_of, write_step):
    put(models, onnx)
    edited = models / "m_step" / "config.pbtxt"
    edited.write_text(edited.read_text() + "# ours\n")
    before = tree(models)
    assert put(models, onnx)[0] == f"{models / 'm_step' / '1'} is this model already (the step, ONNX Runtime)"
    assert tree(models) == before
    other = write_step(card_of(), seed=1, name="other.onnx")
    put(models, other)
    after = tree(models)
    assert {name: after[name] for name in before} == before
    assert after["m_step/2/model.onnx"] == after["m/2/model.onnx"] == other.read_bytes()
    assert not {"m/2/config.pbtxt", "m/1/config.pbtxt"} & set(after)


@pytest.mark.parametrize(
    "changes",
    [{"precision": "float16"}, {"layers": 1}, {"cell": "gru"}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_model_of_another_shape_is_refused(changes, models, onnx, card_of, write_step):
    put(models, onnx)
    before = tree(models)
    other = write_step(card_of(**changes), name="other.onnx")
    with pytest.raises(P2Error, match="m_step holds a model of another shape"):
        put(models, other)
    assert tree(models) == before


def test_what_is_not_ours_is_refused_before_any_work(models, tiny_run, capsys):
    (models / "charlm_step" / "1").mkdir(parents=True)
    (models / "charlm_step" / "1" / "model.onnx").write_bytes(b"somebody's")
    (models / "charlm_step" / "config.pbtxt").touch()
    before = tree(models)
    assert main(["export", str(tiny_run), "--engine", "none", "--triton", str(models)]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"{models / 'charlm_step'} is there already, and is no model that p2 exported" in said
    assert tree(models) == before
    assert not (tiny_run / "charlm.onnx").exists()


@pytest.mark.parametrize(
    "what", ["an empty folder", "a file", "a link to nowhere", "a version without a config"]
)
def test_any_other_thing_in_a_models_place_is_refused(what, models, onnx):
    models.mkdir()
    place = models / "m"
    if what == "a file":
        place.touch()
    elif what == "a link to nowhere":
        place.symlink_to("nowhere")
    else:
        place.mkdir()
    if what == "a version alone":
        (place / "1").mkdir()
    with pytest.raises(P2Error, match="is no model that p2 exported"):
        put(models, onnx)
    assert os.path.lexists(place)


def test_a_file_is_no_repository(tmp_path, tiny_run, capsys):
    (tmp_path / "models").touch()
    assert main(["export", str(tiny_run), "--engine", "none", "--triton", str(tmp_path / "models")]) == 1
    assert "names the folder of a model repository, and" in capsys.readouterr().err


@pytest.mark.parametrize("step", ["_place", "os.rename"])
def test_a_failure_leaves_nothing_behind(step, models, onnx, monkeypatch):
    """Nor does a kill: what it left is removed by the next export."""

    def fail(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(repository.os if step.startswith("os") else repository, step.removeprefix("os."), fail)
        with pytest.raises(P2Error, match="the disk is full"):
            put(models, onnx)
    assert list(models.iterdir()) == []
    (models / ".p2.abcd1234" / "1").mkdir(parents=True)  # of a killed export
    put(models, onnx)
    assert sorted(path.name for path in models.iterdir()) == ["m", "m_step"]


def test_without_links_files_are_copied(models, onnx, monkeypatch):
    def refuse(*_):
        raise OSError

    monkeypatch.setattr(repository.os, "link", refuse)
    put(models, onnx)
    copy = models / "m_step" / "1" / "model.onnx"
    assert copy.read_bytes() == onnx.read_bytes()
    assert copy.stat().st_ino != onnx.stat().st_ino


def test_a_plan_must_serve_every_batch(models, tiny_run, monkeypatch):
    monkeypatch.setattr(exporter, "_choose_builder", lambda engine: ("tensorrt", ""))
    with pytest.raises(UsageError, match=r"--batch 4,\.\.\.: Triton makes batches of every size"):
        exporter.export_checkpoint(tiny_run, batch=(4, 8, 64), triton=models)
    assert not models.exists()
