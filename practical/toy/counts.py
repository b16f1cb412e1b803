"""Exact counts of the toy problem's numbers, and what can be guessed from them without reading a digit."""

from __future__ import annotations

import math

from .problem import KEEP, LEAST, BaumSweet, after_one, completions

Counts = dict[int, tuple[int, int]]
"""Binary length -> how many numbers of class 0 and of class 1."""


def class_counts(magnitude: int) -> Counts:
    """How many of 10 ... 10**T have each binary length and class; exact for any T, without listing them."""
    most = 10**magnitude
    found = {}
    for length in range(LEAST.bit_length(), most.bit_length() + 1):
        all_below = min(most, 2**length - 1) - max(LEAST, 2 ** (length - 1)) + 1
        positive = _positives(length, most) - _positives(length, LEAST - 1)
        found[length] = (all_below - positive, positive)
    return found


def _positives(length: int, bound: int) -> int:
    """How many n <= bound of so many binary digits have b(n) = 1: a walk along the bound's digits."""
    if bound.bit_length() < length:
        return 0
    if bound.bit_length() > length:
        return completions(length - 1, 0)[0]
    total, state = 0, 0
    for left in range(length - 2, -1, -1):
        if bound >> left & 1:
            total += completions(left, 0)[state ^ 1]  # smaller from here on
            state = after_one(state)
            if state:  # the bound itself has an odd block now
                return total
        else:
            state ^= 1
    return total + completions(0, 0)[state]


def shares(data: BaumSweet) -> dict[int, tuple[float, float]]:
    """The probability that a sample has each binary length and class."""
    counts = class_counts(data.magnitude)
    negatives, positives = (sum(pair[y] for pair in counts.values()) for y in (0, 1))
    if data.sampling == "rejection":
        total = negatives * KEEP + positives
        return {length: (n * KEEP / total, p / total) for length, (n, p) in counts.items()}
    if data.sampling == "balanced":
        return {length: (n / negatives / 2, p / positives / 2) for length, (n, p) in counts.items()}
    return {length: (p / positives / 2, p / positives / 2) for length, (_, p) in counts.items()}


def prior(data: BaumSweet) -> float:
    """P(b(n) = 1) of a sample."""
    return sum(positive for _, positive in shares(data).values())


def entropy(p: float) -> float:
    """Of a coin, in nats: the least loss of a model that knows the share of the classes and nothing else."""
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def majority(data: BaumSweet) -> float:
    """Accuracy of always naming the commoner class."""
    return max(prior(data), 1 - prior(data))


def length_only(data: BaumSweet) -> float:
    """The best accuracy of a model that sees where the padding ends, and no digit."""
    return sum(max(pair) for pair in shares(data).values())
