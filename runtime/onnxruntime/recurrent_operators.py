"""ONNX's own RNN, LSTM and GRU operators, for reading text with float weights.

Inside one operator there is no cost for each small calculation, so a layer is read 1.2 to 4 times
faster than by a Scan. The operators want an input to multiply: for layer 0 that is a one-hot row, of
which the product with the folded table is the row that the contract's step looks up.

Gates stand in the contract's order i, f, o, g and r, z, n; ONNX wants i, o, f, c and z, r, h.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract.card import Card
from ...contract.cells import APART, STAGED, order
from .products import Scope

Floats = npt.NDArray[np.float32]


def one_hot_pays(card: Card) -> bool:
    """Whether the table's product is small beside the recurrent ones."""
    return card.vocab <= 2 * card.hidden


def one_hot(scope: Scope, card: Card, out: str) -> None:
    """``tokens`` int64 [length, batch] as rows of the identity, float32 [length, batch, vocab]."""
    identity = scope.weights.add("identity", np.eye(card.vocab, dtype=np.float32))
    scope.make("Gather", [identity, "tokens"], [out], axis=0)


def layer(scope: Scope, card: Card, number: int, below: str, out: str) -> None:
    """Read a whole text with one layer.

    Reads `below` float32 [length, batch, inputs] and ``<state>_start``; writes `out` [length, batch, hidden]
    and ``<state>_end``.
    """
    name = f"{number:02d}"
    inputs = [below, *_constants(scope, card, number), ""]
    one = scope.weights.add("o_directions", np.array([0], np.int64))
    states = card.form.states
    for state in states:
        scope.make("Unsqueeze", [f"{state}_{name}_start", one], [f"o_{state}_{name}"])
        inputs.append(f"o_{state}_{name}")
    ends = [f"o_{state}_{name}_end" for state in states]
    attributes: dict[str, Any] = {"hidden_size": card.hidden} | dict(card.form.attributes)
    scope.make(card.form.title, inputs, [f"o_y_{name}", *ends], **attributes)
    axis = scope.weights.add("o_axis", np.array([1], np.int64))
    scope.make("Squeeze", [f"o_y_{name}", axis], [out])
    for state, end in zip(states, ends, strict=True):
        scope.make("Squeeze", [end, one], [f"{state}_{name}_end"])


def _constants(scope: Scope, card: Card, number: int) -> list[str]:
    """Names of W [1, G*H, inputs], R [1, G*H, H] and B [1, 2*G*H]."""
    weights, name, hidden = scope.weights, f"{number:02d}", card.hidden
    recurrent = weights.array(f"w_{name}")
    bias = np.zeros(card.gates * hidden, np.float32) if number == 0 else weights.array(f"b_{name}")
    inner = np.zeros(card.gates * hidden, np.float32)
    given = weights.array("table")
    if card.form.products == APART:
        inner[card.form.sigmoids * hidden :] = weights.array(f"b_hn_{name}")
        if number:
            given = weights.array(f"w_x_{name}")
    else:
        if card.form.products == STAGED:
            recurrent = np.concatenate([recurrent, weights.array(f"w_n_{name}")], axis=1)
            if number:
                bias = np.concatenate([bias, weights.array(f"b_n_{name}")])
        if number:
            given, recurrent = recurrent[:hidden], recurrent[hidden:]
    biases = np.concatenate([_gates(card, bias), _gates(card, inner)], axis=-1)
    return [
        weights.add(f"o_w_{name}", np.ascontiguousarray(_gates(card, given).T)[None]),
        weights.add(f"o_r_{name}", np.ascontiguousarray(_gates(card, recurrent).T)[None]),
        weights.add(f"o_b_{name}", biases[None]),
    ]


def _gates(card: Card, array: Floats) -> Floats:
    """The last axis, G*H long, with its gates in ONNX's order."""
    parts = np.split(array, card.gates, axis=-1)
    return np.concatenate([parts[gate] for gate in order(card.form.gates, card.form.onnx_gates)], axis=-1)
