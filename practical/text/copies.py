"""What a text has copied from a book, word for word."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ...contract.codec import Codec, vocabulary_of

SPAN = 30
"""Characters from which on an agreement counts as copied."""

LONGEST = 1 << 12
"""Agreements are followed over at most so many characters."""


@dataclass(frozen=True)
class Span:
    """A copied piece: ``text[start:end] == book[place : place + end - start]``."""

    start: int
    end: int
    place: int


class Copies:
    """A book that texts are compared with, by its suffix array (Manber and Myers, 1993).

    Args:
        book: the text that may have been copied.
    """

    def __init__(self, book: str) -> None:
        self._book = book
        self._suffixes = suffix_array(book).tolist()

    def matches(
        self, text: str, positions: int | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """The longest agreement from each position of a text on.

        Args:
            text: any string.
            positions: only from so many first ones; None is all.

        Returns:
            Its length (0 if the character is not in the book, at most `LONGEST`) and a place in the book
            where it stands, int64 ``[positions]`` each.
        """
        count = len(text) if positions is None else min(positions, len(text))
        lengths, places = np.zeros(count, np.int64), np.zeros(count, np.int64)
        for position in range(count):
            lengths[position], places[position] = self._longest(text, position)
        return lengths, places

    def _longest(self, text: str, position: int) -> tuple[int, int]:
        book, suffixes = self._book, self._suffixes
        # In sorted order the suffixes that agree longest with the text are its two neighbours.
        size = SPAN
        while True:
            wanted = text[position : position + size]
            at = bisect_left(suffixes, wanted, key=lambda start: book[start : start + size])
            near = [suffixes[index] for index in (at - 1, at) if 0 <= index < len(suffixes)]
            length, place = max(((_common(wanted, book, start), -start) for start in near), default=(0, 0))
            if length < size or size >= LONGEST:
                return length, -place
            size = min(LONGEST, 4 * size)

    def spans(self, text: str, least: int = SPAN) -> list[Span]:
        """The copied pieces of at least `least` characters that lie in no longer one; they may overlap."""
        return spans_of(*self.matches(text), least)

    def repeated(self, least: int = SPAN) -> float:
        """Share of the book's own characters that lie in a piece of `least` that it holds more than once.

        What a text that copies nothing but happens to be by the same author would come to.
        """
        book = self._book
        seen: dict[str, int] = {}
        for start in range(len(book) - least + 1):
            piece = book[start : start + least]
            seen[piece] = seen.get(piece, 0) + 1
        inside = bytearray(len(book))
        for start in range(len(book) - least + 1):
            if seen[book[start : start + least]] > 1:
                inside[start : start + least] = b"\1" * least
        return sum(inside) / max(1, len(book))


def spans_of(lengths: npt.NDArray[np.int64], places: npt.NDArray[np.int64], least: int = SPAN) -> list[Span]:
    """The copied pieces that `Copies.matches` has found, see `Copies.spans`."""
    found: list[Span] = []
    end = 0
    for start, (length, place) in enumerate(zip(lengths.tolist(), places.tolist(), strict=True)):
        if length >= least and start + length > end:
            end = start + length
            found.append(Span(start, end, place))
    return found


def covered(spans: list[Span]) -> int:
    """Characters that lie in at least one of the spans, which are in order of their starts."""
    total, end = 0, 0
    for span in spans:
        total += max(0, span.end - max(span.start, end))
        end = max(end, span.end)
    return total


def suffix_array(text: str) -> npt.NDArray[np.int64]:
    """Starts of the suffixes of a text in ascending order of the suffixes, int64 ``[len(text)]``.

    By doubling (Manber and Myers, 1993): ranks by the first 1, 2, 4, ... characters until all differ.
    """
    if not text:
        return np.zeros(0, np.int64)
    rank = Codec(vocabulary_of(text)).encode(text)
    size = 1
    while True:
        second = np.zeros_like(rank)
        second[: len(rank) - size] = rank[size:] + 1  # a suffix that has ended comes first
        keys = rank * (int(second.max()) + 1) + second
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        rank = np.empty_like(rank)
        rank[order] = np.cumsum(np.r_[False, ordered[1:] != ordered[:-1]])
        if rank[order[-1]] == len(text) - 1:
            return order
        size *= 2


def _common(wanted: str, book: str, start: int) -> int:
    """How many characters of `wanted` stand in the book from `start` on."""
    piece = book[start : start + len(wanted)]
    if piece == wanted:
        return len(wanted)
    low, high = 0, len(piece)  # the first `low` agree, and `high + 1` do not
    while low < high:
        middle = (low + high + 1) // 2
        if piece[:middle] == wanted[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
