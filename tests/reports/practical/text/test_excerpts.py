"""What the tables show of a text."""

from __future__ import annotations

from p2.reports.practical.text.copies import Copies
from p2.reports.practical.text.excerpts import SHOWN, SLIVER, excerpt

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
