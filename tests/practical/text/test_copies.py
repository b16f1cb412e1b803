"""Copied pieces, against a search for every piece of a text in the book."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.practical.text.copies import LONGEST, Copies, Span, covered, suffix_array

BOOKS = st.text("ab ", min_size=1, max_size=40)
TEXTS = st.text("abx ", max_size=30)


def longest_from(text: str, start: int, book: str) -> int:
    return max(n for n in range(len(text) - start + 1) if text[start : start + n] in book)


@settings(deadline=None)
@given(BOOKS)
def test_suffixes_are_in_order(book):
    assert suffix_array(book).tolist() == sorted(range(len(book)), key=lambda start: book[start:])


@settings(deadline=None)
@given(BOOKS, TEXTS)
def test_agreements_are_the_longest_there_are(book, text):
    lengths, places = Copies(book).matches(text)
    for start, (length, place) in enumerate(zip(lengths, places, strict=True)):
        assert length == longest_from(text, start, book)
        assert book[place : place + length] == text[start : start + length]


@settings(deadline=None)
@given(BOOKS, TEXTS, st.integers(1, 6))
def test_spans_are_the_pieces_that_lie_in_no_longer_one(book, text, least):
    pieces = [
        (start, start + longest_from(text, start, book))
        for start in range(len(text))
        if longest_from(text, start, book) >= least
    ]
    alone = [
        piece
        for piece in pieces
        if not any(other != piece and other[0] <= piece[0] and piece[1] <= other[1] for other in pieces)
    ]
    spans = Copies(book).spans(text, least)
    assert [(span.start, span.end) for span in spans] == alone
    inside = {i for start, end in pieces for i in range(start, end)}
    assert covered(spans) == len(inside)


@settings(deadline=None)
@given(BOOKS, st.integers(1, 6))
def test_what_the_book_repeats_is_counted(book, least):
    inside = set()
    for start in range(len(book) - least + 1):
        piece = book[start : start + least]
        if any(book.startswith(piece, other) for other in range(len(book)) if other != start):
            inside |= set(range(start, start + least))
    assert Copies(book).repeated(least) == pytest.approx(len(inside) / len(book))


def test_a_text_of_the_book_is_one_span():
    book = "".join(f"chapter {n} " for n in range(2000))
    copies = Copies(book)
    assert copies.spans(book[100:3000]) == [Span(0, 2900, 100)]
    assert int(copies.matches(book, 1)[0][0]) == LONGEST < len(book)
    assert copies.spans("nothing of this is in there, not one piece of thirty") == []
    assert copies.spans("") == []
