"""Run a check in a process of its own: whatever becomes of that, there is a result."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

from ..bench.process import end, last_line, signal_of, start
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
        process = start(*command, str(folder), errors=said)
        try:
            out, _ = process.communicate(json.dumps(vars(check)).encode(), timeout=check.timeout)
        except subprocess.TimeoutExpired:
            reason = f"it took longer than {check.timeout:g} s"
            return Result(check, words.TIMED_OUT, reason, time.perf_counter() - started)
        finally:
            end(process)
            with contextlib.suppress(OSError, ValueError):
                process.communicate()
        seconds = time.perf_counter() - started
        lines = out.splitlines()
        if process.returncode == 0 and lines:
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                return replace(result_from(json.loads(lines[-1])), seconds=seconds)
        return Result(check, words.CRASHED, _last_words(process.returncode, said), seconds)


def _last_words(code: int, said: IO[bytes]) -> str:
    line = last_line(said)[:_LONGEST]
    last = f": {line}" if line else ""
    if code < 0:
        return f"its process was ended by {signal_of(code)}{last}"
    return f"its process ended with exit code {code}{last}"
