"""The cells by their gates, in numpy and float64: how a source with matrices of its own is run.

Written apart from `trainer.cells`, so that a mistake in stacking gates cannot be made on both sides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..contract.cells import STAGED, Cell
from ..contract.codec import Tokens

Wide = npt.NDArray[np.float64]
Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Gate:
    """One gate: ``w_x`` ``[hidden, inputs]``, ``w_h`` ``[hidden, hidden]``, biases ``[hidden]``."""

    w_x: Array
    w_h: Array
    b_x: Array
    b_h: Array

    def given(self, x: Wide) -> Wide:
        """Its product of the input."""
        return np.asarray(self.w_x @ x + self.b_x, np.float64)

    def recurrent(self, h: Wide) -> Wide:
        """Its product of the state."""
        return np.asarray(self.w_h @ h + self.b_h, np.float64)

    def __call__(self, x: Wide, h: Wide) -> Wide:
        """Both."""
        return self.given(x) + self.recurrent(h)


Gates = Mapping[str, Gate]


def run(
    form: Cell, layers: Sequence[Gates], embedding: Wide | None, w_out: Wide, b_out: Wide, tokens: Tokens
) -> Wide:
    """Logits ``[time, V]`` after each token, from a zero state.

    Args:
        form: the cell.
        layers: gates by letter, from the input up.
        embedding: ``[V, E]``, or None for one of V.
        w_out: ``[V, hidden]``.
        b_out: ``[V]``.
        tokens: int64 ``[time]``.
    """
    hidden = w_out.shape[1]
    states = [[np.zeros(hidden) for _ in form.states] for _ in layers]
    rows = np.eye(len(b_out)) if embedding is None else embedding
    logits = []
    for token in tokens:
        x = rows[token]
        for number, gates in enumerate(layers):
            states[number] = _advance(form, gates, x, states[number])
            x = states[number][0]
        logits.append(w_out @ x + b_out)
    return np.stack(logits)


def _advance(form: Cell, gates: Gates, x: Wide, states: list[Wide]) -> list[Wide]:
    h = states[0]
    if len(gates) == 1:
        return [np.tanh(gates["h"](x, h))]
    if "c" in form.states:
        i, f, o = (_sigmoid(gates[name](x, h)) for name in "ifo")
        c = f * states[1] + i * np.tanh(gates["g"](x, h))
        return [o * np.tanh(c), c]
    r, z = (_sigmoid(gates[name](x, h)) for name in "rz")
    n = gates["n"]
    candidate = n(x, r * h) if form.products == STAGED else n.given(x) + r * n.recurrent(h)
    return [z * h + (1 - z) * np.tanh(candidate)]


def _sigmoid(x: Wide) -> Wide:
    return 0.5 + 0.5 * np.tanh(0.5 * x)
