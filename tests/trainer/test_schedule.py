"""The learning rate is that of PyTorch's own schedulers, and patience ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.optim import lr_scheduler

from p2.trainer.options import TrainOptions
from p2.trainer.schedule import Schedule


def rates_of(make: Callable, count: int, *losses: float) -> list[float]:
    """Of a scheduler of PyTorch that starts at 0.01."""
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    scheduler, rates = make(optimiser), []
    for step in range(count):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step(*losses[step : step + 1])
    return rates


@pytest.mark.parametrize(
    ("options", "theirs"),
    [
        (
            {"schedule": "exponential", "decay_every": 7},
            lambda o: lr_scheduler.ExponentialLR(o, 0.5 ** (1 / 7)),
        ),
        ({"schedule": "step", "decay_every": 7}, lambda o: lr_scheduler.StepLR(o, 7, gamma=0.5)),
        ({"schedule": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, 19, eta_min=0.005)),
        (
            {"schedule": "cosine", "warmup": 4},
            lambda o: lr_scheduler.SequentialLR(
                o,
                [
                    lr_scheduler.LinearLR(o, 0.25, total_iters=3),
                    lr_scheduler.CosineAnnealingLR(o, 15, eta_min=0.005),
                ],
                [4],
            ),
        ),
    ],
)
def test_rates_are_those_of_pytorch(options: dict, theirs: Callable) -> None:
    schedule = Schedule(TrainOptions(lr=0.01, lr_decay=0.5, steps=20, **options))
    assert [schedule.rate(step) for step in range(20)] == pytest.approx(rates_of(theirs, 20), rel=1e-6)


def test_on_a_plateau_the_rate_is_cut_each_time() -> None:
    losses = [3.0, 2.0, 2.0, 2.5, 1.0, 1.5, 0.5]
    make = lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=0, threshold=0.0)  # noqa: E731
    expected = rates_of(make, len(losses), *losses)
    schedule, rates = Schedule(TrainOptions(lr=0.01, lr_decay=0.5, schedule="plateau")), []
    for loss in losses:
        rates.append(schedule.rate(0))
        schedule.validated(loss)
    assert rates == pytest.approx(expected)


def test_patience_counts_validations_in_a_row() -> None:
    schedule = Schedule(TrainOptions(patience=2))
    over = []
    for loss in (3.0, 3.0, 2.0, 2.5):
        schedule.validated(loss)
        over.append(schedule.is_over)
    assert over == [False] * 4
    again = Schedule(TrainOptions(patience=2))
    again.restore(schedule.state)
    again.validated(2.0)
    assert again.is_over
    assert Schedule(TrainOptions()).state == []
