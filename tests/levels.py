"""The compiled decoder on each level of instructions that this processor has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from p2.runtime import native
from p2.runtime.native import binding
from p2.runtime.native.engine import NativeEngine
from p2.runtime.step_file import StepFile

LEVELS = [name for name, there in binding.levels().items() if there] if native.available() else []


def on(level: str, step: StepFile, threads: int | None = None) -> NativeEngine:
    """An engine on a level, until one is made on another."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(native.CPU, level)
        engine = NativeEngine(step, threads)
    engine.name += f" on {level}"
    return engine


def on_each() -> Iterator[Callable[..., NativeEngine]]:
    """Makers of engines, one a level."""
    return (partial(on, level) for level in LEVELS)
