"""The time of a run that goes on is that of all its pieces."""

from __future__ import annotations

import json

import pytest

from p2.practical.text import clock as clocks
from p2.practical.text.clock import Clock, Timed
from p2.trainer.display import Silent


@pytest.fixture
def time(monkeypatch):
    """A clock that is set by hand: ``time["wall"] += 3``."""
    now = {"wall": 100.0, "cpu": 7.0}
    monkeypatch.setattr(clocks.time, "monotonic", lambda: now["wall"])
    monkeypatch.setattr(clocks, "_cpu", lambda: now["cpu"])
    return now


def test_pieces_add_up(tmp_path, time):
    path = tmp_path / "seconds.json"
    first = Clock(path, "full", resume=False)
    time["wall"] += 30
    time["cpu"] += 50
    first.save()
    second = Clock(path, "full", resume=True)
    time["wall"] += 2
    time["cpu"] += 1
    assert second.seconds() == {"wall": 32.0, "cpu": 51.0}
    assert Clock(path, "full", resume=False).seconds() == {"wall": 0.0, "cpu": 0.0}


def test_the_mode_is_the_one_of_the_beginning(tmp_path, time):
    path = tmp_path / "seconds.json"
    Clock(path, "quick", resume=False).save()
    assert Clock(path, "full", resume=True).mode == "quick"
    assert Clock(path, "full", resume=False).mode == "full"
    assert Clock(tmp_path / "none.json", "full", resume=True).mode == "full"


@pytest.mark.parametrize("content", ["", "[]", '{"wall": 1}', '{"wall": "x", "cpu": 2}'])
def test_a_damaged_file_costs_the_time_only(tmp_path, time, content):
    path = tmp_path / "seconds.json"
    path.write_text(content)
    assert Clock(path, "full", resume=True).seconds() == {"wall": 0.0, "cpu": 0.0}


def test_the_file_is_kept_fresh_while_training(tmp_path, time):
    path = tmp_path / "seconds.json"
    display = Timed(Silent(), Clock(path, "full", resume=False))
    display.update(None)
    assert not path.exists()  # a second has not passed: nothing is written at every update
    time["wall"] += clocks.SAVE_SECONDS
    display.update(None)
    assert json.loads(path.read_text())["wall"] == clocks.SAVE_SECONDS
    time["wall"] += 1
    display.stop()
    assert json.loads(path.read_text())["wall"] == clocks.SAVE_SECONDS + 1
