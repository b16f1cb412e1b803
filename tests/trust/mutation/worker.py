"""Runs pytest over and over in children of one process, which has imported once what takes long.

A program: nothing of p2 may be imported here, for every child has its own p2. For each run it reads a line of
JSON, ``{"folder", "arguments", "seconds"}``, and answers with one: `Answer`.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import select
import signal
import sys
import warnings
from typing import Any, TypedDict

PROFILE = "planted"


class Answer(TypedDict):
    """What a run came to.

    Attributes:
        code: pytest's exit code; -1 where the child crashed, -2 where it took too long.
        failed: the first test that failed, or the empty string.
        passed: tests that passed.
        said: the end of what pytest printed.
    """

    code: int
    failed: str
    passed: int
    said: str


class _Seen:
    """What pytest reports, as a plugin."""

    def __init__(self) -> None:
        self.failed, self.passed = "", 0

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.failed:
            self.failed = self.failed or report.nodeid
        elif report.passed and report.when == "call":
            self.passed += 1


def main() -> None:
    """Answer requests until there are no more."""
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable()
        _import_what_takes_long()
        logging.disable(logging.NOTSET)
    gc.freeze()  # pytest collects at its end, and a child need not look at what the parent has
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _import_what_takes_long() -> None:
    for name in (
        *("numpy", "torch", "torch.onnx", "onnx", "onnxruntime", "safetensors.torch", "pytest", "hypothesis"),
        *("_hypothesis_pytestplugin", "xdist.plugin", "anyio.pytest_plugin", "httpx", "uvicorn", "starlette"),
        *("typer", "rich.console", "h5py"),
    ):
        with contextlib.suppress(ImportError):
            __import__(name)
    _trace_something()


def _trace_something() -> None:
    """PyTorch's exporter sets itself up for seconds when it traces for the first time."""
    import torch

    size = torch.export.Dim("size", max=9)
    model = torch.nn.Linear(2, 2).eval()
    torch.onnx.export(model, (torch.zeros(3, 2),), dynamo=True, verbose=False, dynamic_shapes=({0: size},))


def _run(asked: dict[str, Any]) -> Answer:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        os.setpgid(0, 0)
        _be_child(asked, writing)
    os.close(writing)
    ended, _, _ = select.select([reading], [], [], asked["seconds"])
    answer = b""
    if ended:
        while piece := os.read(reading, 1 << 16):
            answer += piece
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    if answer:
        return json.loads(answer)
    return Answer(code=-1 if ended else -2, failed="", passed=0, said="")


def _be_child(asked: dict[str, Any], writing: int) -> None:
    """Run pytest, tell the parent, and be gone."""
    import hypothesis
    import pytest

    # What is noticed by chance would not be noticed every day; and nobody reads a small example.
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile(PROFILE, deadline=None, derandomize=True, phases=phases)
    path = f"{asked['folder']}.log"
    log = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for number in (1, 2):
        os.dup2(log, number)
    os.chdir(os.path.join(asked["folder"], "p2"))
    sys.path.insert(0, asked["folder"])
    seen = _Seen()
    code = pytest.main([f"--hypothesis-profile={PROFILE}", *asked["arguments"]], plugins=[seen])
    sys.stdout.flush()
    with open(path, encoding="utf-8", errors="replace") as file:
        said = file.read()[-4000:]
    answer = Answer(code=int(code), failed=seen.failed, passed=seen.passed, said=said)
    with open(writing, "w", encoding="utf-8") as out:
        json.dump(answer, out)
    os._exit(0)


if __name__ == "__main__":
    main()
