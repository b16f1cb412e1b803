"""A check in a process of its own: whatever becomes of it is a result."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from p2.contract.errors import BackendMissing, BuilderRefused, P2Error
from p2.gpu_check import check as words
from p2.gpu_check.backends import BACKENDS
from p2.gpu_check.check import Check, Result, check_from, result_from
from p2.gpu_check.isolate import isolated

CHECK = Check("parity", 60.0, "onnxruntime-cpu", "rnn", precision="float32", mode="graph", hidden=16)


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
