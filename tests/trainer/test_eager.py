"""The reference engine against the equations in numpy, through the engine protocol."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from p2.contract.card import Card
from p2.contract.engine import Engine
from p2.contract.errors import ContractError, P2Error
from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling, choose, scale_noise
from p2.trainer import checkpoint, eager
from p2.trainer.dropout import Dropout
from p2.trainer.eager import EagerEngine, open_checkpoint
from p2.trainer.model import CharModel
from p2.trainer.record import Record


@pytest.fixture
def engine_of(tmp_path: Path, parameters_of: Callable) -> Callable[[Card], EagerEngine]:
    def make(card: Card) -> EagerEngine:
        state = {name: torch.from_numpy(array) for name, array in parameters_of(card).items()}
        checkpoint.save(tmp_path / "c", card, state, Record({}, {}, {}))
        return open_checkpoint(tmp_path / "c")

    return make


@pytest.fixture
def card(card_of: Callable, cell: tuple[str, str]) -> Card:
    return card_of(*cell)


def tokens_for(card: Card, batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, card.vocab, (batch, length))


def test_it_is_an_engine(engine_of: Callable, card: Card) -> None:
    engine = engine_of(card)
    assert isinstance(engine, Engine)
    assert engine.name == "eager PyTorch (cpu)"
    assert engine.card.cell == card.cell


@pytest.mark.parametrize("chunk", [1, 10, 1 << 14])
def test_feeding_predicts_what_the_equations_say(
    engine_of: Callable, card: Card, numpy_model: Callable, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(eager, "_CHUNK_TOKENS", chunk)
    engine, tokens = engine_of(card), tokens_for(card, 2, 23)
    reference = numpy_model(card)
    state, expected_state = engine.zero_state(2), reference.zero(2)
    logits = engine.feed(state, tokens, logits=True)
    expected = np.stack([reference.step(expected_state, column) for column in tokens.T], axis=1)
    assert logits is not None
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=2e-5)
    for name, array in engine.snapshot(state).items():
        np.testing.assert_allclose(array, expected_state[name], atol=1e-5)
    assert engine.feed(state, tokens[:, :0]) is None


@pytest.mark.parametrize(
    "sampling", [Sampling(temperature=0), Sampling(), Sampling(temperature=0.5, top_k=5, top_p=0.9)]
)
def test_decoding_chooses_what_the_equations_say(
    engine_of: Callable, card: Card, numpy_model: Callable, sampling: Sampling
) -> None:
    engine, reference = engine_of(card), numpy_model(card)
    last = np.array([4, 9])
    noise = scale_noise(gumbel(11, [0, 1], 1, 60, card.vocab), sampling)
    state = engine.zero_state(2)
    tokens = engine.decode(state, last, noise, sampling)

    expected, newest, expected_state = [], last, reference.zero(2)
    for scaled in noise:
        logits = reference.step(expected_state, newest).astype(np.float32)
        newest = choose(logits, scaled, sampling)
        expected.append(newest)
    assert tokens.dtype == np.int64
    np.testing.assert_array_equal(tokens, np.stack(expected, axis=1))
    for name, array in engine.snapshot(state).items():
        np.testing.assert_allclose(array, expected_state[name], atol=1e-4)


def test_decoding_nothing_changes_nothing(engine_of: Callable, card: Card) -> None:
    engine = engine_of(card)
    state = engine.zero_state(1)
    noise = np.empty((0, 1, card.vocab), dtype=np.float32)
    assert engine.decode(state, np.array([1]), noise, Sampling()).shape == (1, 0)
    assert all(not array.any() for array in engine.snapshot(state).values())


def test_a_snapshot_half_way_goes_on_the_same(engine_of: Callable, card: Card) -> None:
    engine = engine_of(card)
    noise = gumbel(5, [0], 1, 40, card.vocab)
    whole = engine.decode(engine.zero_state(1), np.array([2]), noise, Sampling())
    state = engine.zero_state(1)
    first = engine.decode(state, np.array([2]), noise[:15], Sampling())
    snapshot = engine.snapshot(state)
    engine.decode(state, first[:, -1], noise[15:], Sampling())  # moves the state, not the snapshot
    second = engine.decode(engine.restore(snapshot), first[:, -1], noise[15:], Sampling())
    np.testing.assert_array_equal(np.concatenate([first, second], axis=1), whole)
    assert set(snapshot) == set(card.state_names)
    assert all(array.dtype == np.float32 and array.shape == (1, card.hidden) for array in snapshot.values())


def test_a_row_of_a_batch_is_the_row_alone(engine_of: Callable, card: Card) -> None:
    engine = engine_of(card)
    tokens = tokens_for(card, 3, 20)
    together = engine.feed(engine.zero_state(3), tokens, logits=True)
    alone = engine.feed(engine.zero_state(1), tokens[1:2], logits=True)
    assert together is not None
    np.testing.assert_allclose(alone, together[1:2], atol=1e-5)


@pytest.mark.parametrize("change", [lambda s: s.pop("h_00"), lambda s: s.update(h_00=np.zeros((1, 5)))])
def test_a_foreign_snapshot_is_refused(engine_of: Callable, card: Card, change: Callable) -> None:
    engine = engine_of(card)
    snapshot = engine.snapshot(engine.zero_state(1))
    change(snapshot)
    with pytest.raises(ContractError, match=r"the snapshot does not fit the model: .* needs h_00"):
        engine.restore(snapshot)


def test_a_closed_engine_is_closed(card_of: Callable) -> None:
    engine = EagerEngine(CharModel(card_of()))
    engine.close()
    with pytest.raises(RuntimeError, match="closed"):
        engine.zero_state(1)


def test_dropout_is_off(card_of: Callable) -> None:
    engine = EagerEngine(CharModel(card_of(), Dropout(0.9)).train())
    tokens = np.arange(10)[None]
    first, second = (engine.feed(engine.zero_state(1), tokens, logits=True) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_there_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(P2Error, match="there is no checkpoint"):
        open_checkpoint(tmp_path / "nothing")
