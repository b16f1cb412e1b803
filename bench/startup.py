"""How long a person waits for the `p2` command itself."""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ..contract.card import Card
from ..contract.errors import P2Error
from ..runtime.opening import usable_backends
from . import models
from .options import VOCABULARY, shape_name

SHAPE = Card("lstm", 2, 64, 128, VOCABULARY)
PROMPT = "T"

_SECONDS = 120.0


def measure(runs: int, folder: Path) -> dict[str, Any]:
    """Start `p2 --help`, and `p2 generate` with a small model on the processor up to its first character.

    Args:
        runs: of each, after one that is not timed: files are in the system's cache then.
        folder: for the model's files.

    Returns:
        ``help_s`` and ``generate_first_character_s``, medians, with what was run.

    Raises:
        P2Error: the command failed.
    """
    engine = models.export_steps(SHAPE, models.random_state(SHAPE), ["float32"], folder)["float32"]
    helps = [time_help() for _ in range(runs + 1)][1:]
    # Where there is a GPU another backend would be taken by itself.
    options = ("--engine", str(engine), "--backend", str(usable_backends(engine)[0]))
    firsts = [time_first_character(*options) for _ in range(runs + 1)][1:]
    return {
        "help_s": statistics.median(helps),
        "generate_first_character_s": statistics.median(firsts),
        "runs": runs,
        "model": shape_name(SHAPE),
    }


def command() -> list[str]:
    """The installed `p2`, else this Python running it."""
    script = shutil.which("p2", path=str(Path(sys.executable).parent))
    return [script] if script else [sys.executable, "-m", "p2.cli"]


def time_help() -> float:
    """Seconds of ``p2 --help``, from the start of the process to its end."""
    started = time.perf_counter()
    done = subprocess.run([*command(), "--help"], capture_output=True, timeout=_SECONDS, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise P2Error(f"`p2 --help` fails with exit code {done.returncode}")
    return seconds


def time_first_character(*engine: str) -> float:
    """Seconds of ``p2 generate`` from the start of the process to the first character after the prompt.

    Args:
        engine: its options that name what is run: ``--engine``, ``--backend``.
    """
    argv = [
        *command(),
        "generate",
        *engine,
        "--prompt",
        PROMPT,
        "--length",
        "1",
        "--seed",
        "0",
    ]
    started = time.perf_counter()
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )
    with process:
        assert process.stdout is not None
        said = process.stdout.read(len(PROMPT) + 1)
        seconds = time.perf_counter() - started
        process.stdout.read()
    if process.returncode or len(said) <= len(PROMPT):
        raise P2Error(f"`{' '.join(argv)}` fails with exit code {process.returncode}")
    return seconds
