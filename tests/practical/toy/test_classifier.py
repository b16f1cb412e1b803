"""The sequence classifier: its equations by numpy, shared prefixes against sequences apart, its size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from p2.contract.errors import UsageError
from p2.practical.toy.classifier import CELLS, SequenceClassifier, apart, shared

SYMBOLS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 2))


def model_of(cell: str, hidden: int = 5) -> SequenceClassifier:
    model = SequenceClassifier(cell, 3, 4, hidden, 2).double()
    model.initialise(1, 1.0)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        model.b_p.normal_(generator=generator)
        if model.bias.requires_grad:
            model.bias.normal_(generator=generator)
    return model


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def by_numpy(model: SequenceClassifier, symbols: np.ndarray) -> np.ndarray:
    """The textbook's equations, one sequence at a time."""
    p = {name: tensor.detach().numpy() for name, tensor in model.named_parameters()}
    hidden = p["w_hh"].shape[1]
    rows = []
    for sequence in symbols:
        h = c = np.zeros(hidden)
        for symbol in sequence:
            x = p["w_ih"] @ p["embedding"][symbol] + p["bias"]
            if model.cell == "rnn":
                h = np.tanh(x + p["w_hh"] @ h)
            elif model.cell == "lstm":
                i, f, g, o = np.split(x + p["w_hh"] @ h, 4)
                c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(c)
            else:
                w_r, w_z, w_n = np.split(p["w_hh"], 3)
                x_r, x_z, x_n = np.split(x, 3)
                r, z = sigmoid(x_r + w_r @ h), sigmoid(x_z + w_z @ h)
                n = np.tanh(x_n + (w_n @ (r * h) if model.cell == "gru-before" else r * (w_n @ h)))
                h = (1 - z) * n + z * h
        rows.append(p["w_ph"] @ h + p["b_p"])
    return np.array(rows)


@pytest.mark.parametrize("cell", CELLS)
def test_equations(cell):
    symbols = np.random.default_rng(0).integers(0, 3, (6, 11), dtype=np.uint8)
    model = model_of(cell)
    expected = by_numpy(model, symbols)
    for how in (apart, shared):
        np.testing.assert_allclose(model(how(symbols)).detach().numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS)
@given(symbols=SYMBOLS)
@settings(max_examples=15, deadline=None)
def test_shared_prefixes_change_no_number_and_no_gradient(cell, symbols):
    results = []
    for how in (apart, shared):
        model = model_of(cell)
        logits = model(how(symbols))
        loss = (logits * torch.arange(1.0, 1 + logits.numel()).view_as(logits)).sum()
        trained = [p for p in model.parameters() if p.requires_grad]
        results.append([logits, *torch.autograd.grad(loss, trained)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@given(SYMBOLS)
@settings(deadline=None)
def test_a_level_has_a_row_for_every_distinct_prefix(symbols):
    levels = shared(symbols)
    for step, level in enumerate(levels.steps):
        assert len(level.symbol) == len({tuple(row[: step + 1]) for row in symbols.tolist()})


def test_parameters_of_question_1_2():
    lstm = SequenceClassifier("lstm", 3, 10, 256, 2).parameter_count()
    assert lstm["recurrent"] + lstm["output"] == 273_922
    assert lstm["embedding"] == 30
    gru = SequenceClassifier("gru", 3, 10, 256, 2).parameter_count()
    assert gru["recurrent"] + gru["output"] == 204_802


@pytest.mark.parametrize(("fan", "of_input", "of_output"), [("out", 64, 2), ("in", 10, 64)])
def test_initial_weights(fan, of_input, of_output):
    model = SequenceClassifier("gru", 3, 10, 64, 2)
    model.initialise(0, 2.0, fan)
    for weight, count in ((model.w_ih, of_input), (model.w_hh, 64), (model.w_ph, of_output)):
        expected = 2 / count**0.5
        error = expected / (2 * weight.numel()) ** 0.5  # of an estimated standard deviation
        assert float(weight.detach().std()) == pytest.approx(expected, abs=5 * error)
    assert not model.bias.any()
    assert not model.b_p.any()


def test_an_unknown_cell_is_refused():
    with pytest.raises(UsageError, match="gru-before"):
        SequenceClassifier("elman", 3, 4, 5, 2)
