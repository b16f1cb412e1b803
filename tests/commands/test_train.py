"""`p2 train` as a person uses it: what it prints, and its answer to everything that is wrong."""

from __future__ import annotations

import dataclasses
import errno
import inspect
import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from p2 import cli
from p2.commands.train import train
from p2.trainer import checkpoint
from p2.trainer.learner import Learner
from p2.trainer.options import TrainOptions
from p2.trainer.ranges import flag

from ..conftest import TINY_TEXT

SMALL = ["--embedding=4", "--hidden=8", "--seq-len=8", "--batch-size=4", "--steps=4", "--device=cpu"]


@pytest.fixture(autouse=True)
def without_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs."""
    monkeypatch.setattr("p2.trainer.curve.draw", lambda log, target: True)


@pytest.fixture
def text_file(here: Path) -> Path:
    path = here / "text.txt"
    path.write_text(TINY_TEXT)
    return path


@pytest.fixture
def p2(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run ``p2`` in an empty folder: ``p2("train", ...)`` -> exit code, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_run_says_what_it_did_and_what_is_next(p2: Callable, text_file: Path) -> None:
    code, out, err = p2("train", text_file, *SMALL)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert re.search(r"text\.txt: 3,360 characters, \d+ distinct, 336 held out", lines[0])
    assert re.search(r"model: lstm 2 x 8, [\d,]+ parameters; on cpu in \w+, 4 windows of 8", lines[1])
    assert "     4 held-out text: loss" in out
    assert lines[-3].startswith("done: 4 updates in 0:0")
    assert lines[-2] == "the model is in artifacts/charlm/best, the log in artifacts/charlm/log.jsonl"
    assert lines[-1] == "next: p2 export --fp16"


def test_every_option_reaches_the_run(p2: Callable, text_file: Path) -> None:
    values = {
        "cell": "gru", "gru_reset": "before", "layers": 3, "embedding": 7, "hidden": 7, "dropout": 0.25,
        "seq_len": 6, "batch_size": 3, "lr": 0.002, "lr_decay": 0.5, "steps": 2, "clip": 0.75, "seed": -9,
        "device": "cpu", "precision": "bfloat16", "val_fraction": 0.2, "val_every": 1,
        "encoding": "latin-1", "encoding_errors": "skip", "column": "said", "threads": 1,
        "vocab_from": "vocab.jsonl", "keep_at_accuracy": "0.9,0.8",
        "output_dropout": 0.1, "embedding_dropout": 0.2, "recurrent_dropout": 0.3, "weight_drop": 0.35,
        "weight_decay": 0.01, "ema": 0.9, "schedule": "step", "decay_every": 2, "warmup": 1, "patience": 3,
        "accumulate": 2,
    }  # fmt: skip
    arguments = [part for name, value in values.items() for part in (flag(name), str(value))]
    Path("vocab.jsonl").write_text('{"said": "abc"}', encoding="utf-8")
    text_file.write_text(json.dumps({"said": TINY_TEXT}))
    flags = ("--stateful", "--tied", "--variational")
    code, _, err = p2("train", text_file, *arguments, *flags, "--out", "here")
    assert (code, err) == (0, "")
    recorded = checkpoint.load(Path("here")).record.options
    expected = values | {
        "keep_at_accuracy": [0.8, 0.9],
        "stateful": True,
        "tied": True,
        "variational": True,
        "init_from": None,
        "on_unknown": "error",
    }
    assert recorded == expected
    untouched = [field.name for field in dataclasses.fields(TrainOptions) if field.name not in recorded]
    assert untouched == ["out"]


def test_the_help_tells_the_defaults() -> None:
    result = CliRunner().invoke(cli.app, ["train", "--help"], terminal_width=200)
    shown = " ".join(result.output.split())
    shown = shown[shown.index("Model: ") :]  # the presets come before, and name other values
    parameters = inspect.signature(train).parameters
    for field in dataclasses.fields(TrainOptions):
        assert field.name in parameters
        if field.default not in (None, ()) and field.default is not False:
            entry = shown[shown.index(f"{flag(field.name)} ") :]
            assert re.search(r"\[default: (.*?)\]", entry).group(1) == str(field.default), field.name


def test_stopped_and_resumed(p2: Callable, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue = Learner.enqueue

    def interrupted(self: Learner, step: int) -> object:
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return enqueue(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Learner, "enqueue", interrupted)
        code, out, _ = p2("train", text_file, *SMALL)
    assert code == 130
    assert out.splitlines()[-2:] == [
        "stopped after update 2 of 4; everything is in artifacts/charlm/last",
        "to go on: p2 train --resume",
    ]
    code, out, err = p2("train", "--resume")
    assert (code, err) == (0, "")
    assert "going on after update 2" in out
    code, out, err = p2("train", "--resume")
    assert (code, err) == (0, "")
    assert "nothing to do: 4 of 4 updates are done; `p2 train --resume --steps 8` goes on" in out
    code, out, _ = p2("train", "--resume", "--steps", 5, "--hidden", 8)
    assert code == 0
    assert "done: 5 updates" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["empty.txt"], 1, "there is no text in empty.txt: it is empty or blank"),
        (["short.txt"], 1, "the text is too short: 5 characters to train on, a window needs 65"),
        (["binary.dat"], 1, "binary.dat is a binary file, not a text"),
        (["missing.txt"], 1, "cannot read missing.txt: no such file or folder"),
        (
            ["latin.txt"],
            1,
            "latin.txt is not UTF-8 (at byte offset 3, line 1): it is probably cp1252, which --encoding",
        ),
        (
            ["text.txt", "--out", "short.txt/run"],
            1,
            "cannot write short.txt/run: a part of the path is a file",
        ),
        (["text.txt", "--out", "short.txt"], 1, "cannot write short.txt: file exists"),
        (
            ["text.txt", "--cell", "transformer"],
            2,
            "unknown cell 'transformer': choose one of rnn, lstm, gru",
        ),
        (["text.txt", "--gru-reset", "never"], 2, "unknown gru_reset 'never'"),
        (["text.txt", "--device", "abacus"], 2, "unknown --device 'abacus'"),
        (["text.txt", "--device", "cuda"], 1, "--device cuda needs an NVIDIA GPU"),
        (["text.txt", "--precision", "int4"], 2, "unknown --precision 'int4'"),
        (["text.txt", "--hidden", "0"], 2, "hidden must be at least 1, not 0"),
        (["text.txt", "--steps", "-1"], 2, "--steps must be at least 1, not -1"),
        (
            ["text.txt", "--preset", "worst"],
            2,
            "unknown --preset 'worst': choose one of demo, small, book, best",
        ),
        (["text.txt", "--keep-at-accuracy", "high"], 2, "--keep-at-accuracy takes numbers"),
        (["text.txt", "--encoding", "klingon"], 2, "unknown --encoding 'klingon'"),
        (["text.txt", "--encoding", "utf-8\0"], 2, "unknown --encoding 'utf-8\\x00'"),
        (["text.txt", "--encoding", "base64"], 2, "unknown --encoding 'base64'"),
        (["text.txt", "--encoding-errors", "ignore"], 2, "unknown --encoding-errors 'ignore': choose one of"),
        (["text.txt", "--on-unknown", "skip"], 2, "--on-unknown is for --init-from"),
        (["text.txt", "--vocab-from", "missing.txt"], 1, "cannot read missing.txt: no such file"),
        (["text.txt", "--stateful", "--batch-size", "999"], 1, "the text is too short for --stateful"),
        (["text.txt", "--init-from", "nowhere"], 1, "there is no checkpoint nowhere"),
        (["--resume"], 1, "there is no run to go on with in artifacts/charlm: start one with `p2 train"),
        (["--resume", "--out", "short.txt"], 1, "there is no run to go on with in short.txt"),
    ],
)
def test_wrong_input_is_answered_in_one_sentence(
    p2: Callable,
    text_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    Path("empty.txt").write_bytes(b"")
    Path("short.txt").write_bytes(b"hello")
    Path("binary.dat").write_bytes(b"\x7fELF\0\0\xff")
    Path("latin.txt").write_bytes(b"Sch\xf6ne Gr\xfc\xdfe aus K\xf6ln, und bis n\xe4chstes Jahr.\n" * 9)
    got, _, err = p2("train", *arguments)
    assert got == code
    assert err.startswith("p2: usage: " if code == 2 else "p2: ")
    assert message in err
    assert err.count("\n") == 1
    assert not Path("artifacts").exists()


@pytest.mark.parametrize("arguments", [["--hidden", "many"], ["--steps"], ["--no-such-option"]])
def test_what_cannot_be_parsed_is_a_usage_error(p2: Callable, arguments: list[str]) -> None:
    code, _, err = p2("train", *arguments)
    assert code == 2
    assert "Traceback" not in err


@pytest.mark.parametrize("broken", ["truncated", "garbage"])
def test_a_damaged_checkpoint(p2: Callable, text_file: Path, broken: str) -> None:
    p2("train", text_file, *SMALL, "--out", "run")
    path = next(Path("run/last").glob("model-*.safetensors"))
    path.write_bytes(path.read_bytes()[:100] if broken == "truncated" else b"garbage")
    for arguments in (["--resume", "--out", "run", "--steps", 9], [text_file, "--init-from", "run/last"]):
        code, _, err = p2("train", *arguments)
        assert code == 1
        assert err.startswith(f"p2: {path} is damaged")
        assert err.count("\n") == 1


def test_resuming_with_other_options(p2: Callable, text_file: Path) -> None:
    p2("train", text_file, *SMALL, "--out", "run")
    code, _, err = p2("train", "--resume", "--out", "run", "--steps", 9, "--hidden", 16)
    assert code == 2
    assert "--hidden 16 contradicts the run in run, where it is 8: --resume may only change --steps" in err


def test_a_vocabulary_that_does_not_fit(p2: Callable, text_file: Path) -> None:
    p2("train", text_file, *SMALL, "--out", "run")
    Path("other.txt").write_text(TINY_TEXT + "€", encoding="utf-8")
    code, _, err = p2("train", "other.txt", "--init-from", "run", "--out", "second")
    assert code == 2
    assert "'€' (U+20AC EURO SIGN)" in err


def test_a_full_disk(p2: Callable, text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = p2("train", text_file, *SMALL, "--out", "run")
    assert code == 1
    assert err.startswith("p2: cannot write run/")
    assert err.endswith(": the disk is full\n")
    assert not list(Path("run").rglob("*.part"))


def test_importing_the_command_line_brings_no_torch() -> None:
    import subprocess
    import sys

    script = "import sys, p2.cli, p2.trainer.options, p2.trainer.display; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
