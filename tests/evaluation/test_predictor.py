"""Reading piece by piece: the same figures however a text is cut, in memory that does not grow."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Container
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.errors import P2Error, UsageError
from p2.evaluation import predictor as module
from p2.evaluation.predictor import Predictor
from p2.evaluation.scores import position_groups

V = 7


class Table:
    """An engine whose logits are those of a table, by the token and by how many were read before it.

    Args:
        sizes: the batches that it takes, as a plan's profiles have it.
        nan: number of the character, over all calls, after which there is NaN.
    """

    name = "table"

    def __init__(self, sizes: Container[int] = range(1, 1000), nan: int | None = None) -> None:
        self.card = SimpleNamespace(vocab=V, vocabulary="\n .Aab1")
        self.sizes, self.nan, self.fed = sizes, nan, 0
        self.largest = 0  # characters of one call
        self.table = np.random.default_rng(0).normal(size=(64, V, V)).astype(np.float32)

    def zero_state(self, batch):
        if batch not in self.sizes:
            raise UsageError("not built for that batch")
        return [0]

    def feed(self, state, tokens, *, logits=False):
        length = tokens.shape[1]
        self.largest = max(self.largest, tokens.size)
        found = self.table[(state[0] + np.arange(length)) % 64, tokens]
        state[0] += length
        if self.nan is not None and self.fed <= self.nan < self.fed + tokens.size:
            found.reshape(-1, V)[self.nan - self.fed, 3] = np.nan
        self.fed += tokens.size
        return found


def by_hand(engine, tokens, window):
    """Bits by position and by token, one character at a time."""
    positions, classes = {}, {}
    for at in range(len(tokens) - 1):
        read = at % window if window else at
        row = engine.table[read % 64, tokens[at]].astype(np.float64)
        bits = -math.log2(np.exp(row[tokens[at + 1]]) / np.exp(row).sum())
        positions.setdefault(int(position_groups(read + 1, 1)[0]), []).append(bits)
        classes.setdefault(int(tokens[at + 1]), []).append(bits)
    return positions, classes


@given(
    length=st.integers(2, 300),  # of random tokens: lists of them would be short
    seed=st.integers(0, 9),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    window=st.none() | st.integers(1, 12) | st.integers(13, 320),
    sizes=st.sampled_from([{1}, {1, 3, 7}, range(1, 65)]),
    logits=st.sampled_from([1, 20, 1000]),
)
def test_it_is_the_same_however_it_is_cut(length, seed, cuts, window, sizes, logits):
    tokens = np.random.default_rng(seed).integers(0, V, length)
    engine = Table(sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_LOGITS", logits)
        patch.setattr(module, "_WAITING", 100)
        predictor = Predictor(engine, "table", window)
        for piece in np.split(tokens, sorted(min(cut, len(tokens)) for cut in cuts)):
            predictor.take(piece)
        predictor.finish()
    assert engine.largest <= max(max(sizes), logits // V)  # or a row each, whatever the vocabulary
    positions, classes = by_hand(engine, tokens, window)
    found = predictor.by_position.scores()
    assert {group: score.characters for group, score in found.items()} == {
        group: len(bits) for group, bits in positions.items()
    }
    for group, bits in positions.items():
        assert found[group].bits_per_character == pytest.approx(np.mean(bits), rel=1e-6)
    bits = [one for group in classes.values() for one in group]
    whole = predictor.by_class.score()
    assert whole.characters == len(tokens) - 1
    assert whole.bits_per_character == pytest.approx(np.mean(bits), rel=1e-6)
    # Line end, space, punctuation, upper case, two of lower case, digit: the classes in another order.
    numbers = {5: [0], 4: [1], 6: [2], 1: [3], 0: [4, 5], 3: [6]}
    expected = {kind: sum(len(classes.get(one, [])) for one in own) for kind, own in numbers.items()}
    assert {kind: score.characters for kind, score in predictor.by_class.scores().items()} == {
        kind: count for kind, count in expected.items() if count
    }


@pytest.mark.parametrize(("window", "sizes"), [(None, {1}), (100, {1}), (100, {1, 16}), (1 << 20, {1, 64})])
def test_memory_does_not_grow_with_the_text(window, sizes, monkeypatch):
    monkeypatch.setattr(module, "_LOGITS", 1 << 12)
    monkeypatch.setattr(module, "_WAITING", 1 << 12)
    peaks = []
    piece = np.random.default_rng(0).integers(0, V, 1 << 12)
    for pieces in (4, 32):
        predictor = Predictor(Table(sizes), "table", window)
        tracemalloc.start()
        for _ in range(pieces):
            predictor.take(piece)
        predictor.finish()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] < 32 * piece.nbytes


@pytest.mark.parametrize(("window", "at"), [(None, 0), (None, 250), (20, 250), (300, 299)])
def test_nan_is_named_with_its_place(window, at):
    """In one row what is fed is in the order of the text; side by side, window by window, here too."""
    predictor = Predictor(Table(nan=at), "broken.onnx", window)
    with pytest.raises(P2Error, match=f"broken.onnx predicts NaN or infinity after {at + 1} characters"):
        predictor.take(np.zeros(301, np.int64))
        predictor.finish()
