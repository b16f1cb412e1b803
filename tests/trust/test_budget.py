"""The time of a soak is shared out: all of it, by weight, and what one does not need is the others'."""

from __future__ import annotations

import pytest

from . import budget
from .budget import Budget


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(budget.time, "time", lambda: now[0])
    return now


WEIGHTS = {"a": 1.0, "b": 1.0, "c": 2.0}


def test_shares_are_by_weight_and_what_is_not_needed_is_the_others(clock, tmp_path):
    one = Budget(tmp_path / "time", 400.0, WEIGHTS)
    assert one.begin("a") == 1100.0
    clock[0] = 1010.0  # it took a tenth of its share
    assert one.begin("c") == 1010.0 + 390.0 * 2 / 3
    clock[0] = 1300.0  # longer than its share
    assert one.begin("b") == 1400.0


def test_two_processes_have_twice_the_time_but_for_what_one_is_busy_with(clock, tmp_path):
    first = Budget(tmp_path / "time", 400.0, WEIGHTS, "gw0", 2)
    second = Budget(tmp_path / "time", 400.0, WEIGHTS, "gw1", 2)
    assert first.begin("a", 300.0) == 1300.0
    assert second.begin("b") == pytest.approx(1000 + (400 + 100) / 3)
    clock[0] = 1200.0
    assert second.begin("c") == 1400.0  # the share is more than what is left


def test_after_the_end_nothing_is_left(clock, tmp_path):
    one = Budget(tmp_path / "time", 10.0, WEIGHTS)
    one.begin("a")
    clock[0] = 2000.0
    assert one.begin("b") == 2000.0
