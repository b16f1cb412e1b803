"""The choice of a character, against the textbook definitions of its filters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.errors import UsageError
from p2.contract.sampling import Sampling, choose, scale_noise, threshold

logit_rows = st.lists(st.floats(-8, 8, width=16), min_size=1, max_size=12, unique=True)


def survivors(logits: list[float], sampling: Sampling) -> set[int]:
    """The characters that the filters keep, one by one as a person would do it."""
    tau = 1 / sampling.temperature
    order = sorted(range(len(logits)), key=lambda i: -logits[i])
    if sampling.top_k:
        order = order[: sampling.top_k]
    weights = {i: math.exp(tau * (logits[i] - max(logits))) for i in order}
    total = sum(weights.values())
    kept, reached = set(), 0.0
    for i in order:
        if sampling.top_p < 1 and reached >= sampling.top_p:
            break
        kept.add(i)
        reached += weights[i] / total
    best = max(weights.values())
    return {i for i in kept if weights[i] >= sampling.min_p * best}


@given(
    logit_rows,
    st.floats(0.1, 3),
    st.integers(0, 14),
    st.sampled_from([1.0, 0.9, 0.51, 0.2]),
    st.sampled_from([0.0, 0.013, 0.37]),
)
def test_filters_keep_what_their_definition_keeps(logits, temperature, top_k, top_p, min_p):
    sampling = Sampling(temperature, top_k, top_p, min_p)
    row = np.array([logits], np.float32)
    limit = threshold(row, sampling)[0, 0]
    expected = survivors(logits, sampling)
    # Ties are excluded by the strategy, borderline probabilities by the odd numbers above.
    assert {i for i, value in enumerate(row[0]) if value >= limit} == expected


@given(logit_rows, st.floats(0.05, 5))
def test_scaling_the_noise_is_scaling_the_logits(logits, tau):
    rng = np.random.default_rng(0)
    noise = rng.gumbel(size=(1, len(logits))).astype(np.float32)
    row = np.array([logits], np.float32)
    sampling = Sampling.from_tau(tau)
    ours = choose(row, scale_noise(noise.copy(), sampling), sampling)[0]
    textbook = tau * row.astype(np.float64) + noise
    assert textbook[0, ours] >= textbook.max() - 1e-4


def test_greedy_takes_the_largest_and_the_first_of_equals():
    sampling = Sampling(0.0, top_k=2, top_p=0.1, min_p=0.9)  # filters do not matter to it
    logits = np.array([[1.0, 3.0, 3.0, 2.0], [5.0, 1.0, 0.0, 0.0]], np.float32)
    assert not sampling.filters
    assert choose(logits, np.zeros((2, 4), np.float32), sampling).tolist() == [1, 0]


def test_tau_multiplies_what_temperature_divides():
    assert Sampling.from_tau(2.0).temperature == 0.5
    assert Sampling.from_tau(0.5) == Sampling(2.0)


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda: Sampling(-1.0), "temperature"),
        (lambda: Sampling(math.nan), "temperature"),
        (lambda: Sampling(math.inf), "temperature"),
        (lambda: Sampling(1e-45), "temperature"),
        (lambda: Sampling(1e300), "temperature"),
        (lambda: Sampling.from_tau(1e300), "tau"),
        (lambda: Sampling(top_k=-1), "top-k"),
        (lambda: Sampling(top_p=0.0), "top-p"),
        (lambda: Sampling(top_p=1.5), "top-p"),
        (lambda: Sampling(min_p=1.0), "min-p"),
        (lambda: Sampling.from_tau(0.0), "tau"),
        (lambda: Sampling.from_tau(-2.0), "tau"),
    ],
)
def test_impossible_settings_are_named(make, word):
    with pytest.raises(UsageError, match=word):
        make()


@pytest.mark.parametrize(
    "setting", [{"top_k": 1.5}, {"top_k": "3"}, {"top_p": "x"}, {"temperature": None}, {"min_p": [0]}]
)
def test_settings_are_numbers(setting):
    with pytest.raises(UsageError, match="must be a"):
        Sampling(**setting)
