"""Fixtures of the benchmark's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from p2.bench.contender import Model
from p2.render.progress import Progress

HERE = Path(__file__).parent


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """``bench_plugins`` can be imported here and in new processes."""
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PYTHONPATH", str(HERE), prepend=":")


@pytest.fixture
def model_of(card_of: Callable, tmp_path: Path) -> Callable[..., Model]:
    """A model without files: ``model_of("lstm")``."""
    return lambda *arguments, **changes: Model("a model", card_of(*arguments, **changes), tmp_path, {})


@pytest.fixture
def progress() -> Progress:
    return Progress()
