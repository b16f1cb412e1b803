"""All checks in turn: what is written, when it is bad, and what the command says."""

from __future__ import annotations

import datetime
import itertools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from p2.cli import main
from p2.contract.errors import P2Error
from p2.gpu_check import check as words
from p2.gpu_check import run
from p2.gpu_check.check import Check, Result
from p2.gpu_check.options import Options, parse
from p2.runtime import nvidia

ROOT = Path(__file__).parent.parent.parent
REHEARSED = Options(rehearse=True, hidden=16, bench_hidden=())


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Versions are asked for in other processes; that is tested with the doctor."""
    monkeypatch.setattr(run, "packages", dict)


def asked(only):
    """A rehearsal of those checks."""
    return parse(only, True, 16, "none", 1000)


def rehearse(tmp_path, outcome_of=lambda check: words.PASSED, wanted=REHEARSED, **options):
    """Run with made-up outcomes; returns the checks that ran, the document and the verdict."""
    ran = []

    def run_check(check, folder):
        ran.append(check.name)
        (folder / check.model).mkdir(exist_ok=True)
        return Result(check, outcome_of(check), "" if outcome_of(check) == words.PASSED else "why")

    target, problem = run.run(wanted, tmp_path, say=lambda _: None, run_check=run_check, **options)
    return ran, json.loads(target.read_text()), not problem


def test_the_report_is_there_after_every_check(tmp_path):
    seen = []

    def run_check(check, folder):
        target = folder.parent / "rehearsal.json"
        seen.append(len(json.loads(target.read_text())["checks"]) if target.exists() else 0)
        return Result(check, words.PASSED)

    run.run(REHEARSED, tmp_path, say=lambda _: None, run_check=run_check)
    assert seen == list(range(len(seen)))
    assert len(seen) > 50


@pytest.mark.parametrize("outcome", [words.FAILED, words.CRASHED, words.TIMED_OUT])
def test_one_bad_outcome_fails_the_whole_and_loses_nothing(outcome, tmp_path):
    ran, document, passed = rehearse(
        tmp_path, lambda check: outcome if check.kind == "soak" else words.PASSED, asked("soak,start")
    )
    assert not passed
    assert not document["passed"]
    assert len(ran) == len(document["checks"])
    page = (tmp_path / "rehearsal.md").read_text()
    assert f"soak onnxruntime-cpu lstm-16 float32 graph: {outcome}: why" in page
    assert "**Something is wrong**" in page


def test_what_needs_something_that_failed_does_not_run(tmp_path):
    def outcome(check):
        return words.FAILED if check.name == "model rnn-16" else words.PASSED

    ran, document, _ = rehearse(tmp_path, outcome)
    assert not any("rnn-16" in name for name in ran if name != "model rnn-16")
    skipped = [c for c in document["checks"] if c["outcome"] == words.NOT_RUN]
    assert skipped
    assert {c["reason"] for c in skipped} == {"it needs model rnn-16, which is failed"}


def test_refusals_and_what_is_not_here_are_no_failures(tmp_path):
    _, _, passed = rehearse(
        tmp_path, lambda check: words.REFUSED if check.precision == "int4" else words.PASSED
    )
    assert passed
    _, _, passed = rehearse(tmp_path, lambda check: words.NOT_RUN if check.backend else words.PASSED)
    assert not passed  # nothing was checked
    assert "**No engine could be checked**" in (tmp_path / "rehearsal.md").read_text()


@pytest.mark.parametrize(
    ("outcome", "code", "says"),
    [
        (words.PASSED, 0, ""),
        (words.FAILED, 1, "something that could run failed"),
        (words.NOT_RUN, 1, "no engine could be checked"),
    ],
)
@pytest.mark.parametrize("only", ["model rnn", "parity onnxruntime-cpu rnn"])
def test_the_command_says_what_came_of_what_was_asked_for(
    only, outcome, code, says, tmp_path, monkeypatch, capsys
):
    def run_check(check, folder):
        asked = only in check.name
        return Result(check, outcome if asked else words.PASSED, "" if outcome == words.PASSED else "why")

    monkeypatch.setattr(run.run, "__defaults__", (*run.run.__defaults__[:-1], run_check))
    argv = ["gpu-check", "--rehearse", "--hidden", "16", "--bench-hidden", "none", "--out", str(tmp_path)]
    assert main([*argv, "--only", only]) == code
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("report", sorted((ROOT / "artifacts/gpu").glob("*.json")), ids=lambda p: p.stem)
def test_the_committed_pages_are_their_reports(report, tmp_path, capsys):
    copy = tmp_path / report.name
    shutil.copy(report, copy)
    assert main(["gpu-check", "--render", str(copy)]) == 0
    assert copy.with_suffix(".md").read_text() == report.with_suffix(".md").read_text()
    assert str(copy.with_suffix(".md")) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"), [("[]", "is not a report of"), ('{"schema": "p2 gpu-check 1"}', "is damaged")]
)
def test_what_is_no_report_is_not_rendered(content, says, tmp_path, capsys):
    (tmp_path / "other.json").write_text(content)
    assert main(["gpu-check", "--render", str(tmp_path / "other.json")]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "other.md").exists()


def test_resume_runs_what_the_report_lacks(tmp_path):
    def outcome(check):
        return words.CRASHED if check.kind == "soak" else words.PASSED

    first, _, _ = rehearse(tmp_path, outcome)
    again, document, passed = rehearse(tmp_path, resume=True)
    assert again == [name for name in first if name.startswith("soak")]
    assert passed
    assert len(document["checks"]) == len(first)
    shutil.rmtree(tmp_path / "models" / "rnn-16")
    again, _, _ = rehearse(tmp_path, resume=True)
    assert again == ["model rnn-16"]
    assert not list(tmp_path.glob("*.old-*"))

    # Others are added to what is there; what failed is run again when it is asked for.
    rehearse(tmp_path, lambda check: words.FAILED if check.kind == "soak" else words.PASSED, asked("soak"))
    again, document, passed = rehearse(tmp_path, wanted=asked("model rnn"), resume=True)
    assert (again, passed) == (["model rnn-16"], True)  # of what was asked for
    assert not document["passed"]
    soaks = [c for c in document["checks"] if c["check"]["kind"] == "soak"]
    assert [c["outcome"] for c in soaks] == [words.FAILED] * len(soaks)
    again, document, passed = rehearse(tmp_path, wanted=asked("soak"), resume=True)
    assert [name.split()[0] for name in again] == ["soak"] * len(soaks)
    assert passed
    assert document["passed"]
    (tmp_path / "rehearsal.json").write_text('{"schema": "another"}')
    with pytest.raises(P2Error, match="is not a report of `p2 gpu-check`: run without --resume"):
        rehearse(tmp_path, resume=True)


def test_an_earlier_report_is_kept(tmp_path, monkeypatch):
    seconds = itertools.count()  # no two reports are of the same second, or one copy would do for both

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(next(seconds), tz)

    monkeypatch.setattr(run.datetime, "datetime", Clock)
    first, document, _ = rehearse(tmp_path, wanted=asked("soak"))
    files = {path.name: path.read_bytes() for path in tmp_path.glob("rehearsal.*") if path.is_file()}
    rehearse(tmp_path, wanted=asked("soak"))
    kept = tmp_path / "rehearsal.json.old-1"
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == files
    assert len(files) == 2
    assert len(document["checks"]) == len(first)


def test_the_page_tells_of_noise_first_characters_and_others(tmp_path, monkeypatch):
    monkeypatch.setattr(nvidia, "programs", lambda: {7: 1 << 30, 9: 0})
    said = []
    only = replace(REHEARSED, only=("model rnn",))
    target, _ = run.run(only, tmp_path, say=said.append, run_check=lambda c, _: Result(c, words.PASSED))
    assert "other programs use a GPU, so nothing that is timed counts for much: 2" in said
    document = json.loads(target.read_text())
    starts = {"cuda-graph": (9.0, 3.9), "cuda": (2.5, 0.55)}
    document["checks"] = [
        Result(Check("start", 1.0, key), words.PASSED, details={"first_s": first, "warm_s": warm}).to_dict()
        for key, (first, warm) in starts.items()
    ]
    noise = {"numbers": 10_300_000, "different": 3, "numbers_per_second": 4.3e10}
    document["checks"].append(Result(Check("noise", 1.0), words.PASSED, details=noise).to_dict())
    target.write_text(json.dumps(document))
    page = run.render(target).read_text()
    assert "| other programs on the GPU | 2 |" in page
    assert "| cuda | 2.50 s | 0.55 s |" in page
    assert "0.6 s" not in page
    target.write_text(json.dumps(document | {"rehearsal": False}))
    assert "| ≤ 0.6 s | 0.55 s | reached | cuda |" in run.render(target).read_text()
    assert "made 10,300,000 numbers, 43,000,000,000 a second; 3 of them differ from numpy's" in page


def test_without_a_gpu_it_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(nvidia, "gpus", lambda: nvidia.Gpus(problem="no NVIDIA driver is installed"))
    assert main(["gpu-check", "--out", str(tmp_path)]) == 1
    assert "the GPU checks need an NVIDIA GPU: no NVIDIA driver is installed here" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ("--hidden", "0"),
        ("--characters", "10"),
        ("--bench-hidden", "12,x"),
        ("--bench-hidden", "0"),
        ("--only", ","),
    ],
)
def test_values_that_cannot_be_meant(argv, capsys):
    assert main(["gpu-check", *argv]) == 2
    assert argv[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    "how", [["-m", "p2.gpu_check"], [str(ROOT / "gpu_check")]], ids=["installed", "copy"]
)
def test_python_runs_the_folder(how, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["gpu-check", "--help"]) == 0
    done = subprocess.run(
        [sys.executable, *how, "--help"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, capsys.readouterr().out, "")


def test_a_copy_says_what_it_lacks(tmp_path):
    """Python without the packages that are installed for it."""
    done = subprocess.run(
        [sys.executable, "-IS", str(ROOT / "gpu_check"), "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"p2: typer is not installed for {sys.executable}\n"


@pytest.mark.slow
def test_a_plain_copy_of_the_tree_under_another_name_rehearses(tmp_path):
    copy = tmp_path / "some-folder"
    ignore = shutil.ignore_patterns(".*", "artifacts", "tests", "*.egg-info", "__pycache__", "build")
    shutil.copytree(ROOT, copy, ignore=ignore)
    # A word of its own shows that it is the copy that runs, in every process; one precision is enough.
    (copy / "version.py").write_text('__version__ = "0.0.copy"\n')
    schedule = (copy / "gpu_check/schedule.py").read_text()
    precisions = "precisions: tuple[str, ...] = "
    assert f"{precisions}PRECISIONS" in schedule
    schedule = schedule.replace(f"{precisions}PRECISIONS", f'{precisions}("float32",)')
    (copy / "gpu_check/schedule.py").write_text(schedule)
    only = "parity onnxruntime-cpu rnn-16 float32 steps"
    argv = ["--rehearse", "--hidden", "16", "--bench-hidden", "none", "--only", only, "--out", "out"]
    done = subprocess.run(
        [sys.executable, str(copy / "gpu_check"), *argv],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "out/rehearsal.json").read_text())
    assert document["p2"] == "0.0.copy"
    assert document["outcomes"] == {words.PASSED: len(document["checks"])}
    card = next(c for c in document["checks"] if c["check"]["kind"] == "parity")["details"]
    assert not card["failures"]
    assert "| onnxruntime-cpu | rnn | float32 | steps | passed" in (tmp_path / "out/rehearsal.md").read_text()
