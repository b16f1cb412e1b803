"""Pieces of texts that the tables show, as JSON: what was given, what was written, what of it was copied."""

from __future__ import annotations

from typing import TypedDict

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
