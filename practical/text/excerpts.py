"""Pieces of texts that the tables show, as JSON: what was given, what was written, what of it was copied."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from . import slurs
from .copies import Copies
from .loops import find_loop

SHOWN = 320
"""Characters of a text that a table shows."""

SLIVER = 10
"""Of a copied piece that goes on beyond what is shown, at least so many characters are marked."""


class Excerpt(TypedDict):
    """The beginning of a text.

    `spans` are the copied pieces as (start, end) in `text`, `given` counts the characters of it that were not
    written by the model, and `loop` is the period that the whole text ends in, None if it does not.
    """

    text: str
    given: int
    spans: list[tuple[int, int]]
    loop: int | None


def excerpt(text: str, given: int, copies: Copies) -> Excerpt:
    """The beginning of a text, `given` characters of which were not written by the model."""
    loop = find_loop(text)
    shown = text[:SHOWN]
    # A piece that goes on beyond what is shown is copied all the same.
    spans = copies.spans(text[: 2 * SHOWN])
    inside = [(span.start, min(span.end, len(shown))) for span in spans if span.start <= len(shown) - SLIVER]
    return {"text": shown, "given": given, "spans": inside, "loop": loop.period if loop else None}


class Chosen(TypedDict):
    """Excerpts to be shown, and how many others a slur kept from standing in their place."""

    excerpts: list[Excerpt]
    left_out: int


def choose(texts: Iterable[tuple[str, int]], most: int, copies: Copies) -> Chosen:
    """The beginnings of the first `most` texts in which no slur is seen.

    Args:
        texts: each with how many characters of it were given.
        most: how many are wanted; there are fewer where the texts do not suffice.
        copies: of the book.
    """
    chosen: Chosen = {"excerpts": [], "left_out": 0}
    for text, given in texts:
        if len(chosen["excerpts"]) == most:
            break
        if slurs.stands_in(text[:SHOWN]):
            chosen["left_out"] += 1
        else:
            chosen["excerpts"].append(excerpt(text, given, copies))
    return chosen
