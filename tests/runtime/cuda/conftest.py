"""CUDA's kernels on this processor."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import emulator
from .memory import Memory


@pytest.fixture(scope="session")
def kernels_of(request: pytest.FixtureRequest, tmp_path_factory) -> Callable[..., emulator.Kernels]:
    """Compile a file of kernels, once for all tests: ``kernels_of(path, THREADS=64, CLUSTER=0)``.

    With ``races=True`` it looks for races, too.
    """
    if emulator.compiler() is None:
        pytest.skip("there is no C++ compiler here")
    kept = getattr(request.config, "cache", None)
    folder = kept.mkdir("p2-kernels") if kept else tmp_path_factory.mktemp("kernels")

    @functools.cache
    def compiled(source: Path, races: bool = False, **defines: int) -> emulator.Kernels:
        return emulator.compile(source, defines, folder, races)

    return compiled


@pytest.fixture
def memory() -> Iterator[Memory]:
    """Device memory; what a kernel wrote beside it fails the test."""
    made = Memory()
    yield made
    made.check()
