"""One equation a cell, and all that run it say what it says in float64: eagerly, folded, and in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.bench.contenders.in_place import InPlace
from p2.contract.card import Card
from p2.contract.cells import FORMS
from p2.export.fold import fold
from p2.export.step import Folded, step_of
from p2.trainer import cells
from p2.trainer.model import CharModel
from tests.conftest import NumpyModel, make_card, random_parameters

States = tuple[torch.Tensor, ...]
Advance = Callable[[torch.Tensor, States], tuple[torch.Tensor, States]]


def all_that_run_it(card: Card, seed: int) -> Iterator[Advance]:
    """Eager PyTorch, the step that is traced, and the benchmark's, over the same random weights."""
    model = CharModel(card)
    parameters = random_parameters(card, seed)
    model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in parameters.items()})

    def eager(token: torch.Tensor, states: States) -> tuple[torch.Tensor, States]:
        logits, new = model.step(token, dict(zip(card.state_names, states, strict=True)))
        return logits, tuple(new.values())

    folded = fold(card, model.state_dict())
    yield from (eager, step_of(card, folded, Folded), step_of(card, folded, InPlace))


@given(
    form=st.sampled_from(FORMS),
    layers=st.integers(1, 3),
    hidden=st.integers(1, 40),
    batch=st.integers(1, 4),
    size=st.floats(0, 20),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
@torch.inference_mode()
def test_all_say_what_the_equation_says_in_float64(form, layers, hidden, batch, size, seed) -> None:
    """From any state, large ones too, in which gates and tanh are full; and no argument is written over."""
    card = make_card(form.key, form.reset, layers, hidden)
    rng = np.random.default_rng(seed)
    token = rng.integers(card.vocab, size=batch)
    given_states = {name: rng.standard_normal((batch, hidden)) * size for name in card.state_names}
    given_states = {name: array.astype(np.float32) for name, array in given_states.items()}
    expected = {name: array.astype(np.float64) for name, array in given_states.items()}
    reference = NumpyModel(card, random_parameters(card, seed))
    predicted = [reference.step(expected, token) for _ in range(2)]
    for advance in all_that_run_it(card, seed):
        kept = tuple(torch.from_numpy(given_states[name].copy()) for name in card.state_names)
        first, states = advance(torch.from_numpy(token), kept)
        again, after_two = advance(torch.from_numpy(token), states)
        for logits, wanted in zip((first, again), predicted, strict=True):
            np.testing.assert_allclose(logits.numpy(), wanted, rtol=1e-4, atol=1e-4 * (1 + size))
        for name, state, old in zip(card.state_names, after_two, kept, strict=True):
            np.testing.assert_allclose(state.numpy(), expected[name], rtol=1e-4, atol=1e-5 * (1 + size))
            assert np.array_equal(old.numpy(), given_states[name])
        assert torch.equal(advance(torch.from_numpy(token), kept)[0], first)  # nor are weights


@torch.inference_mode()
def test_another_equation_is_another_for_all(monkeypatch) -> None:
    card = make_card("lstm", layers=1)
    monkeypatch.setitem(cells._EQUATIONS, "lstm", lambda layer, x, h, c: (c, h))
    given_states = tuple(torch.randn(2, card.hidden) for _ in card.state_names)
    for advance in all_that_run_it(card, 0):
        _, (h, c) = advance(torch.tensor([1, 2]), given_states)
        assert torch.equal(h, given_states[1])
        assert torch.equal(c, given_states[0])
