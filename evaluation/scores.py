"""What is added up about predictions: all of them, by the position and by the class of the character."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.agreement import log_softmax
from ..contract.codec import Tokens
from ..contract.sampling import Floats

_CATEGORIES: dict[str, str | tuple[str, ...]] = {
    "lower case": "Ll",
    "upper case": ("Lu", "Lt"),
    "letter without case": ("Lm", "Lo"),
    "digit": "N",
    "space": "Zs",
    "line end": ("Zl", "Zp"),
    "punctuation": ("P", "S"),
}
CLASSES = (*_CATEGORIES, "other")
"""Classes of characters, by Unicode's categories. Symbols count as punctuation."""

TOP = 5
_POSITIONS = 64  # groups


def class_of(character: str) -> str:
    """One of `CLASSES`."""
    if character in "\n\r":
        return "line end"
    if character == "\t":
        return "space"
    category = unicodedata.category(character)
    return next((name for name, begins in _CATEGORIES.items() if category.startswith(begins)), "other")


@dataclass(frozen=True)
class Score:
    """How well some characters were predicted.

    Attributes:
        characters: how many.
        bits_per_character: the mean of ``-log2 p``.
        perplexity: 2 to the power of that; None where that is no float.
        accuracy: share of characters that were the most probable one.
        top5_accuracy: share of characters that were one of the five most probable.
    """

    characters: int
    bits_per_character: float
    perplexity: float | None
    accuracy: float
    top5_accuracy: float

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))


class Tally:
    """Sums over predictions, group by group.

    Args:
        groups: how many there are.
    """

    def __init__(self, groups: int) -> None:
        self._sums = np.zeros((4, groups))  # whole numbers are exact up to 2**53

    def add(self, groups: Tokens, nats: npt.NDArray[np.float64], ranks: Tokens) -> None:
        """Add predictions.

        Args:
            groups: int64 ``[n]``, the group of each.
            nats: ``-ln p``, float64 ``[n]``.
            ranks: see `judge`, int64 ``[n]``.
        """
        count = self._sums.shape[1]
        for row, weights in enumerate((None, nats, ranks == 0, ranks < TOP)):
            self._sums[row] += np.bincount(groups, weights, count)

    def score(self) -> Score:
        """Of all groups together; there is at least one character."""
        return _score(self._sums.sum(axis=1))

    def scores(self) -> dict[int, Score]:
        """Of each group that has a character."""
        return {group: _score(sums) for group, sums in enumerate(self._sums.T) if sums[0]}


def _score(sums: npt.NDArray[np.float64]) -> Score:
    characters, nats, right, near = sums.tolist()
    bits = nats / characters / math.log(2)
    perplexity = 2.0**bits if bits < 1024 else None
    return Score(int(characters), bits, perplexity, right / characters, near / characters)


def judge(logits: Floats, targets: Tokens) -> tuple[npt.NDArray[np.float64], Tokens]:
    """What predictions say of the characters that came.

    Args:
        logits: float32 ``[n, vocab]``, all finite.
        targets: int64 ``[n]``.

    Returns:
        ``-ln p``, float64 ``[n]``, and ranks, int64 ``[n]``: 0 for the most probable character. Of two that
        are equally probable the one that is earlier in the vocabulary comes first, as `argmax` has it.
    """
    chosen = logits[np.arange(len(logits)), targets][:, None]
    before = np.arange(logits.shape[1]) < targets[:, None]
    ranks = ((logits > chosen) | ((logits == chosen) & before)).sum(axis=1)
    return -log_softmax(logits)[np.arange(len(logits)), targets], ranks


def position_groups(first: int, count: int) -> Tokens:
    """The group of each of `count` positions from `first` (>= 1) on, see `positions_of`."""
    return np.frexp(np.arange(first - 1, first - 1 + count, dtype=np.float64))[1].astype(np.int64)


def positions_of(group: int) -> tuple[int, int]:
    """The first and the last position of a group: 1, 2, 3 to 4, 5 to 8, and so on in powers of two."""
    last = 1 << group
    return last // 2 + 1, last


def class_groups(vocabulary: str) -> Tokens:
    """Of each character of a vocabulary, the place of its class in `CLASSES`."""
    return np.array([CLASSES.index(class_of(character)) for character in vocabulary], np.int64)


def tallies() -> tuple[Tally, Tally]:
    """Two that are empty: by position and by class."""
    return Tally(_POSITIONS), Tally(len(CLASSES))
