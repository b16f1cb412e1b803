"""Settings that are chosen anew while work goes on, with made-up times."""

from __future__ import annotations

from p2.runtime.native.pace import LONGEST_SECONDS, REVIEW_SECONDS, Pace


class Work:
    """Calls of 20 ms, whose steps take what `seconds` says of a setting."""

    def __init__(self, options, first, **seconds):
        self.at = 0.0
        self.pace = Pace(options, first, clock=lambda: self.at)
        self.seconds = dict(seconds)

    def calls(self, count):
        """The settings of so many calls."""
        chosen = []
        for _ in range(count):
            option = self.pace.choose()
            self.at += 0.02
            self.pace.took(option, self.seconds[f"t{option}"])
            chosen.append(option)
        return chosen


def test_the_slower_setting_is_tried_now_and_then():
    work = Work([1, 2], 2, t1=2.0, t2=1.0)
    chosen = work.calls(1000)
    assert work.pace.now == 2
    # 20 s of work: a call after 0.25 and 0.5 s, then one every second, or when the calls under way are over.
    assert chosen.index(1) == round(REVIEW_SECONDS / 0.02) + 1
    assert 17 <= chosen.count(1) <= 2 + 20 / LONGEST_SECONDS
    assert [1, 1] not in [chosen[i : i + 2] for i in range(len(chosen))]


def test_a_machine_that_changes_is_followed():
    work = Work([1, 2], 2, t1=2.0, t2=1.0)
    work.calls(50)
    for faster, slower in ((1, 2), (2, 1), (1, 2)):
        work.seconds = {f"t{faster}": 1.0, f"t{slower}": 1.5}
        work.calls(int(LONGEST_SECONDS / 0.02) + 5)
        assert work.pace.now == faster


def test_a_single_disturbance_changes_nothing():
    work = Work([1, 2], 2, t1=2.0, t2=1.0)
    work.calls(5)
    while work.pace.choose() == 2:
        work.calls(1)
    work.pace.took(1, 0.1)
    assert work.calls(2) == [2, 1]  # tried once more, at once
    assert work.pace.now == 2
    assert work.calls(8) == [2] * 8


def test_a_little_faster_is_not_enough():
    work = Work([1, 2], 2, t1=0.97, t2=1.0)
    work.calls(500)
    assert work.pace.now == 2


def test_every_setting_has_its_turn():
    work = Work([1, 2, 4], 4, t1=3.0, t2=2.0, t4=1.0)
    assert set(work.calls(100)) == {1, 2, 4}
    work.seconds["t2"] = 0.5
    work.calls(250)
    assert work.pace.now == 2
    work.seconds["t1"] = 0.1
    work.calls(250)
    assert work.pace.now == 1


def test_nothing_to_choose():
    assert set(Work([2], 2, t2=1.0).calls(100)) == {2}
