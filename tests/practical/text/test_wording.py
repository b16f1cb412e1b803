"""Words, marks and sentences, counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.practical.text.wording import Lexicon, first_words, openings, quoted

BOOK = "The cat sat. “Don’t go, cat!” said Tom. He sat by the river, and the cat went."


def test_real_words_are_those_of_the_book():
    # The first and the last word may be cut off: neither counts. "by" is too short to.
    found = Lexicon(BOOK).count(["xx The cat zat by don’t went Riverx"])
    assert (found.words, found.real) == (5, 4)
    assert found.to_dict()["real_words"] == pytest.approx(0.8)


def test_real_pairs_stand_in_the_book_in_a_row():
    found = Lexicon(BOOK).count(["xx the cat sat by the cat Tom yy"])
    # the cat, cat sat, sat by, by the, the cat are; cat Tom is not.
    assert (found.pairs, found.real_pairs) == (6, 5)


@settings(deadline=None)
@given(st.text("ab ’.", max_size=30), st.text("ab ’.", min_size=1, max_size=40))
def test_no_word_is_more_real_than_there_are_words(text, book):
    found = Lexicon(book).count([text, text])
    assert 0 <= found.real <= found.words
    assert 0 <= found.real_pairs <= found.pairs
    assert found.characters == 2 * len(text)


def test_all_words_of_a_book_are_real():
    found = Lexicon(BOOK).count([BOOK])
    assert found.real == found.words > 10
    assert found.real_pairs == found.pairs


def test_marks_are_counted_inside_and_outside_of_quotations():
    found = Lexicon(BOOK).count([BOOK])
    assert (found.marks, found.quoted_marks) == (4, 2)
    assert found.quoted == len("“Don’t go, cat!”")
    rates = found.to_dict()
    assert rates["quoted_marks_per_100"] == pytest.approx(100 * 2 / found.quoted)
    assert rates["marks_per_100"] == pytest.approx(100 * 4 / (len(BOOK) - found.quoted))


@pytest.mark.parametrize(
    ("text", "inside"),
    [
        ("a“b”c", ".###."),
        ('a"b"c', ".###."),
        ("“a\n\nb", "##..."),
        ("a”b", "..."),
        ("", ""),
    ],
)
def test_quotations_end_with_their_mark_or_the_paragraph(text, inside):
    assert "".join(".#"[q] for q in quoted(text)) == inside


def test_capitals_after_the_ends_of_sentences():
    found = Lexicon(BOOK).count(["It sat. Then it went! so it was. “Yes.” And Tom, too"])
    assert found.sentences == 4  # Then, so, Yes, And
    assert found.capitals == 3
    rates = found.to_dict()
    assert rates["capital_after_end"] == pytest.approx(3 / 4)
    assert rates["sentence_characters"] == pytest.approx(found.characters / 4)


def test_nothing_to_count_is_none():
    rates = Lexicon(BOOK).count([""]).to_dict()
    assert {name for name, value in rates.items() if value is None} >= {"real_words", "marks_per_100"}


def test_the_first_words_are_of_the_first_long_paragraph():
    book = "CHAPTER I.\n\nYou don’t know about me without you have read a book by the name of it.\n\nMore."
    assert first_words(book, 4, least=10) == "You don’t know about"
    assert first_words("two words") == "two words"
    assert first_words("  \n") == " "


def test_openings_are_literal_and_spread_over_the_book():
    book = " ".join(f"Yes. Number {n} is the one I mean." for n in range(100))
    found = openings(book, 10)
    assert len(found) == len(set(found)) == 10
    for text in found:
        assert text in book
        assert len(text) >= 16
    places = [book.index(text) for text in found]
    assert places == sorted(places)
    assert places[-1] > 0.8 * len(book)
    assert openings("no sentence here", 10) == []
