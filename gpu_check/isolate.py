"""Run a check in a process of its own: whatever becomes of that, there is a result."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

from . import check as words
from .check import Check, Result, result_from

WORKER = ("-m", "p2.gpu_check.worker")

_LONGEST = 300  # characters of a library's last words


def isolated(check: Check, folder: Path, command: tuple[str, ...] = WORKER) -> Result:
    """What came of a check.

    Args:
        check: is ended, with all that it started, when its time is up.
        folder: where the models lie.
        command: what Python runs.
    """
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        # -P: what lies in the folder that the person is in must not take the place of a library.
        process = subprocess.Popen(
            [sys.executable, "-P", *command, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
        )
        try:
            out, _ = process.communicate(json.dumps(vars(check)).encode(), timeout=check.timeout)
        except subprocess.TimeoutExpired:
            reason = f"it took longer than {check.timeout:g} s"
            return Result(check, words.TIMED_OUT, reason, time.perf_counter() - started)
        finally:
            _end(process)
        seconds = time.perf_counter() - started
        lines = out.splitlines()
        if process.returncode == 0 and lines:
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                return replace(result_from(json.loads(lines[-1])), seconds=seconds)
        return Result(check, words.CRASHED, _last_words(process.returncode, said), seconds)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it started."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(OSError, ValueError):
        process.communicate()


def _last_words(code: int, said: IO[bytes]) -> str:
    said.seek(0)
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    last = f": {lines[-1][:_LONGEST]}" if lines else ""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return f"its process was ended by {name}{last}"
    return f"its process ended with exit code {code}{last}"
