"""Batches: right windows, from any step on, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.contract.errors import P2Error
from p2.trainer.windows import Lanes, RandomWindows, split, uniform_integers


@given(st.integers(), st.integers(0, 10**6), st.integers(1, 50), st.integers(1, 10**12))
def test_integers_stay_in_range_and_follow_their_address(
    seed: int, position: int, count: int, high: int
) -> None:
    drawn = uniform_integers(seed, 1, position, count, high)
    assert len(drawn) == count
    assert all(0 <= value < high for value in drawn)
    assert drawn == uniform_integers(seed, 1, position, count, high)


def test_integers_are_uniform() -> None:
    drawn = torch.tensor(uniform_integers(7, 1, 0, 70_000, 7))
    counts = torch.bincount(drawn, minlength=7)
    assert len(counts) == 7
    # Pearson's statistic with 6 degrees of freedom: 0.999 of the time below 22.5.
    assert float(((counts - 10_000) ** 2 / 10_000).sum()) < 22.5


@settings(deadline=None)
@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 40), st.integers(0, 9), st.integers(0, 99))
def test_random_windows_are_windows(seq_len: int, batch_size: int, extra: int, seed: int, step: int) -> None:
    tokens = np.arange(seq_len + 1 + extra, dtype=np.uint8)
    batches = RandomWindows(tokens, seq_len, batch_size, seed)
    inputs, targets = batches.batch(step)
    assert inputs.shape == targets.shape == (batch_size, seq_len)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(seq_len))
    assert torch.equal(targets, inputs + 1)
    assert inputs.min() >= 0
    assert targets.max() < len(tokens)
    assert batches.starts_fresh(step)


def test_random_windows_reach_both_ends_and_change_with_seed_and_step() -> None:
    tokens = np.arange(12, dtype=np.uint8)
    batches = RandomWindows(tokens, 8, 16, 0)
    starts = {int(start) for step in range(20) for start in batches.batch(step)[0][:, 0]}
    assert starts == {0, 1, 2, 3}
    assert not torch.equal(batches.batch(0)[0], batches.batch(1)[0])
    assert not torch.equal(batches.batch(0)[0], RandomWindows(tokens, 8, 16, 1).batch(0)[0])


@settings(deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 5), st.integers(0, 23), st.integers(0, 9))
def test_lanes_read_on_and_never_overlap(
    seq_len: int, batch_size: int, windows: int, extra: int, seed: int
) -> None:
    slack = extra % (seq_len * batch_size)
    tokens = np.arange(seq_len * batch_size * windows + 1 + slack, dtype=np.uint16)
    lanes = Lanes(tokens, seq_len, batch_size, seed)
    assert lanes.windows == windows
    for lap in range(2):
        inputs, targets = zip(
            *(lanes.batch(lap * windows + window) for window in range(windows)), strict=True
        )
        assert [lanes.starts_fresh(lap * windows + window) for window in range(windows)] == [
            window == 0 for window in range(windows)
        ]
        whole = torch.cat(inputs, dim=1)
        assert torch.equal(torch.cat(targets, dim=1), whole + 1)
        # Row after row the lanes are one unbroken stretch of the text.
        assert torch.equal(whole.flatten(), whole[0, 0] + torch.arange(whole.numel()))
        assert 0 <= whole[0, 0] <= slack


@given(st.integers(1, 300), st.floats(0, 0.99), st.integers(1, 20))
def test_split_cuts_the_tail_off_or_says_what_is_too_short(
    length: int, fraction: float, seq_len: int
) -> None:
    tokens = np.arange(length)
    held_out = int(length * fraction)
    if length - held_out <= seq_len:
        with pytest.raises(P2Error, match="the text is too short"):
            split(tokens, fraction, seq_len)
    elif fraction and held_out <= seq_len:
        with pytest.raises(P2Error, match="the held-out part of the text is too short"):
            split(tokens, fraction, seq_len)
    else:
        train, validation = split(tokens, fraction, seq_len)
        assert np.array_equal(np.concatenate([train, validation]), tokens)
        assert len(validation) == held_out


def test_laps_begin_at_other_places() -> None:
    lanes = Lanes(np.arange(8 * 4 * 2 + 1 + 20), 8, 4, seed=0)
    assert len({int(lanes.batch(lap * lanes.windows)[0][0, 0]) for lap in range(20)}) > 5


def test_lanes_need_a_window_each() -> None:
    Lanes(np.arange(33), 8, 4, 0)
    with pytest.raises(P2Error, match="too short for --stateful"):
        Lanes(np.arange(32), 8, 4, 0)
