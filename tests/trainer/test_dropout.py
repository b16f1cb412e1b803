"""What is dropped is dropped as the equations say: as if the weights it meets were not there."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from p2.trainer.dropout import Dropout, mask
from p2.trainer.model import CharModel

CPU = torch.device("cpu")


@pytest.fixture
def tokens(card_of: Callable) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, card_of().vocab, (1, 12)))


@pytest.fixture
def build(cell: tuple[str, str], card_of: Callable, parameters_of: Callable) -> Callable[..., CharModel]:
    def make(drop: Dropout | None = None, scaled: dict[str, torch.Tensor] | None = None) -> CharModel:
        card = card_of(*cell, hidden=16)
        model = CharModel(card, drop)
        parameters = {name: torch.from_numpy(array) for name, array in parameters_of(card).items()}
        for name, factor in (scaled or {}).items():
            parameters[name] = parameters[name] * factor
        model.load_state_dict(parameters)
        return model

    return make


GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def masked_weights(drop: Dropout, cell: str, vocab: int) -> dict[str, torch.Tensor]:
    """What the masks do to the weights, for a batch of one; in the order in which they are drawn."""
    factors = {}
    if drop.embedding:
        factors["embedding.weight"] = mask((1, vocab), drop.embedding, CPU).T
    for layer in range(2):
        if drop.weights:
            kept = torch.nn.functional.dropout(torch.ones(GATES[cell] * 16, 16), drop.weights)
            factors[f"rnn.weight_hh_l{layer}"] = kept
        if drop.between and layer:
            factors["rnn.weight_ih_l1"] = mask((1, 1, 16), drop.between, CPU)[0]
        if drop.recurrent:
            seen = mask((1, 16), drop.recurrent, CPU)
            factors[f"rnn.weight_hh_l{layer}"] = factors.get(f"rnn.weight_hh_l{layer}", 1) * seen
    if drop.output:
        factors["output.weight"] = mask((1, 1, 16), drop.output, CPU)[0]
    return factors


@pytest.mark.parametrize(
    "drop",
    [
        Dropout(between=0.5, variational=True),
        Dropout(output=0.5, variational=True),
        Dropout(embedding=0.5),
        Dropout(recurrent=0.5),
        Dropout(weights=0.5),
        Dropout(0.3, 0.2, 0.4, 0.5, 0.3, variational=True),
    ],
)
def test_one_mask_for_a_window_is_other_weights(drop: Dropout, build: Callable, tokens: torch.Tensor) -> None:
    """All steps see the same units, so the plain model says the same with those columns scaled or gone."""
    model = build(drop).train()
    torch.manual_seed(5)
    got, got_state = model(tokens)
    torch.manual_seed(5)
    factors = masked_weights(drop, model.card.cell, model.card.vocab)
    assert all(0 < int((factor == 0).sum()) < factor.numel() for factor in factors.values())
    expected, state = build(scaled=factors).eval()(tokens)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    for name in state:
        torch.testing.assert_close(got_state[name], state[name], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(build(drop).eval()(tokens)[0], build().eval()(tokens)[0], atol=0, rtol=0)


def test_rows_and_steps_have_masks_of_their_own() -> None:
    ones = torch.ones(8, 50, 40)
    locked = Dropout(output=0.25, variational=True).units(ones, 0.25)
    loose = Dropout(output=0.25).units(ones, 0.25)
    for dropped in (locked, loose):
        assert dropped.unique().tolist() == pytest.approx([0, 4 / 3])
        assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.1)
        assert not torch.equal(dropped[0], dropped[1])
    assert torch.equal(locked, locked[:, :1].expand_as(locked))
    assert not torch.equal(loose[:, 0], loose[:, 1])
    tokens = torch.randint(30, (8, 50))
    embedded = Dropout(embedding=0.5).characters(torch.ones(8, 50, 3), tokens, 30)
    for row, seen in zip(embedded, tokens, strict=True):
        gone = {int(token) for token, vector in zip(seen, row, strict=True) if not vector.any()}
        there = {int(token) for token, vector in zip(seen, row, strict=True) if vector.all()}
        assert gone
        assert there
        assert not gone & there


def test_layers_one_by_one_are_the_layers(build: Callable, tokens: torch.Tensor) -> None:
    """Gradients included, for the fused way and the unrolled one: masks of ones change nothing."""
    several = torch.cat([tokens, tokens.flip(1), tokens.roll(3, 1)])
    wanted = None
    for drop in (None, Dropout(between=1e-12, variational=True), Dropout(recurrent=1e-12)):
        model = build(drop).train()
        logits, _ = model(several)
        logits.square().mean().backward()
        got = [logits.detach()] + [parameter.grad for parameter in model.parameters()]
        wanted = wanted or got
        for one, other in zip(got, wanted, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
