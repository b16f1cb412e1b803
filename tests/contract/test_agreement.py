"""Distances between logits, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from p2.contract.agreement import agreement, bits_per_character
from p2.contract.precisions import Limits


def test_two_classes_by_hand():
    reference = np.array([[[math.log(3), 0.0]]], np.float32)  # p = 3/4, 1/4
    candidate = np.array([[[0.0, 0.0]]], np.float32)  # q = 1/2, 1/2
    found = agreement(reference, candidate)
    assert found.steps == 1
    assert found.max_abs == pytest.approx(math.log(3))
    assert found.kl == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert found.relative == pytest.approx(1.0)  # everything that varied is gone


def test_a_constant_added_to_all_logits_is_no_error():
    logits = np.random.default_rng(0).standard_normal((3, 4, 5)).astype(np.float32)
    found = agreement(logits, logits + np.float32(3))
    assert found.steps == 12
    assert found.max_abs == pytest.approx(3, abs=1e-5)
    assert found.relative < 1e-6
    assert found.kl < 1e-12


def test_an_error_is_not_compared_with_nothing():
    logits = np.array([[[1e-30, 0.0, 2e-30]]], np.float32)
    assert agreement(logits, np.zeros_like(logits)).relative < 1e-29
    other = np.array([[[0.0, 1.0, 2.0]]], np.float32)
    assert agreement(logits, other).relative == pytest.approx(math.sqrt(2 / 3))


def test_nan_is_never_within_limits():
    logits = np.ones((1, 2), np.float32)
    assert not agreement(logits, logits * np.nan).within(Limits(relative=1e9, kl=1e9))


def test_bits_per_character():
    uniform = np.zeros((1, 6, 8), np.float32)
    assert bits_per_character(uniform, np.zeros((1, 6), np.int64)) == pytest.approx(3.0)
