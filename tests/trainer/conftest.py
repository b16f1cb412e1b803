"""Fixtures of the trainer's tests: a small text, small options, one thread."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from p2.trainer.corpus import Corpus, load
from p2.trainer.options import TrainOptions

WORDS = ["the", "river", "was", "quiet", "and", "we", "drifted", "down", "under", "a", "big", "sky."]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """The models are so small that a second thread only costs time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def text() -> str:
    """About 1,700 characters without a short period."""
    words = (WORDS[(index * index + 3 * index) % len(WORDS)] for index in itertools.count())
    lines = [" ".join(itertools.islice(words, 4 + index % 5)) for index in range(60)]
    return "\n".join(lines) + "\n"


@pytest.fixture
def text_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def corpus(text_file: Path) -> Corpus:
    return load([str(text_file)])


@pytest.fixture
def options(tmp_path: Path) -> Callable[..., TrainOptions]:
    """Options of a run of a second: ``options(steps=4, cell="gru")``."""

    def make(**changes: object) -> TrainOptions:
        values = {
            "embedding": 4,
            "hidden": 8,
            "seq_len": 8,
            "batch_size": 4,
            "steps": 4,
            "val_every": 2,
            "precision": "float32",
            "device": "cpu",
            "out": tmp_path / "run",
        }
        return TrainOptions(**(values | changes))

    return make


@pytest.fixture
def without_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs; `test_curve` does it."""
    monkeypatch.setattr("p2.trainer.curve.draw", lambda log, target: True)
