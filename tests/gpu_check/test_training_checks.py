"""The checks of training, on the processor: rates of every loop, and updates that are followed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from p2.bench import training_rates
from p2.bench.options import VOCABULARY
from p2.bench.training_rates import LOOPS, ByHand, Loop, Shape
from p2.contract.card import Card
from p2.gpu_check import check as words
from p2.gpu_check import reading, report, training, worker
from p2.gpu_check.check import Check
from p2.trainer.learner import Learner
from p2.trainer.options import TrainOptions

CPU = torch.device("cpu")


@pytest.fixture
def shape() -> Shape:
    options = TrainOptions(
        embedding=4, hidden=8, batch_size=4, seq_len=6, precision="float32", val_fraction=0.0
    )
    return Shape(Card("lstm", 2, 4, 8, VOCABULARY), options, CPU)


def test_every_loop_that_runs_here_has_a_rate(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Shape) -> Any:
        raise RuntimeError("CUDA out of memory\nand more")

    monkeypatch.setattr(training_rates, "WARM_UPDATES", 1)
    monkeypatch.setattr(training_rates, "LOOPS", (*LOOPS, Loop("broken", broken)))
    found = training_rates.measure(shape, 1, 1)
    here = [loop for loop in LOOPS if not loop.device]
    assert [row["title"] for row in found] == [*(loop.title for loop in here), "broken"]
    # By the sizes of the matrices: embedding 4, hidden 8, 96 characters.
    weights = 32 * (4 + 8) + 32 * (8 + 8)
    for row, loop in zip(found, here, strict=False):
        assert row["problem"] is None
        assert row["characters_per_second"] == pytest.approx(24 / row["seconds_per_update"])
        products = weights + (96 * 8 if loop.output else 0)
        assert row["tflops"] == pytest.approx(6 * products * row["characters_per_second"] / 1e12)
    assert found[-1]["problem"] == "CUDA out of memory"
    assert found[-1]["tflops"] is None


def test_the_loop_by_hand_learns(shape: Shape, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(Shape, "text", lambda self: "ab" * 200)
    loop, losses = ByHand(shape), []
    real = loop._loss

    def noted(windows: torch.Tensor) -> torch.Tensor:
        loss = real(windows)
        losses.append(loss.item())
        return loss

    loop._loss = noted
    for number in range(150):
        loop.update(number)
    assert losses[0] == pytest.approx(math.log(96), abs=0.3)
    assert losses[-1] < losses[0] - 1.5


def test_updates_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = worker.run(Check("updates", 9.0, mode=words.REHEARSAL), tmp_path)
    assert found.outcome == words.PASSED, found.reason
    assert len(found.details["losses"]) == found.details["updates"]


def test_updates_that_lose_their_figures_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Learner.figures
    monkeypatch.setattr(training, "_KINDS", {"windows": {}})
    monkeypatch.setattr(
        Learner, "figures", lambda self, everything: figures(self, everything=True)[:everything]
    )
    found = worker.run(Check("updates", 9.0, mode=words.REHEARSAL), tmp_path)
    assert found.outcome == words.FAILED
    assert "windows: figures that are read late are other ones" in found.reason


def test_the_page_has_the_rates_and_the_goal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"title": "p2", "seconds_per_update": 0.02, "characters_per_second": 192_000.0, "tflops": 270.4}
    failed = dict.fromkeys(("seconds_per_update", "characters_per_second", "tflops"))
    rows = [
        row | {"problem": None},
        {"title": "the same, a CUDA graph", **failed, "problem": "cannot | capture"},
    ]
    monkeypatch.setattr(training_rates, "measure", lambda *_: rows)
    found = worker.run(Check("training", 9.0, cell="lstm", hidden=4096), tmp_path)
    assert not reading.problem(found.details, reading._Training, "details")
    page = report._training(found.to_dict())
    assert "| p2 | 20.00 | 192,000 | 270.4 |" in page
    assert "| the same, a CUDA graph | not run: cannot \\| capture |  |  |" in page
    assert "| GPU, training, two LSTM layers of 4,096 | ≥ 350 TFLOP/s | 270 TFLOP/s | missed |" in page
