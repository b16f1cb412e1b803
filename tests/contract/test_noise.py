"""The noise stream: addressable, independent of batch and cutting, and of the right distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.noise import NoiseSource, first_tokens, gumbel, words


def philox_4x64_10(counter: tuple[int, ...], key: tuple[int, int]) -> list[int]:
    """Philox-4x64 with ten rounds, straight from the paper (Salmon et al., SC'11)."""
    mask = 2**64 - 1
    a, b, c, d = counter
    k0, k1 = key
    for round_ in range(10):
        if round_:
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
        first, second = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
        a, b, c, d = second >> 64 ^ b ^ k0, second & mask, first >> 64 ^ d ^ k1, first & mask
    return [a, b, c, d]


@pytest.mark.parametrize("first", [10, 2**64 - 2])  # of the last ones the counter has more than 64 bits
def test_words_are_philox_blocks_by_address(first):
    width = 19  # three blocks of eight words for every position
    found = words(seed=12345, stream=6, position=first, count=2, width=width)
    for row, position in enumerate((first, first + 1)):
        expected: list[int] = []
        for block in range(3):
            # The generator counts up before each block, so address n is counter n + 1.
            counter = position * 3 + block + 1
            for word in philox_4x64_10((counter % 2**64, counter >> 64, 0, 0), (12345, 6)):
                expected += [word & 0xFFFFFFFF, word >> 32]
        assert found[row].tolist() == expected[:width]


def test_gumbel_is_the_formula_over_the_words_of_the_paper():
    found = gumbel(7, [2, 9], position=5, count=1, vocab=4)[0]
    for row, stream in enumerate((2, 9)):
        first, second, _, _ = philox_4x64_10((6, 0, 0, 0), (7, stream))
        drawn = [first & 0xFFFFFFFF, first >> 32, second & 0xFFFFFFFF, second >> 32]
        expected = [-math.log(-math.log((word + 0.5) / 2**32)) for word in drawn]
        assert found[row].tolist() == np.float32(expected).tolist()


@pytest.mark.parametrize(("count", "batch", "vocab"), [(3, 2, 5), (200, 3, 96), (70, 17, 30), (1, 1, 40_000)])
def test_gumbel_is_the_formula_at_every_place_of_a_large_block(count, batch, vocab):
    found = gumbel(3, range(batch), position=11, count=count, vocab=vocab)
    drawn = np.stack([words(3, stream, 11, count, vocab) for stream in range(batch)], axis=1)
    expected = -np.log(-np.log((drawn.astype(np.float64) + 0.5) / 2.0**32))
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@given(
    vocab=st.integers(1, 40),
    position=st.integers(0, 2**62),
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=5),
)
def test_a_source_that_reads_on_reads_what_the_addresses_say(vocab, position, counts):
    source = NoiseSource(4, [8, 3], vocab, position)
    for count in counts:
        np.testing.assert_array_equal(source.gumbel(count), gumbel(4, [8, 3], position, count, vocab))
        position += count
        assert source.position == position


def test_first_tokens_take_one_position():
    source = NoiseSource(2, range(5), 30)
    np.testing.assert_array_equal(source.first_tokens(), first_tokens(2, range(5), 30))
    np.testing.assert_array_equal(source.gumbel(3), gumbel(2, range(5), 1, 3, 30))


@given(
    seed=st.integers(-(2**70), 2**70),
    stream=st.integers(0, 2**40),
    position=st.integers(0, 2**50),
    count=st.integers(1, 20),
    cut=st.integers(0, 20),
    vocab=st.integers(1, 40),
)
def test_any_piece_is_the_same_as_in_the_whole(seed, stream, position, count, cut, vocab):
    cut = min(cut, count)
    whole = gumbel(seed, [stream + 1, stream], position, count, vocab)
    pieces = [
        gumbel(seed, [stream], position, cut, vocab),
        gumbel(seed, [stream], position + cut, count - cut, vocab),
    ]
    np.testing.assert_array_equal(whole[:, 1:], np.concatenate(pieces))
    assert np.isfinite(whole).all()


def test_another_seed_stream_or_position_is_other_noise():
    base = gumbel(1, [0], 0, 4, 50)
    for other in (gumbel(2, [0], 0, 4, 50), gumbel(1, [1], 0, 4, 50), gumbel(1, [0], 4, 4, 50)):
        assert (other != base).mean() > 0.99


def test_argmax_of_logits_plus_noise_draws_from_the_softmax():
    logits = np.array([2.0, 1.0, 0.0, -1.0, 0.5])
    draws = np.argmax(logits + gumbel(3, [0], 0, 200_000, 5)[:, 0], axis=-1)
    p = np.exp(logits) / np.exp(logits).sum()
    # Five standard deviations of a binomial share.
    np.testing.assert_allclose(np.bincount(draws) / len(draws), p, atol=5 * np.sqrt(0.25 / len(draws)))


def test_gumbel_has_its_mean_and_variance():
    noise = gumbel(0, range(4), 0, 1000, 100).astype(np.float64)
    assert abs(noise.mean() - 0.5772156649) < 0.02  # Euler's constant
    assert abs(noise.var() - np.pi**2 / 6) < 0.05


def test_first_tokens_are_uniform_and_by_stream():
    tokens = first_tokens(9, range(20_000), 10)
    np.testing.assert_allclose(np.bincount(tokens, minlength=10) / 20_000, 0.1, atol=0.012)
    assert first_tokens(9, [123], 10)[0] == tokens[123]
