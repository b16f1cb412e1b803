"""Loops, against their definition tried out in every possible way."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2.practical.text.loops import Loop, find_loop, seen_after, smallest_rotation


def by_definition(text: str, repeats: int, shortest: int) -> Loop | None:
    for period in range(1, len(text) + 1):
        least = max(repeats * period, shortest)
        starts = [
            start
            for start in range(len(text))
            if all(text[i] == text[i - period] for i in range(start + period, len(text)))
        ]
        if len(text) - min(starts) >= least:
            return Loop(min(starts), period)
    return None


@settings(deadline=None)
@given(
    st.text("ab", max_size=12), st.text("abc", min_size=1, max_size=6), st.integers(0, 8), st.integers(2, 4)
)
def test_the_loop_is_the_one_of_the_definition(before, phrase, times, repeats):
    text = before + phrase * times + phrase[:1]
    assert find_loop(text, repeats, 5) == by_definition(text, repeats, 5)


def test_a_phrase_that_goes_round_three_times_is_a_loop():
    phrase = "when he was a driver "
    assert find_loop("I woke up," + phrase * 3) == Loop(10, 21)
    assert find_loop("I woke up," + phrase * 2) is None
    assert find_loop("I woke up," + phrase * 3 + "and") is None  # it has left it


def test_a_few_equal_letters_are_none():
    assert find_loop("wait..." + "!" * 10) is None
    assert find_loop("wait..." + "!" * 20) == Loop(7, 1)
    assert find_loop("") is None


def test_it_is_seen_once_it_has_gone_round():
    assert seen_after(Loop(10, 21)) == 73
    assert seen_after(Loop(7, 1)) == 27  # twenty characters at the least


@settings(deadline=None)
@given(st.text("ab ", min_size=1, max_size=12), st.integers(0, 11))
def test_a_loop_is_the_same_wherever_its_round_begins(phrase, shift):
    turned = phrase[shift % len(phrase) :] + phrase[: shift % len(phrase)]
    assert smallest_rotation(turned) == smallest_rotation(phrase)
    assert sorted(smallest_rotation(phrase)) == sorted(phrase)


def test_the_phrase_of_a_loop_is_one_round():
    text = "I woke up," + "and so on " * 4
    loop = find_loop(text)
    assert loop is not None
    assert loop.phrase(text) == "and so on "
