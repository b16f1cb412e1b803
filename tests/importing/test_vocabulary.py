"""Vocabularies of other projects: JSON either way, a text of the characters, the training text."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.errors import P2Error
from p2.importing.vocabulary import read_vocabulary, vocabulary_of_text

characters = st.lists(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"),
    min_size=1,
    max_size=20,
    unique=True,
)


@given(characters)
def test_every_form_says_the_same(tmp_path_factory, listed):
    folder = tmp_path_factory.mktemp("v")
    forms = {
        "list.json": json.dumps(listed),
        "to.json": json.dumps({c: n for n, c in enumerate(listed)}),
        "back.json": json.dumps({str(n): c for n, c in reversed([*enumerate(listed)])}),
        "text.txt": "".join(listed),
        "marked.txt": "\ufeff" + "".join(listed) + "\n",
    }
    for name, text in forms.items():
        (folder / name).write_bytes(text.encode())
        assert read_vocabulary(folder / name, len(listed)) == listed


def test_a_training_text_is_sorted_and_has_the_line_ends_of_the_model(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes("\ufeffba\r\nab".encode())
    assert vocabulary_of_text(path, 3) == ["\n", "a", "b"]
    assert vocabulary_of_text(path, 4) == ["\n", "a", "b", "\ufeff"]
    assert vocabulary_of_text(path, 5) == ["\n", "\r", "a", "b", "\ufeff"]
    with pytest.raises(P2Error, match=r"has 4 characters, and the model tells 7 apart"):
        vocabulary_of_text(path, 7)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["a", "b"]', "has 2 characters, and the model tells 3 apart"),
        ('["a", "b", "a"]', "holds 'a' (U+0061 LATIN SMALL LETTER A) twice, as number 0 and 2"),
        ('["a", "b", "<unk>"]', "entry 2 is '<unk>', not one character"),
        ('["a", "b", ""]', "entry 2 is '', not one character"),
        ('["a", "b", 3]', "entry 2 is 3, not one character"),
        ('{"a": 0, "b": 1, "c": 3}', "2 is missing, 3 is there"),
        ('{"a": 1, "b": 2, "c": 3}', "0 is missing, 1 is there"),
        ('{"a": 0, "b": 1, "c": 1}', "2 is missing, 1 is there"),
        ('{"0": "a", "1": "b", "01": "c"}', "2 is missing, 1 is there"),
        ('{"a": "b", "c": "d"}', "neither from characters to numbers nor back"),
        ('{"a": 0, "a": 1}', "is there twice"),
        ('{"0": ["a"]}', "entry 0 is"),
        ("3", "is no vocabulary"),
        ("[", "not valid JSON"),
    ],
)
def test_what_is_no_vocabulary(text, said, tmp_path):
    path = tmp_path / "v.json"
    path.write_text(text)
    with pytest.raises(P2Error) as error:
        read_vocabulary(path, 3)
    assert said in str(error.value)


def test_what_is_no_text(tmp_path):
    path = tmp_path / "v.txt"
    path.write_bytes(b"a\xff")
    for read in (read_vocabulary, vocabulary_of_text):
        with pytest.raises(P2Error, match="not UTF-8"):
            read(path, 2)
    with pytest.raises(P2Error, match="cannot read"):
        read_vocabulary(tmp_path / "none.txt", 2)
