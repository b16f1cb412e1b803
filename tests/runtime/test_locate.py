"""Finding an engine by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2.contract.errors import P2Error, UsageError
from p2.runtime.locate import locate, name_for


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def touch(name: str) -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    return touch


def test_the_working_folder_comes_first_then_artifacts(here):
    here("artifacts/charlm/charlm.onnx")
    assert locate("charlm.onnx") == (Path("artifacts/charlm/charlm.onnx"), "onnx")
    here("artifacts/charlm.onnx")
    assert locate("charlm.onnx") == (Path("artifacts/charlm.onnx"), "onnx")
    here("charlm.onnx")
    assert locate("charlm.onnx") == (Path("charlm.onnx"), "onnx")


def test_a_path_is_taken_as_it_is(here):
    here("artifacts/charlm/charlm.plan")
    assert locate("artifacts/charlm/charlm.plan")[1] == "plan"
    with pytest.raises(P2Error, match=r"there is no sub/charlm\.plan"):
        locate("sub/charlm.plan")


def test_folders_are_checkpoints(here):
    here("artifacts/charlm/model.json")
    assert locate("charlm") == (Path("artifacts/charlm"), "checkpoint")


def test_another_run_is_found_if_it_is_the_only_one(here):
    here("artifacts/book/big.onnx")
    assert locate("big.onnx")[0] == Path("artifacts/book/big.onnx")
    here("artifacts/other/big.onnx")
    with pytest.raises(P2Error, match="could be any of"):
        locate("big.onnx")


def test_what_is_no_engine_is_refused(here):
    here("text.txt")
    for name in ("text.txt", "absent.txt"):
        with pytest.raises(UsageError, match="is no engine"):
            locate(name)
    with pytest.raises(P2Error, match="p2 train"):
        locate("charlm.onnx")


def test_the_name_to_type_is_bare_where_that_is_enough(here):
    inside = here("artifacts/charlm/charlm.onnx")
    elsewhere = here("out/charlm.onnx")
    assert name_for(inside) == "charlm.onnx"
    assert name_for(elsewhere) == "out/charlm.onnx"
    assert name_for(here("out/other.onnx")) == "out/other.onnx"


def test_a_plan_that_was_never_built_names_the_graph_that_runs(here):
    here("artifacts/charlm/charlm.onnx")
    with pytest.raises(
        P2Error, match=r"no charlm\.plan here.*p2 generate --engine charlm\.onnx runs the same"
    ):
        locate("charlm.plan")
