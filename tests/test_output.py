"""A reader that leaves, a full disk, streams that are closed: no work whose result is a file is lost."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from p2.cli import main
from p2.export.exporter import export_checkpoint

TRAIN = shlex.split(
    "train text.txt --steps 4 --hidden 16 --embedding 8 --layers 1 --seq-len 16 --batch-size 4 --val-every 2"
)
GRADIENTS = shlex.split("practical gradients --hidden 4 --updates 2 -T 3 --sequences 8 --out practical")

# The commands whose result is a file, and the file.
WRITERS = [
    (TRAIN, "artifacts/charlm/best/model.json"),
    (["export", "run", "--engine", "none", "--out", "new.onnx"], "new.onnx"),
    (
        shlex.split("parity old.onnx --checkpoint run --steps 4 --characters 4 --json parity.json"),
        "parity.json",
    ),
    (GRADIENTS, "practical/gradients.json"),
]


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    """A run, its engine and a text, made once."""
    folder = tmp_path_factory.mktemp("output")
    shutil.copytree(trained(), folder / "run")
    export_checkpoint(folder / "run", out=folder / "old.onnx", engine="none")
    (folder / "text.txt").write_text("she sells sea shells by the sea shore.\n" * 40)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for _, result in WRITERS:
        Path(result).unlink(missing_ok=True)
    return folder


def nobody_reads() -> io.TextIOWrapper:
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w")


def full_disk() -> io.TextIOWrapper:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    return open("/dev/full", "w")


@pytest.mark.parametrize(("argv", "result"), WRITERS, ids=lambda value: value[0] if value else "")
def test_a_reader_that_leaves_stops_no_work_whose_result_is_a_file(argv, result, here, monkeypatch):
    with nobody_reads() as out, nobody_reads() as err:
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        assert main(argv) == 0
    assert Path(result).exists()


@pytest.mark.parametrize(("argv", "result"), WRITERS[:1], ids=lambda value: value[0] if value else "")
def test_a_full_disk_behind_stdout_is_said_once_the_work_is_done(argv, result, here, monkeypatch, capsys):
    with full_disk() as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(argv) == 1
    assert capsys.readouterr().err.endswith("p2: cannot write the output: the disk is full\n")
    assert Path(result).exists()


@pytest.mark.parametrize(
    "options",
    [["--length", "100000000"], ["--num-samples", "1000000"], ["--jsonl", "--num-samples", "1000000"]],
    ids=" ".join,
)
def test_generate_stops_when_its_reader_leaves(options, here, monkeypatch):
    with nobody_reads() as out:
        monkeypatch.setattr(sys, "stdout", out)
        # Would take minutes if it went on.
        assert main(["generate", "--engine", "old.onnx", *options]) == 0


@pytest.mark.parametrize("argv", [["inspect", "old.onnx"], ["--help"], ["train", "--help"]])
def test_a_reader_that_leaves_is_no_failure(argv, here, monkeypatch):
    with nobody_reads() as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(argv) == 0


def test_a_co_process_is_answered_line_by_line(here):
    """A program that sends the next prompt only when it has the answer to the last."""
    argv = [sys.executable, "-m", "p2.cli", *shlex.split("generate --engine old.onnx --length 5 --prompts -")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answers = []
        for lines in (b"the\n", b"\n", b"fox\nsea\nsh", b"ells\n"):
            process.stdin.write(lines)
            answers += [json.loads(process.stdout.readline())["prompt"] for _ in range(lines.count(b"\n"))]
        process.stdin.close()
        assert process.stdout.read() == b""
    assert answers == ["the", "", "fox", "sea", "shells"]
    assert process.returncode == 0


def test_in_a_shell_too(here):
    """With what the interpreter itself does at its end."""
    p2 = f"{sys.executable} -m p2.cli"
    train = f"{p2} {shlex.join(TRAIN)}"
    lines = f"{train} | true; echo ${{PIPESTATUS[0]}}; {p2} generate --prompts - <&- >&-; echo $?"
    done = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "1"]  # there is no charlm.onnx
    assert done.stderr == "p2: there is no charlm.onnx here (nor under artifacts/): `p2 train` and then" + (
        " `p2 export` make one\n"
    )
    assert Path(WRITERS[0][1]).exists()
