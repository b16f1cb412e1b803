"""The toy problem's samples against the definition, written with strings, and against published terms."""

from __future__ import annotations

import math
import re
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.errors import UsageError
from p2.practical.toy.counts import class_counts, entropy, length_only, majority, prior
from p2.practical.toy.problem import (
    KEEP,
    ONE,
    PAD,
    SAMPLINGS,
    ZERO,
    BaumSweet,
    baum_sweet,
    completions,
    encode,
    labels_of,
    to_bits,
    to_numbers,
)

A086747 = "11011001010010011001000001001001"  # n = 0 ... 31


def odd_blocks(number: int) -> int:
    """The definition: maximal blocks of zeros of odd length in the binary expansion; none in that of 0."""
    return sum(len(block) % 2 for block in re.findall("0+", f"{number:b}")) if number else 0


def spelt(symbols: np.ndarray) -> list[int]:
    """The numbers of symbols, by Python's own reading of binary digits; the padding must lead."""
    texts = ["".join(".01"[s] for s in row) for row in symbols]
    assert all(re.fullmatch(r"\.*(1[01]*|0)", text) for text in texts)
    return [int(text.lstrip("."), 2) for text in texts]


def test_first_terms():
    assert "".join(str(int(b)) for b in baum_sweet(np.arange(32))) == A086747
    assert baum_sweet([124, 3234]).tolist() == [True, False]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1))
def test_it_is_the_definition(numbers):
    assert baum_sweet(numbers).tolist() == [odd_blocks(n) == 0 for n in numbers]


@given(st.integers(0, 2**63 - 1))
def test_recurrence(n):
    """b(2n+1) = b(n), b(4n) = b(n), b(4n+2) = 0, where the products fit."""
    small = n >> 2
    b = baum_sweet([small, 2 * small + 1, 4 * small, 4 * small + 2])
    assert b[1] == b[0]
    assert b[2] == b[0]
    assert not b[3]


def test_a_negative_number_is_refused():
    with pytest.raises(UsageError, match="n >= 0"):
        baum_sweet([-1])


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(41, 80))
def test_symbols_spell_the_number(numbers, steps):
    symbols = encode(to_bits(numbers, 41), steps)
    assert symbols.shape == (len(numbers), steps)
    assert spelt(symbols) == numbers
    assert to_numbers(symbols).tolist() == numbers
    assert labels_of(symbols).tolist() == baum_sweet(numbers).astype(int).tolist()


def test_symbols_by_hand():
    assert encode(to_bits([0, 5], 4), 6).tolist() == [
        [PAD, PAD, PAD, PAD, PAD, ZERO],
        [PAD, PAD, PAD, ONE, ZERO, ONE],
    ]


@pytest.mark.parametrize(
    ("magnitude", "integers", "positives", "share", "nats"),
    [(4, 9_991, 719, 0.8226, 0.467), (5, 99_991, 3_298, 0.6710, 0.633), (6, 999_991, 16_718, 0.5041, 0.693)],
)
def test_counts_and_priors_of_the_documented_data_set(magnitude, integers, positives, share, nats):
    numbers = np.arange(10, 10**magnitude + 1)
    of_class_1 = int(baum_sweet(numbers).sum())
    assert (len(numbers), of_class_1) == (integers, positives)
    by_hand = of_class_1 / (of_class_1 + (len(numbers) - of_class_1) * KEEP)
    assert by_hand == pytest.approx(share, abs=5e-5)
    data = BaumSweet(magnitude)
    assert prior(data) == pytest.approx(by_hand)
    assert entropy(prior(data)) == pytest.approx(nats, abs=5e-4)
    assert data.steps == 4 * magnitude


@pytest.mark.parametrize("magnitude", [2, 3, 4])
def test_exact_counts_are_those_of_a_list(magnitude):
    listed = Counter((n.bit_length(), odd_blocks(n) == 0) for n in range(10, 10**magnitude + 1))
    counts = class_counts(magnitude)
    assert {(length, y): pair[y] for length, pair in counts.items() for y in (0, 1)} == {
        (length, y): listed[length, bool(y)] for length in counts for y in (0, 1)
    }


def test_counts_of_long_numbers():
    """Baum-Sweet numbers of L digits are a one and a row of 1 and 00: Fibonacci's numbers."""
    fibonacci = [1, 1]
    while len(fibonacci) < 50:
        fibonacci.append(fibonacci[-1] + fibonacci[-2])
    counts = class_counts(15)
    for length in range(5, 50):
        assert counts[length][1] == fibonacci[length - 1]
        assert sum(counts[length]) == 2 ** (length - 1)
    assert sum(map(sum, counts.values())) == 10**15 - 9


@pytest.mark.parametrize("odd", [0, 1, 2])
def test_completions_are_those_of_a_list(odd):
    for digits in range(8):
        words = [f"1{n:0{digits}b}" if digits else "1" for n in range(2**digits)]
        assert completions(digits, odd)[0] == sum(odd_blocks(int(word, 2)) == odd for word in words)


def test_baselines_by_hand():
    """T = 2, by a list of all 91 numbers."""
    positives = Counter(n.bit_length() for n in range(10, 101) if odd_blocks(n) == 0)
    negatives = Counter(n.bit_length() for n in range(10, 101) if odd_blocks(n) > 0)
    data = BaumSweet(2, "balanced")
    best = sum(
        max(positives[length] / positives.total(), negatives[length] / negatives.total())
        for length in positives | negatives
    )
    assert length_only(data) == pytest.approx(best / 2)
    assert majority(data) == pytest.approx(0.5)
    assert length_only(BaumSweet(2, "near-miss")) == pytest.approx(0.5)
    documented = prior(BaumSweet(2))
    assert majority(BaumSweet(2)) == max(documented, 1 - documented)
    assert entropy(0.5) == pytest.approx(math.log(2))
    assert entropy(1.0) == 0


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("magnitude", [2, 4, 8, 30])
def test_samples_are_in_range_and_rightly_labelled(sampling, magnitude):
    if sampling == "rejection" and magnitude == 30:
        magnitude = 12
    data = BaumSweet(magnitude, sampling)
    symbols, labels = data.batch(300, 1, 0)
    assert symbols.shape == (300, 4 * magnitude)
    numbers = spelt(symbols)
    assert all(10 <= n <= 10**magnitude for n in numbers)
    assert labels.tolist() == [int(odd_blocks(n) == 0) for n in numbers]
    again = data.batch(300, 1, 0)
    assert (again.symbols == symbols).all()
    assert (data.batch(300, 1, 1).symbols != symbols).any()
    assert (data.batch(300, 2, 0).symbols != symbols).any()


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_number_comes_as_often_as_it_should(sampling):
    """T = 2: all 91 numbers, each within five standard deviations of its share."""
    drawn = Counter(spelt(BaumSweet(2, sampling).batch(60_000, 3, 0).symbols))
    numbers = range(10, 101)
    positive = [n for n in numbers if odd_blocks(n) == 0]
    if sampling == "rejection":
        weights = {n: 1 if n in positive else KEEP for n in numbers}
    elif sampling == "balanced":
        weights = {n: 1 / len(positive) if n in positive else 1 / (91 - len(positive)) for n in numbers}
    else:
        lengths = Counter(n.bit_length() for n in positive)
        near = [n for n in numbers if odd_blocks(n) == 1]
        of_length = Counter(n.bit_length() for n in near)
        weights = {n: 1 / len(positive) for n in positive}
        weights |= {n: lengths[n.bit_length()] / len(positive) / of_length[n.bit_length()] for n in near}
    total = sum(weights.values())
    for n in numbers:
        p = weights.get(n, 0) / total
        assert abs(drawn[n] - 60_000 * p) <= 5 * math.sqrt(60_000 * p * (1 - p)), n
    assert set(drawn) <= set(weights)


def test_the_share_of_the_classes_is_the_prior():
    data = BaumSweet(6)
    labels = data.batch(20_000, 0, 0).labels
    p = prior(data)
    assert abs(labels.mean() - p) < 5 * math.sqrt(p * (1 - p) / 20_000)


def test_a_near_miss_has_one_odd_block_and_ordinary_lengths():
    symbols, labels = BaumSweet(20, "near-miss").batch(4_000, 0, 0)
    numbers = spelt(symbols)
    assert {odd_blocks(n) for n, y in zip(numbers, labels, strict=True) if y == 0} == {1}
    mean = [np.mean([n.bit_length() for n, y in zip(numbers, labels, strict=True) if y == c]) for c in (0, 1)]
    assert abs(mean[0] - mean[1]) < 0.25  # the standard deviation of a length is about 2


@pytest.mark.parametrize("sampling", ["rejection", "balanced"])
def test_withheld_integers_are_never_drawn(sampling):
    data = BaumSweet(2, sampling, withheld=0.3)
    drawn = set(spelt(data.batch(20_000, 0, 0).symbols))
    withheld = set(np.flatnonzero(data.withheld_table).tolist())
    assert not drawn & withheld
    assert drawn == set(range(10, 101)) - withheld


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"magnitude": 1}, "magnitude"),
        ({"magnitude": 61}, "magnitude"),
        ({"magnitude": 4, "sampling": "fair"}, "near-miss"),
        ({"magnitude": 4, "withheld": 0.6}, "0 to 0.5"),
        ({"magnitude": 4, "sampling": "near-miss", "withheld": 0.1}, "not from near-miss"),
        ({"magnitude": 10, "withheld": 0.1}, "up to T = 7"),
    ],
)
def test_what_cannot_be_meant_is_refused(values, says):
    with pytest.raises(UsageError, match=says):
        BaumSweet(**values)
