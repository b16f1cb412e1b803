"""What the tables show of a text."""

from __future__ import annotations

import pytest

from p2.practical.text import slurs
from p2.practical.text.copies import Copies
from p2.practical.text.excerpts import SHOWN, SLIVER, choose, excerpt

BOOK = "".join(f"page {n}, " for n in range(100))


def test_a_copied_piece_is_marked_as_far_as_it_is_shown():
    text = "?" * (SHOWN - SLIVER) + BOOK[:60] + "?" * 20 + BOOK[:20] * 3
    shown = excerpt(text, 1, Copies(BOOK))
    assert shown["text"] == text[:SHOWN]
    assert shown["spans"] == [(SHOWN - SLIVER, SHOWN)]
    assert shown["given"] == 1


def test_less_than_a_sliver_is_not_marked():
    text = "?" * (SHOWN - SLIVER + 1) + BOOK[:60]
    assert excerpt(text, 0, Copies(BOOK))["spans"] == []


def test_the_loop_is_that_of_the_whole_text():
    text = "?" * (SHOWN - 1) + "xyz" * 20
    assert excerpt(text, 0, Copies(BOOK))["loop"] == 3
    assert excerpt(text[:SHOWN] + "end", 0, Copies(BOOK))["loop"] is None


@pytest.mark.usefixtures("turnip")
def test_the_next_text_takes_the_place_of_one_with_a_slur():
    texts = [("A turnip.", 1), ("Two", 2), ("?" * SHOWN + " turnip", 3), ("Four", 4)]
    found = choose(texts, 2, Copies(BOOK))
    assert [shown["given"] for shown in found["excerpts"]] == [2, 3]  # beyond what is shown it is not seen
    assert found["left_out"] == 1
    few = choose(texts[:1], 2, Copies(BOOK))
    assert few == {"excerpts": [], "left_out": 1}


@pytest.mark.usefixtures("turnip")
@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a turnip", True),
        ("TURNIPS!", True),
        ("_turnip_-yard", True),
        ("the Turnip’s", True),
        ("so many turni", True),  # cut off
        ("so many turni ", False),
        ("so it may turn", False),
        ("unturnip, turnipy", False),
        ("", False),
    ],
)
def test_a_slur_is_a_whole_word_or_its_plural(text, seen):
    assert slurs.stands_in(text) is seen


def test_the_listed_words_are_such_as_are_looked_for():
    assert all(
        word.isalpha() and word.islower() and slurs.stands_in(f"The {word}s.") for word in slurs.LISTED
    )
    assert not slurs.stands_in("A raccoon, a chink in the wall, tired and fagged out in the dark")
