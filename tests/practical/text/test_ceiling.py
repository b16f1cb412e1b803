"""The best possible accuracy, against counting contexts one by one."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.practical.text.ceiling import best_accuracy


@settings(deadline=None)
@given(st.text("abc", min_size=8, max_size=40), st.integers(1, 7))
def test_it_is_the_share_of_the_character_that_follows_most_often(text, length):
    expected = []
    for size in range(1, length + 1):
        following = defaultdict(Counter)
        for start in range(len(text) - size):
            following[text[start : start + size]][text[start + size]] += 1
        right = sum(max(counts.values()) for counts in following.values())
        expected.append(right / (len(text) - size))
    assert best_accuracy(text, length).tolist() == pytest.approx(expected)
