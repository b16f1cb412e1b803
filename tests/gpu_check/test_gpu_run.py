"""All checks in turn: what is planned, what becomes of each process, what is written, when it is bad."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from p2.bench import plugins
from p2.cli import main
from p2.contract.card import PRECISIONS
from p2.contract.errors import BackendMissing, BuilderRefused, P2Error, UsageError
from p2.gpu_check import check as words
from p2.gpu_check import run, schedule
from p2.gpu_check.backends import BACKENDS
from p2.gpu_check.check import Check, Result, check_from, result_from
from p2.gpu_check.isolate import isolated
from p2.gpu_check.options import GROUPS, Options, parse
from p2.gpu_check.worker import KINDS
from p2.runtime import nvidia

ROOT = Path(__file__).parent.parent.parent
ADA = nvidia.Gpus((nvidia.Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30),), "570", (13, 0))
HOPPER = nvidia.Gpus((nvidia.Gpu("NVIDIA H100 80GB HBM3", (9, 0), 80 << 30),), "580", (13, 0))
CHECK = Check("parity", 60.0, "onnxruntime-cpu", "rnn", precision="float32", mode="graph", hidden=16)


@pytest.fixture
def machine(monkeypatch):
    """A machine with these GPUs, on which everything is installed."""

    def set_up(gpus):
        monkeypatch.setattr(nvidia, "gpus", lambda: gpus)
        monkeypatch.setattr(
            schedule,
            "BACKENDS",
            {key: replace(backend, missing=lambda: "") for key, backend in BACKENDS.items()},
        )

    return set_up


def planned(options=Options()):  # noqa: B008
    able, _ = schedule.available(options.rehearse)
    return schedule.checks(options, able)


def test_everything_is_planned_and_what_it_needs_comes_before_it(machine):
    machine(ADA)
    checks = planned()
    names = [check.name for check in checks]
    assert len(set(names)) == len(names)
    for index, check in enumerate(checks):
        assert set(check.needs) <= set(names[:index])
        assert check.kind in KINDS
    gpu = [key for key, backend in BACKENDS.items() if backend.device == "cuda"]
    assert {check.backend for check in checks if check.kind == "parity"} == set(gpu)
    for kind in ("capture", "snapshot", "batches"):
        assert sum(c.kind == kind and c.backend == "tensorrt" for c in checks) == 8  # cells x modes
    assert {c.precision for c in checks if (c.kind, c.backend) == ("determinism", "tensorrt")} == set(
        PRECISIONS
    )
    commands = {key for key in gpu if BACKENDS[key].command}
    assert set(gpu) - commands == {"torch-cuda"}
    assert names.count("noise") == 1
    for kind in ("together", "interrupt", "start"):
        assert sorted(c.backend for c in checks if c.kind == kind) == sorted(commands)
    assert all(c.amount == 100_000 for c in checks if c.kind == "soak")
    races = [check for check in checks if check.kind == "benchmark"]
    assert [race.hidden for race in races] == [128, 512, 1024, 2048, 4096]
    # The plan for one text is another graph: every precision of it is compared, and raced.
    single = {c.precision for c in checks if c.mode == "single" and c.kind == "parity"}
    assert single == set(PRECISIONS)
    assert {c.kind for c in checks if c.mode == "single"} == {"parity"}
    assert "p2.gpu_check.single_plan:int8" in races[0].contenders
    for peer in ("cuda-eager", "cuda-graph", "cuda-compile", "p2-tensorrt-float32", "p2-cuda-graph"):
        assert peer in races[0].contenders


def test_every_contender_of_a_race_exists(machine):
    machine(ADA)
    for options in (Options(), Options(rehearse=True)):
        for check in planned(options):
            for key in check.contenders:
                contender = plugins.find(key)
                assert contender.key == key or ":" in key
                assert contender.precision in check.precisions


def test_on_compute_capability_9_rtx_has_to_refuse_and_is_not_raced(machine):
    machine(HOPPER)
    rtx = [check for check in planned() if "rtx" in check.backend]
    assert [check.kind for check in rtx] == ["build", "refusal", "refusal"]
    assert rtx[1].needs == ("model lstm-256", rtx[0].name)


@pytest.fixture
def with_cuda(machine):
    """A machine whose backends are there, p2's own decoder among them."""
    machine(ADA)
    made = replace(schedule.BACKENDS["cuda-graph"], key="cuda", precisions=PRECISIONS)
    schedule.BACKENDS.setdefault("cuda", made)  # of the copy that `machine` made


def test_the_groups_are_all_of_the_decoders_checks_and_all_races(with_cuda):
    plan = {check.name: check for check in planned()}
    groups = [
        {check.name for check in planned(parse(only, False, 256, "128,512,1024,2048,4096", 5000))}
        for only in GROUPS
    ]
    asked = {name for group in groups for name in group if plan[name].kind not in ("model", "build")}
    wanted = {
        n
        for n, c in plan.items()
        if c.backend == "cuda" or c.kind in ("benchmark", "noise", "updates", "training")
    }
    assert asked == wanted
    assert all(groups)
    page = (ROOT / "docs/gpu.md").read_text()
    first_race = f"benchmark {Options().bench_hidden[0]}"
    assert all(
        f"--only '{group}'" in page for group in GROUPS if "benchmark" not in group or group == first_race
    )


@pytest.mark.parametrize(
    ("only", "backends"),
    [
        (("cuda",), {"cuda"}),
        (("parity cuda",), {"cuda"}),
        (("soak onnx",), {"onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-rtx"}),
        (("float32 gru tensorrt", "soak cuda-graph"), {"tensorrt", "cuda-graph"}),
    ],
)
def test_words_of_a_name_pick_the_checks(only, backends, with_cuda):
    found = planned(Options(only=only))
    kinds = ("model", "build", "benchmark")
    assert {check.backend for check in found if check.kind not in kinds} == backends


def test_only_brings_what_it_needs(machine):
    machine(ADA)
    found = [check.name for check in planned(Options(only=("parity tensorrt rnn-256 float16 graph",)))]
    assert found == [
        "model rnn-256",
        "build tensorrt rnn-256 float16",
        "parity tensorrt rnn-256 float16 graph",
    ]
    with pytest.raises(UsageError, match="names no check: there are model, noise, updates, build, parity"):
        planned(Options(only=("nothing",)))


def worker(code, check=CHECK):
    return isolated(check, Path("."), ("-c", f"import sys, os, json, time; {code}"))


def test_a_process_that_crashes_is_a_result():
    found = worker("print('the driver says no', file=sys.stderr, flush=True); os.abort()")
    assert (found.outcome, found.check) == (words.CRASHED, CHECK)
    assert found.reason == "its process was ended by SIGABRT: the driver says no"


@pytest.mark.parametrize("code", ["sys.exit(3)", "print('no JSON')", "print('{}')", "raise ValueError('x')"])
def test_a_process_without_an_answer_is_a_crash(code):
    assert worker(code).outcome == words.CRASHED


def test_a_process_that_hangs_is_ended_with_all_that_it_started(tmp_path):
    mark = tmp_path / "pid"
    code = (
        "import subprocess; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        f"open({str(mark)!r}, 'w').write(str(p.pid)); time.sleep(60)"
    )
    started = time.perf_counter()
    found = worker(code, check_from(json.loads(json.dumps(vars(CHECK) | {"timeout": 2.0}))))
    assert (found.outcome, found.reason) == (words.TIMED_OUT, "it took longer than 2 s")
    assert time.perf_counter() - started < 20
    time.sleep(0.2)
    status = Path(f"/proc/{mark.read_text()}/stat")
    assert not status.exists() or status.read_text().split()[2] == "Z"


def test_the_answer_is_the_last_line_and_results_survive_json():
    whole = Result(CHECK, words.FAILED, "why", 1.5, {"a": [1, None]})
    assert result_from(json.loads(json.dumps(whole.to_dict()))) == whole
    found = worker(f"print('hello'); print({json.dumps(whole.to_dict())!r})")
    assert (found.outcome, found.reason, found.details) == (words.FAILED, "why", {"a": [1, None]})


@pytest.mark.parametrize(
    ("error", "precision", "outcome"),
    [
        (BackendMissing("x"), "float32", words.NOT_RUN),
        (BuilderRefused("x"), "int4", words.REFUSED),
        (BuilderRefused("x"), "float32", words.FAILED),
        (P2Error("x"), "int4", words.FAILED),
        (MemoryError(), "float32", words.FAILED),
    ],
)
def test_what_an_error_means(error, precision, outcome, monkeypatch, tmp_path):
    from p2.gpu_check import worker

    def fail(*_):
        raise error

    monkeypatch.setitem(worker.KINDS, "parity", fail)
    assert worker.run(Check("parity", 1.0, "tensorrt", precision=precision), tmp_path).outcome == outcome


@pytest.mark.parametrize(("raises", "outcome"), [(True, words.EXPECTED), (False, words.FAILED)])
def test_a_refusal_is_expected(raises, outcome, monkeypatch, tmp_path):
    from p2.gpu_check import worker

    class Engine:
        def close(self):
            pass

    def open_it(*_):
        if raises:
            raise BackendMissing("compute capability 9.0 is not supported")
        return Engine()

    monkeypatch.setitem(BACKENDS, "x", replace(BACKENDS["torch-cpu"], modes={"steps": open_it}))
    found = worker.run(Check("refusal", 1.0, "x", "lstm", precision="float32", hidden=8), tmp_path)
    assert found.outcome == outcome
    assert ("9.0" in found.reason) == raises


REHEARSED = Options(rehearse=True, hidden=16, bench_hidden=())


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Versions are asked for in other processes; that is tested with the doctor."""
    monkeypatch.setattr(run, "packages", dict)


def rehearse(tmp_path, outcome_of=lambda check: words.PASSED, **options):
    """Run with made-up outcomes; returns the checks that ran, the document and the verdict."""
    ran = []

    def run_check(check, folder):
        ran.append(check.name)
        (folder / check.model).mkdir(exist_ok=True)
        return Result(check, outcome_of(check), "" if outcome_of(check) == words.PASSED else "why")

    target, problem = run.run(REHEARSED, tmp_path, say=lambda _: None, run_check=run_check, **options)
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
        tmp_path, lambda check: outcome if check.kind == "soak" else words.PASSED
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


def test_resume_runs_what_the_report_lacks(tmp_path, monkeypatch):
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
    monkeypatch.setitem(globals(), "REHEARSED", parse("soak", True, 16, "none", 1000))
    rehearse(tmp_path, lambda check: words.FAILED if check.kind == "soak" else words.PASSED)
    monkeypatch.setitem(globals(), "REHEARSED", parse("model rnn", True, 16, "none", 1000))
    again, document, passed = rehearse(tmp_path, resume=True)
    assert (again, passed) == (["model rnn-16"], True)  # of what was asked for
    assert not document["passed"]
    soaks = [c for c in document["checks"] if c["check"]["kind"] == "soak"]
    assert [c["outcome"] for c in soaks] == [words.FAILED] * len(soaks)
    monkeypatch.setitem(globals(), "REHEARSED", parse("soak", True, 16, "none", 1000))
    again, document, passed = rehearse(tmp_path, resume=True)
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
    first, document, _ = rehearse(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.glob("rehearsal.*") if path.is_file()}
    rehearse(tmp_path)
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


def test_options_are_read():
    assert parse("parity, soak", False, 64, "512,128", 5000) == Options(
        False, ("parity", "soak"), 64, (128, 512), 5000
    )
    assert parse(None, True, 64, "none", 5000).bench_hidden == ()


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
    # A word of its own shows that it is the copy that runs, in every process.
    (copy / "version.py").write_text('__version__ = "0.0.copy"\n')
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


@pytest.mark.slow
def test_a_race_and_its_place_in_the_report(tmp_path, monkeypatch):
    from p2.bench.options import QUICK
    from p2.gpu_check import benchmark, report
    from p2.gpu_check.models import Files, card_of, make

    copying = contextlib.nullcontext(SimpleNamespace(read=lambda: 4e9))
    monkeypatch.setattr(benchmark, "Copying", lambda device: copying)
    brief = replace(QUICK, rounds=1, turn_seconds=0.05, batches=(2,), prompt_seconds=0.1, text_seconds=0.1)
    files, card = Files(tmp_path), card_of("lstm", "after", 16)
    make(files, card, ("float32",))
    found = benchmark.bench(
        files, card, ("p2-float32", "torch-cell", "cuda-eager"), ("float32",), "cpu", brief
    )
    ours, cell, eager = found["entries"]
    for entry in (ours, cell):
        speed = entry["characters_per_second"]["median"]
        assert entry["bandwidth_share"] == pytest.approx(speed * entry["bytes_per_step"] / 4e9)
    assert "NVIDIA GPU" in eager["skipped"] or nvidia.gpus().devices
    check = Check("benchmark", 1.0, "onnxruntime-cpu", "lstm", hidden=16)
    details = found | {
        "targets": [{"what": "GPU, x", "goal": "> 1×", "measured": "2×", "reached": True, "note": ""}]
    }
    page = report._race(Result(check, words.PASSED, details=details).to_dict())
    assert "| GPU, x | \\> 1× | 2× | reached |  |" in page
    assert f"{ours['prompt']['characters_per_second']:,.0f}" in page
    assert f"{ours['batches'][0]['characters_per_second']:,.0f}" in page
    assert "2 texts, characters per second" in page
    assert f"{ours['bytes_per_step']:,}" in page
    assert "## Hidden 16" in page
    assert "4 GB/s" in page
    assert f"{ours['characters_per_second']['median']:,.0f}" in page
