"""What all commands have in common: one after the other, and their answers to what is no file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2 import __version__
from p2.cli import main
from p2.contract.plan import TENSORRT_RTX
from p2.runtime.nvidia import gpus, installed


def test_the_three_commands_one_after_the_other(here, capsys, tiny_run, fails):
    """As a person types them; only the training is replaced by one that is already done."""
    (here / "artifacts").mkdir()
    tiny_run.rename(here / "artifacts" / "charlm")
    assert main(["export", "--fp16"]) == 0
    capsys.readouterr()
    assert Path("artifacts/charlm/charlm.onnx").exists()
    # The builder that needs no GPU must have built; without it there is no plan to speak of.
    assert Path("artifacts/charlm/charlm.plan").exists() or not installed(TENSORRT_RTX)
    if not gpus().devices and installed(TENSORRT_RTX):
        said = fails("generate", "--engine", "charlm.plan", code=1)
        assert said.strip() == (
            "p2: charlm.plan needs an NVIDIA GPU and there is none here:"
            " p2 generate --engine charlm.onnx runs the same model on this machine"
        )
        assert "--threads is for" in fails("generate", "--engine", "charlm.plan", "--threads", "2", code=2)
    assert main(["generate", "--engine", "charlm.onnx", "--length", "50", "--seed", "1"]) == 0
    assert len(capsys.readouterr().out) >= 50


def test_a_command_that_there_is_not(fails):
    assert "No such command 'frobnicate'" in fails("frobnicate", code=2)


@pytest.mark.parametrize(
    "argv",
    [
        *(
            ["train", ""],
            ["train", "--out", ""],
            ["train", "text.txt", "--init-from", ""],
            ["train", "--vocab-from="],
        ),
        *(
            ["export", ""],
            ["export", "--out", ""],
            ["import", "x.pt", "--vocab", ""],
            ["generate", "--engine", ""],
            ["generate", "--prompt-file", ""],
        ),
        *(
            ["generate", "--prompts", ""],
            ["parity", ""],
            ["parity", "--checkpoint", ""],
            ["parity", "--text="],
        ),
        *(
            ["parity", "--json", ""],
            ["inspect", ""],
            ["bench", ""],
            ["bench", "--text", ""],
            ["bench", "--out", ""],
        ),
        *(["bench", "compare", "a.json", ""], ["bench", "profile", ""], ["practical", "text", ""]),
        *(
            ["practical", "text", "book.txt", "--out", ""],
            ["practical", "report", "--out="],
            ["gpu-check", "--out", ""],
        ),
    ],
    ids=" ".join,
)
def test_an_empty_path_is_not_the_working_folder(argv, here, fails):
    (here / "text.txt").write_text("x")
    assert "is empty (an unset variable?)" in fails(*argv, code=2)
    assert [path.name for path in here.iterdir()] == ["text.txt"]


@pytest.mark.parametrize("kind", ["pipe", "null", "loop", "nowhere", "below a file"])
@pytest.mark.parametrize(
    "argv",
    [
        ["generate", "--engine", "X.onnx"],
        ["inspect", "X.plan"],
        ["parity", "X.onnx"],
        ["bench", "profile", "X.onnx"],
        ["export", "X"],
        ["train", "text.txt", "--steps", "1", "--hidden", "8", "--seq-len", "4", "--out", "X"],
    ],
    ids=lambda argv: argv[0],
)
def test_what_is_neither_a_file_nor_a_folder_is_answered(argv, kind, here, fails):
    """None of them waits, none ends in a traceback, none writes in its place."""
    (here / "text.txt").write_text("she sells sea shells\n" * 4)
    for path in (here / "X.onnx", here / "X.plan", here / "X"):
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "below a file":
            path.touch()
        else:
            path.symlink_to({"null": os.devnull, "loop": path, "nowhere": here / "no" / "way"}[kind])
    words = [f"{w}/below" if w.startswith("X") and kind == "below a file" else w for w in argv]
    if argv[0] == "train" and kind == "nowhere":
        pytest.skip("a link to a folder that is still to be made")
    assert "X" in fails(*words, code=1)


@pytest.mark.parametrize("name", ["; rm x", "it's $(rm x)", "-x", "a\n\x1b[31mb"])
def test_a_command_to_paste_means_the_folder_that_it_names(name, here, pasted):
    """Whatever it is called; and no name breaks a line or reaches the terminal as it is."""
    folder = f"./{name}" if name.startswith("-") else name
    argv = ["parity", f"--checkpoint={name}"]
    assert pasted(argv, 1, "`", "`") == ["p2", "export", folder]
    argv = ["train", "--resume", f"--out={name}"]
    assert pasted(argv, 1, "`", "`") == ["p2", "train", "--out", name]


def test_damaged_files_are_answered(engine, fails):
    whole = engine.read_bytes()
    engine.write_bytes(whole[: len(whole) // 2])
    assert "charlm.onnx is damaged" in fails("generate", code=1)
    assert "charlm.onnx is damaged" in fails("inspect", code=1)
    Path("charlm.plan").write_bytes(b"ftrt" + bytes(40))
    assert "charlm.plan" in fails("generate", "--engine", "charlm.plan", code=1)


def test_a_shell_can_complete(monkeypatch, capsys):
    monkeypatch.setenv("_P2_COMPLETE", "complete_bash")
    for words, found in (("p2 gen", "generate"), ("p2 bench --qu", "--quick")):
        monkeypatch.setenv("COMP_WORDS", words)
        monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
        main([])
        assert capsys.readouterr().out.split() == [found]


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"p2 {__version__}"
    for command in (
        "train",
        "import",
        "export",
        "generate",
        "eval",
        "parity",
        "inspect",
        "doctor",
        "demo",
        "gpu-check",
    ):
        assert main([command, "--help"]) == 0
        assert "Usage:" in capsys.readouterr().out
