"""Made-up results in which every claim comes out in the report's favour."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from p2.practical.text import slurs

Results = dict[str, Any]

BOOK_WORDING = {
    "characters": 1000,
    "words": 150,
    "pairs": 180,
    "real_words": 1.0,
    "real_pairs": 1.0,
    "marks_per_100": 3.0,
    "quoted_marks_per_100": 4.0,
    "sentence_characters": 80.0,
    "capital_after_end": 0.95,
    "capital_elsewhere": 0.05,
    "word_starts_per_100": 18.0,
}


def texts(**changes: Any) -> dict[str, Any]:
    wording = {**BOOK_WORDING, **changes.pop("wording", {})}
    made = {
        "texts": 50,
        "distinct": 50,
        "characters": 100_000,
        "fresh": 30_000,
        "different_loops": 3,
        "loops": 0.0,
        "loops_seen_after": [],
        "loops_at_a_glance": 0.0,
        "period": None,
        "copied": 0.0,
        "longest_copy": 20,
        "median_longest_copy": 15.0,
        "wording": wording,
        "excerpts": [{"text": "T was <b>bold</b> & so on", "given": 1, "spans": [(2, 9)], "loop": 21}],
    }
    return made | changes


def checkpoint(asked: float | None, step: int, copied: float, greedy: dict[str, Any], real: float) -> Results:
    return {
        "asked": asked,
        "step": step,
        "seconds": 60.0 * step,
        "running_accuracy": asked or 0.5,
        "running_loss": 1.0,
        "engine": "imaginary float32",
        "export_error": 1e-6,
        "windows": {
            "count": 4096,
            "accuracy": 0.8,
            "loss": 0.9,
            "by_position": [0.3] * 5 + [0.8] * 15 + [0.97] * 10,
        },
        "tau": {
            "0.01": {"entropy": 4.2, "top": 0.02},
            "0.5": {"entropy": 2.0, "top": 0.5},
            "1": {"entropy": 1.0, "top": 0.7},
            "2": {"entropy": 0.4, "top": 0.9},
            "100": {"entropy": 0.01, "top": 0.99},
        },
        "greedy": texts(copied=copied, **greedy),
        "sampled": {
            "0.5": texts(wording={"real_words": real}),
            "1": texts(wording={"real_words": (real + 1) / 2 if asked != 0.84 else 0.96}),
            "2": texts(copied=copied / 2, wording={"real_words": 0.98, "sentence_characters": 150.0}),
        },
        "prompt": {
            "times": 4,
            "distinct": 1,
            "follows": 7,
            "excerpt": {"text": "I first met Dean", "given": 11, "spans": [], "loop": None},
        },
        "completions": texts(loops=0.6, recite=0.5, stray=0.4, stray_into_a_copy=0.3),
    }


RESULTS: Results = {
    "book": {
        "sources": ["road.txt"],
        "characters": 512_000,
        "whole": 600_000,
        "vocabulary": 70,
        "sha256": "0" * 64,
        "words": 9000,
        "repeats": 0.005,
        "entropy_of_random": 4.25,
        "wording": BOOK_WORDING,
    },
    "model": {"cell": "lstm", "layers": 2, "embedding": 32, "hidden": 64, "parameters": 123_456},
    "training": {
        "updates": 10_000,
        "batch_size": 128,
        "window": 30,
        "precision": "bfloat16",
        "device": "cpu",
        "seconds": 2345.0,
        "best_accuracy": 0.853,
        "final_accuracy": 0.85,
        "final_loss": 0.5,
    },
    "curve": {
        "step": [1, 2500, 5000, 7500, 10_000],
        "accuracy": [0.1, 0.6, 0.8, 0.83, 0.85],
        "loss": [4.0, 1.2, 0.7, 0.6, 0.5],
        "running_accuracy": [0.1, 0.6, 0.8, 0.83, 0.85],
        "running_loss": [4.0, 1.2, 0.7, 0.6, 0.5],
    },
    "ceiling": {"mean": 0.88, "by_position": [0.3] * 5 + [0.9] * 15 + [0.99] * 10},
    "checkpoints": [
        checkpoint(
            0.65,
            1300,
            0.01,
            {
                "loops": 0.9,
                "loops_seen_after": [100, 300],
                "loops_at_a_glance": 0.5,
                "period": 30.0,
                "wording": {"marks_per_100": 1.0, "quoted_marks_per_100": 4.0, "real_words": 0.99},
            },
            0.4,
        ),
        checkpoint(0.75, 3000, 0.2, {"wording": {"marks_per_100": 2.5}}, 0.5),
        checkpoint(0.84, 7500, 0.8, {}, 0.7),
    ],
}


@pytest.fixture
def results() -> Results:
    """A fresh copy."""
    return copy.deepcopy(RESULTS)


@pytest.fixture
def put() -> Callable[..., None]:
    """Change one figure: ``put(results, "checkpoints.0.greedy.loops", 0.1)``."""

    def change(where: Any, path: str, value: Any) -> None:
        *names, last = path.split(".")
        # "sampled.0.5" is one key of a dictionary: a name that is not there takes the next one along.
        while names:
            name = names.pop(0)
            if isinstance(where, dict) and name not in where:
                name = f"{name}.{names.pop(0)}"
            where = where[int(name) if isinstance(where, list) else name]
        where[int(last) if isinstance(where, list) else last] = value

    return change


@pytest.fixture
def turnip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A harmless word stands for those that are not shown."""
    monkeypatch.setattr(slurs, "LISTED", frozenset({"turnip"}))
