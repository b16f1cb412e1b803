"""NaN and infinity are found by the array's name."""

from __future__ import annotations

import numpy as np
import pytest

from p2.contract.finite import first_not_finite


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("place", [(0, 0), (3, 4), (6, 8)])
def test_one_number_among_many(value: float, dtype: type, place: tuple[int, int]) -> None:
    array = np.random.default_rng(0).standard_normal((7, 9)).astype(dtype)
    array[0, 1] = np.finfo(dtype).max  # whose sum with others would overflow
    array[1, 1] = np.finfo(dtype).max
    sound = array.copy()
    array[place] = value
    assert first_not_finite({"a": sound, "b": array.T, "c": array}) == "b"
    assert first_not_finite(iter([("a", sound), ("b", sound[:, ::2])])) is None


def test_numbers_beyond_a_limit() -> None:
    sound, beyond = np.array([-1.0, 1.0]), np.array([0.0, -1.5])
    assert first_not_finite({"a": sound, "b": beyond}, 1.0) == "b"
    assert first_not_finite({"a": sound, "b": beyond}, 1.5) is None


def test_integers_and_nothing_at_all() -> None:
    arrays = {"int": np.arange(3), "none": np.zeros((0, 4), np.float32), "byte": np.zeros(2, np.uint8)}
    assert first_not_finite(arrays) is None
    assert first_not_finite({}) is None
