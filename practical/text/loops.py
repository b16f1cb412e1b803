"""Loops: a text that says the same again and again to its end."""

from __future__ import annotations

from dataclasses import dataclass

REPEATS = 3
"""Whole periods that count as a loop."""

SHORTEST = 20
"""Characters that a loop must have been seen over: three equal letters are none."""


@dataclass(frozen=True)
class Loop:
    """The end of a text repeats itself.

    Attributes:
        start: where the repetition begins.
        period: its length.
    """

    start: int
    period: int

    def phrase(self, text: str) -> str:
        """What is said again and again."""
        return text[self.start : self.start + self.period]


def find_loop(text: str, repeats: int = REPEATS, shortest: int = SHORTEST) -> Loop | None:
    """The loop that a text ends in, that of the smallest period, or None.

    A text ends in a loop of period p if in its last ``max(repeats * p, shortest)`` characters each one equals
    the one p places before it (where that still lies in them). The loop starts where that begins to hold.

    Args:
        text: any string.
        repeats: whole periods there must be, >= 2.
        shortest: characters the repetition must cover.
    """
    borders = _borders(text[::-1])
    for period in range(1, len(text) // repeats + 1):
        # The longest suffix with this period, found in the reversed text as a prefix.
        covered = _periodic_prefix(borders, period)
        if covered >= max(repeats * period, shortest):
            return Loop(len(text) - covered, period)
    return None


def _borders(text: str) -> list[int]:
    """Z function: for each position, how many characters from there on equal the text's beginning."""
    n = len(text)
    z = [0] * n
    if n:
        z[0] = n
    left = right = 0
    for i in range(1, n):
        if i < right:
            z[i] = min(right - i, z[i - left])
        while i + z[i] < n and text[z[i]] == text[i + z[i]]:
            z[i] += 1
        if i + z[i] > right:
            left, right = i, i + z[i]
    return z


def _periodic_prefix(z: list[int], period: int) -> int:
    """Length of the longest prefix that has the period."""
    return period + z[period] if period < len(z) else len(z)


def seen_after(loop: Loop, repeats: int = REPEATS, shortest: int = SHORTEST) -> int:
    """After how many characters a text has shown a loop: those before it, and those that make it count."""
    return loop.start + max(repeats * loop.period, shortest)


def smallest_rotation(phrase: str) -> str:
    """The same for every phrase that differs from it only in where the round begins."""
    return min(phrase[i:] + phrase[:i] for i in range(len(phrase)))
