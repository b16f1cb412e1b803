"""What an export stores is the nearest that its precision has to what was trained."""

from __future__ import annotations

import numpy as np
import pytest

from p2.contract.cells import order
from p2.runtime.step_file import open_step


def folded_by_numpy(card, parameters):
    """The table of a model of one layer, in float64."""
    wide = {name: array.astype(np.float64) for name, array in parameters.items()}
    bias = wide["rnn.bias_hh_l0"].copy()
    if card.form.name == "gru":
        bias[2 * card.hidden :] = 0  # it stays inside the reset product
    table = wide["embedding.weight"] @ wide["rnn.weight_ih_l0"].T + (wide["rnn.bias_ih_l0"] + bias)
    gates = np.split(table, card.gates, axis=1)
    return np.concatenate([gates[at] for at in order(card.form.torch_gates, card.form.gates)], axis=1)


def test_folding_adds_no_error_of_its_own(cell, card_of, parameters_of):
    import torch

    from p2.export.fold import fold

    card = card_of(*cell, layers=1)
    parameters = parameters_of(card)
    found = fold(card, {name: torch.from_numpy(array) for name, array in parameters.items()})
    assert np.array_equal(found["table"].numpy(), folded_by_numpy(card, parameters).astype(np.float32))


def short(precision, array):
    """A nearest number; by way of PyTorch or of numpy, whichever the export does not take."""
    import torch

    if precision == "float16":
        return array.astype(np.float16).astype(np.float32)
    return torch.from_numpy(array).to(torch.bfloat16).float().numpy()


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_short_floats_are_the_nearest(precision, card_of, parameters_of, write_step):
    card = card_of(precision=precision)
    stored, parameters = open_step(write_step(card)).graph.tensors, parameters_of(card)
    output = parameters["output.weight"].T
    assert np.array_equal(stored["w_out"].array(), short(precision, output))
    assert (stored["w_out"].array() != output).mean() > 0.9


def test_float8_is_the_nearest_of_its_whole_range(card_of, parameters_of, write_step):
    card = card_of(precision="float8")
    stored = open_step(write_step(card)).graph.tensors
    scales, found = stored["w_out_scale"].array(), stored["w_out_q"].array()
    eighths = np.concatenate([np.arange(8) * 2.0**-9, *(np.arange(8, 16) * 2.0**e for e in range(-9, 6))])
    numbers = eighths[eighths <= 448]
    assert len(numbers) == 127
    wanted = np.abs(parameters_of(card)["output.weight"].T) / scales
    assert np.array_equal(np.abs(found).max(axis=0), np.full(card.vocab, 448, np.float32))
    distance = np.abs(wanted[..., None] - numbers).min(axis=-1)
    assert np.array_equal(np.abs(np.abs(found) - wanted), distance.astype(np.float32))
