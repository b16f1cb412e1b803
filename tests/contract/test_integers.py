"""The definition of int8 and int4 models against float64, within what its roundings may cost."""

from __future__ import annotations

import numpy as np
import pytest

from p2.contract.card import step_shapes
from p2.contract.integers import LIMIT, TANH_ERROR, Definition, cut, halves, rounded, tanh

from ..quantized import tensors_of

ULP = 2.0**-24


def test_tanh_is_that_of_float64_but_for_its_stated_error():
    tiny = np.array([0, 1e-45, 1e-40, 1.2e-38, 1e-30, 1e-20, 1e-10], np.float32)
    far = np.array([5.2499995, 5.25, 5.3, 9, 1e3, 1e10, 3.4e38, np.inf], np.float32)
    dense = np.linspace(0, 6, 600_001, dtype=np.float32)
    x = np.concatenate([tiny, dense, far])
    found = tanh(x)
    assert np.abs(found - np.tanh(x.astype(np.float64))).max() < TANH_ERROR
    assert np.array_equal(-found, tanh(-x))
    assert found[0] == 0
    near = (x > 1e-38) & (x < 0.3)  # small numbers keep their digits, too
    assert np.abs(found[near] / np.tanh(x[near].astype(np.float64)) - 1).max() < 3e-4
    assert np.diff(tanh(np.sort(x)).astype(np.float64)).min() > -8 * ULP  # it rises, but for its own rounding


def test_no_result_reaches_one():
    """Every float32 from 4.9 up to the limit: further down the distance is larger than any rounding."""
    ends = np.array([4.9, LIMIT], np.float32).view(np.int32)
    found = tanh(np.arange(ends[0], ends[1] + 1, dtype=np.int32).view(np.float32))
    assert found.min() > 0.9998
    assert found.max() < 1


def test_states_are_rounded_to_the_even_step():
    ties = (np.array([0.5, 1.5, -0.5, -2.5], np.float64) / 127).astype(np.float32)
    exact = ties * np.float32(127)
    assert exact.tolist() == [0.5, 1.5, -0.5, -2.5]  # so that these are ties after the one rounding, too
    assert rounded(ties).tolist() == [0, 2, 0, -2]
    assert rounded(np.array([1, -1, 1.1, -1.1, 1e30], np.float32)).tolist() == [127, -127, 127, -128, 127]


def test_blocks_are_cut_between_input_and_state():
    scales = np.arange(3, dtype=np.float32)[:, None]  # of 32 rows each, in a matrix of 96
    assert cut(96, slice(0, 48), scales)[1][:, 0].tolist() == [0, 0, 1]
    block, found = cut(96, slice(48, 96), scales)
    assert (block, found[:, 0].tolist()) == (16, [1, 2, 2])
    assert cut(96, slice(48, 96), scales[0])[0] == 48


def test_halves_are_those_of_sigmoid_gates(cell, card_of):
    card = card_of(*cell, hidden=2, layers=2)
    found = {name: halves(card, name) for name in step_shapes(card)}
    assert {name: len(array) for name, array in found.items()} == {
        name: shape[-1] for name, shape in step_shapes(card).items()
    }
    sigmoids = {"rnn": 0, "lstm": 3, "gru": 2}[card.cell]
    assert found["table"].tolist() == [0.5] * 2 * sigmoids + [1] * 2 * (card.gates - sigmoids)
    assert all(set(found[name].tolist()) == {1} for name in found if "_n_" in name or name.endswith("out"))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_in_float64(card, tensors, number, x, state, token):
    """One layer by the equations of `step_shapes`, from rounded values: the new h, and c."""
    name, size = f"{number:02d}", card.hidden
    h = state[f"h_{name}"].astype(np.float64)

    def times(matrix, *values):
        q = tensors[f"{matrix}_q"].astype(np.float64)
        scales = np.atleast_2d(tensors[f"{matrix}_scale"].astype(np.float64))
        inputs = np.hstack([rounded(value.astype(np.float32)) / 127 for value in values if value is not None])
        return inputs @ (q * np.repeat(scales, len(q) // len(scales), axis=0))

    given = tensors["table"][token] if number == 0 else tensors.get(f"b_{name}")
    if card.cell == "rnn":
        return np.tanh(times(f"w_{name}", x, h) + given), None
    if card.cell == "lstm":
        i, f, o, g = np.split(times(f"w_{name}", x, h) + given, 4, axis=1)
        c = sigmoid(f) * state[f"c_{name}"] + sigmoid(i) * np.tanh(g)
        return sigmoid(o) * np.tanh(c), c
    if card.gru_reset == "after":
        below = np.zeros((1, 3 * size)) if x is None else times(f"w_x_{name}", x)
        given = np.broadcast_to(below + given, (len(h), 3 * size))
        own = times(f"w_{name}", h)
        r, z = np.split(sigmoid((given + own)[:, : 2 * size]), 2, axis=1)
        n = np.tanh(given[:, 2 * size :] + r * (own[:, 2 * size :] + tensors[f"b_hn_{name}"]))
    else:
        rest = given[:, 2 * size :] if number == 0 else tensors[f"b_n_{name}"]
        r, z = np.split(sigmoid(times(f"w_{name}", x, h) + given[..., : 2 * size]), 2, axis=1)
        n = np.tanh(times(f"w_n_{name}", x, r * h) + rest)
    return (1 - z) * n + z * h, None


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("hidden", [32, 40])
def test_a_step_is_that_of_float64(cell, precision, hidden, card_of):
    """Each layer from the definition's own inputs, so that no error is carried on.

    A tanh is off by at most TANH_ERROR = e, a sigmoid by e / 2, and what they are given by a few units of
    2**-24 of sums below 16. With |c| <= 2, an LSTM's c is off by e/2 (|c| + 1) + e = 2.5 e, its h by 3 e; a
    GRU's inner sum is below 8 and off by 4 e, its h by e + 4 e + e. Where the reset comes before the product,
    r * h may lie so near the middle of two steps that float64 takes the other one: a step of a weight.
    """
    card = card_of(*cell, layers=2, hidden=hidden, precision=precision)
    tensors = tensors_of(card, seed=3)
    rng = np.random.default_rng(5)
    state = {name: rng.uniform(-1, 1, (4, hidden)).astype(np.float32) for name in card.state_names}
    token, before = rng.integers(0, card.vocab, 4), dict(state)
    logits = Definition(card, tensors).step(state, token)
    allowed = 6 * TANH_ERROR + 100 * 16 * ULP
    x = None
    for number in range(2):
        name = f"{number:02d}"
        h, c = layer_in_float64(card, tensors, number, x, before, token)
        if cell == ("gru", "before"):
            weight = np.abs(tensors[f"w_n_{name}_q"]).max() * np.abs(tensors[f"w_n_{name}_scale"]).max()
            assert np.abs(h - state[f"h_{name}"]).max() < allowed + 2 * weight / 127
            assert np.median(np.abs(h - state[f"h_{name}"])) < allowed
        else:
            assert np.abs(h - state[f"h_{name}"]).max() < allowed
        if c is not None:
            assert np.abs(c - state[f"c_{name}"]).max() < allowed
        x = state[f"h_{name}"]
    q = tensors["w_out_q"].astype(np.float64) * tensors["w_out_scale"]
    wanted = rounded(x) / 127 @ q + tensors["b_out"]
    np.testing.assert_allclose(logits, wanted, atol=8 * ULP * np.abs(wanted).max())


def test_no_sum_leaves_32_bits():
    """The largest that a file can hold: 65,536 rows of -128, met by states of -128 * 1/127 and beyond."""
    rows = 65_536
    assert rows * 128 * 128 < 2**31
    assert rows * 255 * 128 < 2**31  # as ONNX Runtime adds them up: states plus 128, before that is taken off
