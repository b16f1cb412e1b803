"""The model against the equations in numpy, and its two paths against each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from p2.contract.card import Card, stored_parameters
from p2.trainer.cells import ResetBeforeGRU
from p2.trainer.dropout import Dropout
from p2.trainer.model import CharModel, parameter_shapes

Cell = tuple[str, str]


def build(card: Card, parameters: dict[str, np.ndarray]) -> CharModel:
    model = CharModel(card)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in parameters.items()})
    return model.eval()


def tokens_for(card: Card, batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, card.vocab, (batch, length))


@pytest.mark.parametrize("layers", [1, 2, 3])
@torch.inference_mode()
def test_both_paths_follow_the_equations(
    cell: Cell, layers: int, card_of: Callable, parameters_of: Callable, numpy_model: Callable
) -> None:
    card = card_of(*cell, layers=layers)
    model = build(card, parameters_of(card))
    tokens = tokens_for(card, 3, 40)
    expected = numpy_model(card).run(tokens)

    fused, fused_state = model(torch.from_numpy(tokens))
    state, stepped = model.zero_state(3), []
    for column in torch.from_numpy(tokens).unbind(dim=1):
        logits, state = model.step(column, state)
        stepped.append(logits)

    np.testing.assert_allclose(fused.numpy(), expected, atol=2e-5)
    np.testing.assert_allclose(torch.stack(stepped, dim=1).numpy(), expected, atol=2e-5)
    assert tuple(fused_state) == tuple(state) == card.state_names
    for name in card.state_names:
        torch.testing.assert_close(fused_state[name], state[name], atol=1e-5, rtol=0)
        assert fused_state[name].shape == (3, card.hidden)


@torch.inference_mode()
def test_the_state_carries_a_text_across_windows(
    cell: Cell, card_of: Callable, parameters_of: Callable
) -> None:
    card = card_of(*cell)
    model = build(card, parameters_of(card))
    tokens = torch.from_numpy(tokens_for(card, 2, 30))
    whole, end = model(tokens)
    first, state = model(tokens[:, :11])
    second, state = model(tokens[:, 11:], state)
    torch.testing.assert_close(torch.cat([first, second], dim=1), whole, atol=1e-5, rtol=0)
    for name in card.state_names:
        torch.testing.assert_close(state[name], end[name], atol=1e-5, rtol=0)


def test_reset_before_has_the_parameters_of_torchs_gru() -> None:
    def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}

    assert shapes(ResetBeforeGRU(5, 7, 3)) == shapes(torch.nn.GRU(5, 7, 3))


def test_parameters_are_as_many_as_the_card_says(cell: Cell, card_of: Callable) -> None:
    card = card_of(*cell, layers=3)
    model = CharModel(card)
    assert sum(parameter.numel() for parameter in model.parameters()) == stored_parameters(card)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert parameter_shapes(card) == shapes


def test_gradients_agree_between_the_paths(cell: Cell, card_of: Callable, parameters_of: Callable) -> None:
    card = card_of(*cell)
    tokens = torch.from_numpy(tokens_for(card, 2, 6))
    gradients = []
    for stepping in (False, True):
        model = build(card, parameters_of(card))
        if stepping:
            state, outputs = model.zero_state(2), []
            for column in tokens.unbind(dim=1):
                logits, state = model.step(column, state)
                outputs.append(logits)
            torch.stack(outputs, dim=1).square().mean().backward()
        else:
            model(tokens)[0].square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-4)


def test_dropout_acts_between_layers_in_training_only(cell: Cell, card_of: Callable) -> None:
    card = card_of(*cell, layers=2)
    model = CharModel(card, Dropout(0.9))
    tokens = torch.from_numpy(tokens_for(card, 4, 5))
    model.train()
    (first, first_state), (second, second_state) = model(tokens), model(tokens)
    assert not torch.equal(first, second)
    assert torch.equal(first_state["h_00"], second_state["h_00"])  # nothing is dropped before layer 0
    assert not torch.equal(first_state["h_01"], second_state["h_01"])
    model.eval()
    assert torch.equal(model(tokens)[0], model(tokens)[0])


def test_initial_weights(cell: Cell, card_of: Callable) -> None:
    card = card_of(*cell)
    models = [CharModel(card) for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        model.initialise(seed)
    states = [model.state_dict() for model in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["rnn.weight_hh_l1"], states[2]["rnn.weight_hh_l1"])
    for gate in states[0]["rnn.weight_hh_l1"].chunk(card.gates):
        torch.testing.assert_close(gate @ gate.T, torch.eye(card.hidden), atol=1e-5, rtol=0)
    bias = (states[0]["rnn.bias_ih_l0"] + states[0]["rnn.bias_hh_l0"]).view(card.gates, -1)
    ones = [1] if cell[0] == "lstm" else []  # the forget gate: i, f, g, o
    assert [index for index, row in enumerate(bias) if row.any()] == ones
    assert all(bool((bias[index] == 1).all()) for index in ones)


def test_negative_and_huge_seeds_are_seeds(card_of: Callable) -> None:
    for seed in (-1, 2**80):
        CharModel(card_of()).initialise(seed)
