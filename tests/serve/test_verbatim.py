"""What stands in the training text word for word, beside a search for every piece."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from p2.serve.verbatim import LEAST, Verbatim

SOURCE = "".join(f"{n} green bottles hanging on the wall. " for n in range(40)) + "\U0001f600" * 35


def by_search(text: str) -> list[tuple[int, int]]:
    inside = [False] * len(text)
    for start in range(len(text) - LEAST + 1):
        if text[start : start + LEAST] in SOURCE:
            inside[start : start + LEAST] = [True] * LEAST
    edges = [at for at in range(len(text) + 1) if [*inside, False][at] != [False, *inside][at]]
    return [*zip(edges[::2], edges[1::2], strict=True)]


PIECES = st.tuples(st.integers(0, len(SOURCE)), st.integers(0, 70)).map(lambda at: SOURCE[at[0] : sum(at)])


@given(parts=st.lists(PIECES | st.text("zx\ud800", max_size=4), max_size=6))
def test_spans_are_those_of_a_search(parts):
    text = "".join(parts)
    assert VERBATIM.spans(text) == by_search(text)


VERBATIM = Verbatim([SOURCE])


def test_a_text_shorter_than_a_piece_has_none():
    assert Verbatim(["short"]).spans(SOURCE) == []
    assert VERBATIM.spans("short") == []
