"""`p2 generate` in processes: those that do right pass, and each fault is found."""

from __future__ import annotations

import sys

import pytest

from p2.contract.codec import Codec
from p2.contract.sampling import Sampling
from p2.gpu_check import check as words
from p2.gpu_check import processes, worker
from p2.gpu_check.check import Check, CheckFailed
from p2.runtime.decoder import Decoder
from p2.runtime.onnxruntime.engine import open_onnx

# What it does instead of writing: after the options of `p2 generate` comes nothing.
PRETENDER = """
import itertools, signal, sys, time
text, fault, length = open(sys.argv[2]).read(), sys.argv[3], int(sys.argv[-1])
if fault == "goes on":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if fault == "dies":
    print("p2: the GPU is lost", file=sys.stderr)
    sys.exit(1)
if fault == "another text" and length < 10**6:
    text = text[::-1]
try:
    pieces = [text] if length < 10**6 else itertools.repeat(text)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
except KeyboardInterrupt:
    print("p2: interrupted", file=sys.stderr)
    sys.exit(130 if fault != "another code" else 1)
"""


@pytest.fixture
def pretender(files, tmp_path, monkeypatch):
    """Options of a process that writes the model's text with a fault: ``pretender("dies")``."""
    reference = files.reference()
    text = Codec(reference.card.vocabulary).decode(Decoder(reference, Sampling()).write(600)[0])
    (tmp_path / "text").write_text(text)
    monkeypatch.setattr(processes, "command", lambda: [sys.executable, "-c", PRETENDER])
    monkeypatch.setattr(processes, "GOES_ON", 0.05)
    monkeypatch.setattr(processes, "LISTENS", 1.0)
    return lambda fault="": (str(tmp_path / "text"), fault)


def opener(files):
    return lambda: open_onnx(files.step("float32"), 1)


def test_two_processes_that_write_the_right_text_pass(files, pretender):
    found = processes.together(pretender(), files.reference(), 600)
    assert found == {
        "characters": [600, 600],
        "exit_codes": [0, 0],
        "one_text": True,
        "text_of_eager": True,
    }


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("dies", r"a process ended with exit code 1: p2: the GPU is lost; a process"),
        ("another text", "two processes at once write another text than one alone"),
    ],
)
def test_what_is_wrong_with_two_at_once(fault, says, files, pretender):
    with pytest.raises(CheckFailed, match=says):
        processes.together(pretender(fault), files.reference(), 600)


def test_an_interruption_that_is_heard_passes(files, pretender):
    found = processes.interrupt(pretender(), opener(files), files.reference())
    assert (found["exit_code"], found["said"], found["text_after"]) == (130, "p2: interrupted", True)
    assert 0 <= found["seconds"] < 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("goes on", "it goes on for 1 s and more"),
        ("another code", "it ends with exit code 1, not 130: p2: interrupted"),
        ("dies", "it ends with exit code 1, not 130: p2: the GPU is lost"),
    ],
)
def test_what_is_wrong_with_an_interruption(fault, says, files, pretender):
    with pytest.raises(CheckFailed, match=f"^{says}$"):
        processes.interrupt(pretender(fault), opener(files), files.reference())


def test_a_gpu_that_writes_something_else_afterwards_is_found(files, pretender):
    with pytest.raises(CheckFailed, match="the GPU writes another text after it"):
        processes.interrupt(pretender(), lambda: open_onnx(files.step("int8"), 1), files.reference())


@pytest.mark.parametrize("kind", ["together", "interrupt", "start"])
def test_the_command_itself_passes(kind, models, monkeypatch):
    monkeypatch.setattr(processes, "STARTS", 1)
    monkeypatch.setattr(processes.together, "__defaults__", (3000,))
    check = Check(kind, 60.0, "onnxruntime-cpu", "lstm", "after", "float32", "graph", 24)
    found = worker.run(check, models)
    assert found.outcome == words.PASSED, found.reason
    if kind == "start":
        assert found.details["warm_s"] > 0
