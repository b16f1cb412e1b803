"""Scores against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.evaluation.scores import CLASSES, Tally, class_groups, class_of, judge, position_groups, positions_of


@pytest.mark.parametrize(
    ("characters", "kind"),
    [
        ("azßéя", "lower case"),
        ("AZÉЯǅ", "upper case"),
        ("日ªʰ", "letter without case"),
        ("09²Ⅷ", "digit"),
        (" \t\u00a0", "space"),
        ("\n\r\u2028", "line end"),
        (".,-“(_$+=€", "punctuation"),
        ("\x00\ufeff\u0301\U0010ffff", "other"),
    ],
)
def test_classes(characters, kind):
    assert {class_of(character) for character in characters} == {kind}
    assert [CLASSES[group] for group in class_groups(characters)] == [kind] * len(characters)


def test_positions_go_together_by_powers_of_two():
    assert position_groups(1, 9).tolist() == [0, 1, 2, 2, 3, 3, 3, 3, 4]
    assert [positions_of(group) for group in range(5)] == [(1, 1), (2, 2), (3, 4), (5, 8), (9, 16)]


@given(st.integers(1, 1 << 52))
def test_a_position_is_in_its_group(position):
    first, last = positions_of(int(position_groups(position, 1)[0]))
    assert first <= position <= last


def test_what_came_is_judged_by_its_probability_and_its_rank():
    logits = np.log(np.array([[0.5, 0.25, 0.125, 0.125], [0.125, 0.25, 0.5, 0.125]], np.float32))
    nats, ranks = judge(np.repeat(logits, 4, axis=0), np.tile(np.arange(4), 2))
    np.testing.assert_allclose(nats / math.log(2), [1, 2, 3, 3, 3, 2, 1, 3], rtol=1e-6)
    assert ranks.tolist() == [0, 1, 2, 3, 2, 1, 0, 3]  # as if sorted, the earlier of equals first


def test_large_logits_and_improbable_characters_are_exact():
    nats, ranks = judge(np.array([[3e38, -3e38], [1000.0, 0.0]], np.float32), np.array([1, 1]))
    np.testing.assert_allclose(nats, [np.float64(np.float32(3e38)) * 2, 1000.0])
    assert ranks.tolist() == [1, 1]
    tally = Tally(1)
    tally.add(np.zeros(2, np.int64), nats, ranks)
    assert tally.score().perplexity is None


def test_sums_by_group():
    tally = Tally(3)
    nats = np.array([1.0, 2.0, 3.0, 6.0]) * math.log(2)
    tally.add(np.array([0, 2, 2, 2]), nats, np.array([0, 0, 4, 5]))
    scores = tally.scores()
    assert scores.keys() == {0, 2}
    assert scores[0].to_dict() == {
        "characters": 1,
        "bits_per_character": 1.0,
        "perplexity": 2.0,
        "accuracy": 1.0,
        "top5_accuracy": 1.0,
    }
    assert (scores[2].characters, scores[2].accuracy, scores[2].top5_accuracy) == (3, 1 / 3, 2 / 3)
    assert scores[2].bits_per_character == pytest.approx(11 / 3)
    assert tally.score().bits_per_character == pytest.approx(3.0)
    assert tally.score().perplexity == pytest.approx(8.0)
