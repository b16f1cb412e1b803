"""Text to tokens and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.codec import Codec, UnknownCharacter, vocabulary_of


@given(st.text(min_size=1))
def test_round_trip(text):
    codec = Codec(vocabulary_of(text))
    assert codec.decode(codec.encode(text)) == text


@given(st.text(min_size=1), st.text())
def test_tokens_are_positions_in_the_sorted_vocabulary(known, text):
    vocabulary = "".join(sorted(set(known)))
    assert Codec(vocabulary).encode(text, on_unknown="skip").tolist() == [
        vocabulary.index(c) for c in text if c in vocabulary
    ]


def test_an_unknown_character_is_named_with_its_position():
    with pytest.raises(
        UnknownCharacter, match=r"'é' \(U\+00E9 LATIN SMALL LETTER E WITH ACUTE\) at position 3"
    ):
        Codec("abc").encode("abcé")


def test_characters_beyond_16_bits_are_one_token():
    assert Codec("a😀").encode("😀a😀").tolist() == [1, 0, 1]


def test_decode_takes_any_sequence():
    assert Codec("ab").decode(iter([1, 0])) == "ba"
    assert Codec("ab").decode([]) == ""
