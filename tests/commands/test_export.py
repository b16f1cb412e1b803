"""How `p2 export` is called: every bad call is a sentence, and a failure leaves nothing behind."""

from __future__ import annotations

import errno
import os
import resource

import pytest

from p2.cli import main

BAD_CALLS = [
    (
        ["export", "--engine", "none", "--batch", "1"],
        2,
        "--batch: for a .plan, and --engine none builds none",
    ),
    (
        ["export", "--engine", "none", "--target", "portable", "--version-compatible"],
        2,
        "--target, --version-compatible: for a .plan, and --engine none builds none",
    ),
    (["export", "--precision", "int4", "--opset", "17"], 2, "--opset 17: the lowest for int4 is 21"),
    (["export", "--opset", "9"], 2, "--opset 9: the lowest for float32 is 13"),
    (["export", "--opset", "22"], 2, "--opset 22: the highest is 21"),
    (["export"], 1, "there is no checkpoint artifacts/charlm: `p2 train` makes one"),
    (["export", "--fp16", "--precision", "int8"], 2, "give --fp16 or --precision, not both"),
    (["export", "--bf16"], 2, "give --precision bfloat16: there is no --bf16"),
    (["export", "--fp8"], 2, "give --precision float8: there is no --fp8"),
    (["export", "--int8", "x"], 2, "give --precision int8: there is no --int8"),
    (["export", "x", "--engine", "none", "--int4"], 2, "give --precision int4: there is no --int4"),
    (["export", "--int3"], 2, "No such option: --int3"),
    (["export", "--", "--int8"], 1, "there is no checkpoint --int8"),
    (["export", "--precision", "int3"], 2, "unknown precision 'int3'"),
    (["export", "--engine", "cuda"], 2, "unknown engine 'cuda'"),
    (["export", "--batch", "4,2,1"], 2, "--batch needs 1 <= min <= opt <= max"),
]


@pytest.mark.parametrize(
    ("argv", "code", "words"), BAD_CALLS, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_bad_calls_are_answered(argv, code, words, here, fails):
    assert words in fails(*argv, code=code)


def test_the_next_command_of_an_export_means_its_file(here, tiny_run, pasted):
    name = "-; rm 'x'\n$(y)"
    tiny_run.rename(here / name)
    argv = ["export", "--engine", "none", "--", name]
    words = pasted(argv, 0, "next: ", "")
    assert words == ["p2", "generate", "--engine", f"{name}/{name}.onnx"]
    assert main(words[1:]) == 0


def test_a_full_disk_is_answered_and_leaves_nothing_behind(tiny_run, tmp_path, monkeypatch, fails):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    target = tmp_path / "new" / "charlm.onnx"
    target.parent.mkdir()
    monkeypatch.setattr(os, "fsync", full)
    said = fails("export", str(tiny_run), "--out", str(target), "--engine", "none", code=1)
    assert f"cannot write {target}: the disk is full" in said
    assert list(target.parent.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_file_size_limit_is_answered_too(tiny_run, tmp_path, capfd):
    """The system's own refusal, in a process of its own: no file may grow past 4 kB."""
    target = tmp_path / "new" / "m.onnx"
    target.parent.mkdir()
    argv = ["export", str(tiny_run), "--engine", "none", "--out"]
    assert main([*argv, str(tmp_path / "m.onnx")]) == 0  # what is imported and traced is there for the fork
    capfd.readouterr()
    if not (child := os.fork()):
        code = 70
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
            code = main([*argv, str(target)])
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    said = capfd.readouterr().err
    assert "cannot write" in said
    assert "larger than this system allows" in said
    assert "Traceback" not in said
    assert list(target.parent.iterdir()) == []
