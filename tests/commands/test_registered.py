"""The command line registers a file a command, and most of them are calls of the Python API."""

from __future__ import annotations

import builtins
import inspect
import keyword
from pathlib import Path

import pytest

from p2 import api
from p2 import commands as room
from p2.cli import app, main
from p2.contract.errors import P2Error

BESIDE = {"__init__", "shared", "inspection", "demonstration"}  # what is no command


def test_a_file_is_a_command():
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    names += [group.name for group in app.registered_groups]
    files = {path.stem for path in Path(room.__file__).parent.glob("*.py")} - BESIDE
    modules = {name.replace("-", "_") for name in names}
    assert {
        f"{name}_" if keyword.iskeyword(name) or hasattr(builtins, name) else name for name in modules
    } == files
    assert len(names) == len(files)


@pytest.mark.parametrize(
    ("argv", "function", "given"),
    [
        (["train", "a", "b", "--resume", "--steps", "7"], "train", {"texts": ["a", "b"], "steps": 7}),
        (["import", "x.pt", "--vocab", "v.json"], "import_model", {"vocab": Path("v.json"), "mapping": None}),
        (["tokenize", "a", "--column", "c", "-o", "b"], "tokenize", {"column": "c", "out": Path("b")}),
        (["export", "x", "--fp16", "--batch", "1,2,4"], "export", {"precision": "float16", "batch": "1,2,4"}),
        (["export", "x", "--precision", "int8"], "export", {"precision": "int8"}),
        (["generate", "--engine", "x.onnx", "--threads", "3"], "load", {"engine": "x.onnx", "threads": 3}),
        (["generate", "--tau", "2", "--stop", "a"], "request", {"tau": 2.0, "stop": ["a"], "top_k": 0}),
        (
            ["eval", "x.onnx", "y.onnx", "t.txt"],
            "evaluate",
            {"engines": ["x.onnx", "y.onnx"], "text": "t.txt"},
        ),
        (["parity", "x.onnx", "--json", "r.json"], "parity", {"engines": ["x.onnx"], "json": Path("r.json")}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_there_is_no_second_way(argv, function, given, tmp_path, capsys, monkeypatch):
    """The command hands its options to the function and does nothing beside it."""
    monkeypatch.chdir(tmp_path)
    signature, asked = inspect.signature(getattr(api, function)), {}

    def called(*args, **options):
        bound = signature.bind(*args, **options).arguments
        asked.update(bound, **bound.get("options", {}))
        raise P2Error("called")

    monkeypatch.setattr(api, function, called)
    assert main(argv) == 1
    assert capsys.readouterr().err.endswith("p2: called\n")
    assert {name: asked[name] for name in given} == given
    if "quiet" in signature.parameters:
        assert asked["quiet"] is False
    assert not list(tmp_path.iterdir())
