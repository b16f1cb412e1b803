"""What a model with int8 or int4 weights computes on a CPU: one definition, to the last bit.

The compiled decoder (`runtime.native`) and ONNX Runtime's loops (`runtime.onnxruntime.integer_cells`)
compute this and nothing else, whatever the batch, the threads and the cuts of a prompt, so a text does not
depend on the machine. Only operations that IEEE 754 or the integers define take part: float32 additions,
subtractions, multiplications and divisions, each rounded once to the nearest (no fused multiply-add),
minimum, maximum, rounding to an integer (ties to even), and sums in 32 bits.

- **States on a grid.** A product reads a state, within [-1, 1], as ``rounded(h)``: 8 bits, steps of 1/127.
- **Products in blocks.** A matrix is cut where its rows' scales change, and between the rows of the input
  and those of the state (`cut`). The sum over a block's rows is an integer, exact in any order. As a float32
  it is multiplied by ``scale * GRID``, which is one float32, and the blocks are added in the order of the
  rows, the input's first. Then comes the bias; in layer 0 the token's row of the table.
- **Cells.** Every gate goes through `tanh`; what has a sigmoid takes ``sigmoid(x) = tanh(x / 2) / 2 + 1/2``,
  with the half in the scales and biases of those gates (`halves`): that is exact.

Hidden sizes go to 65,536 and no weight or state exceeds 128 in size, so no sum of a block leaves 32 bits; and
no scale or bias of a file exceeds `MOST`, so no sum of floats becomes infinite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .card import Card
from .cells import STAGED

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int8]
State = dict[str, Floats]

STEPS = np.float32(127)  # of the states' grid, from 0 to 1
GRID = np.float32(1 / 127)

MOST = 1e27  # times a sum of 31 bits it is far from the largest float32

# tanh(x), for |x| <= LIMIT: x (P0 + P1 s + P2 s**2) / (Q0 + Q1 s + s**2) with s = x**2, minimax but for the
# last digits, which keep the result below 1. The error is a sixtieth of what rounding a state costs.
LIMIT = np.float32(5.25)
P0, P1, P2 = np.float32(80.689), np.float32(8.1414), np.float32(0.0509145)
Q0, Q1 = np.float32(80.709), np.float32(34.9885)
TANH_ERROR = 6e-5


def tanh(x: Floats) -> Floats:
    """The hyperbolic tangent of these models, within `TANH_ERROR`; its size stays below 1."""
    x = np.minimum(np.maximum(x, -LIMIT), LIMIT)
    s = x * x
    above = (s * P2 + P1) * s + P0
    below = (s + Q1) * s + Q0
    return x * above / below


def rounded(h: Floats) -> Integers:
    """A state on the grid, int8: ``h * 127``, a tie to the even one; at most 128 in size."""
    steps: Integers = np.clip(np.rint(h * STEPS), -128, 127).astype(np.int8)
    return steps


def cut(height: int, rows: slice, scales: Floats) -> tuple[int, Floats]:
    """The blocks of some rows of a matrix.

    Args:
        height: rows of the whole matrix.
        rows: the ones that one value meets: the input's or the state's.
        scales: of the file, float32 ``[outputs]``, or ``[blocks, outputs]`` for as many rows each.

    Returns:
        rows of each block, and scales float32 ``[blocks, outputs]``. Blocks of the file that reach over an
        edge of `rows` are cut there, and all others into pieces of that size.
    """
    count = rows.stop - rows.start
    if scales.ndim == 1:
        return count, scales[None]
    of_file = height // len(scales)
    block = math.gcd(of_file, count)
    return block, scales[np.arange(rows.start, rows.stop, block) // of_file]


def halves(card: Card, name: str) -> Floats:
    """What is multiplied into the scales of a matrix, a bias or the table: 1/2 for gates with a sigmoid.

    Args:
        card: the model.
        name: of the tensor in `step_shapes`.

    Returns:
        float32, one for each output.
    """
    hidden = card.hidden
    sigmoids = card.form.sigmoids
    if name == "table":
        return _halves(sigmoids, card.gates - sigmoids, hidden)
    if name in ("w_out", "b_out"):
        return np.ones(card.vocab, np.float32)
    if name.startswith(("w_n_", "b_n_", "b_hn_")):
        return np.ones(hidden, np.float32)
    staged = card.form.products == STAGED  # the candidate's are w_n and b_n
    return _halves(sigmoids, 0 if staged else card.gates - sigmoids, hidden)


def _halves(sigmoids: int, others: int, hidden: int) -> Floats:
    return np.repeat(np.array([0.5] * sigmoids + [1] * others, np.float32), hidden)


class Definition:
    """A model, written out. For comparison and for porting, not for speed.

    Args:
        card: the model.
        tensors: arrays under the names of `step_shapes`; of each matrix int8 ``<name>_q`` ``[inputs,
            outputs]`` and float32 ``<name>_scale``, as `cut` takes it.
    """

    def __init__(self, card: Card, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
        self.card, self._tensors = card, tensors

    def zero_state(self, batch: int) -> State:
        """Zeros for `batch` streams, by the contract's names."""
        return {name: np.zeros((batch, self.card.hidden), np.float32) for name in self.card.state_names}

    def run(self, state: State, tokens: npt.NDArray[np.int64]) -> Floats:
        """Advance over tokens, int64 ``[batch, length]``: the logits, float32 ``[batch, length, vocab]``."""
        return np.stack([self.step(state, column) for column in tokens.T], axis=1)

    def step(self, state: State, token: npt.NDArray[np.int64]) -> Floats:
        """Advance by one character, int64 ``[batch]``: the logits, float32 ``[batch, vocab]``."""
        x = None
        for number in range(self.card.layers):
            bias = self._bias("table")[token] if x is None else None
            x = self._layer(f"{number:02d}", state, x, bias)
        assert x is not None
        return self._add(None, "w_out", x) + self._bias("b_out")

    def _layer(self, name: str, state: State, x: Floats | None, given: Floats | None) -> Floats:
        """A layer's new state. `x` is that of the layer below; in layer 0 `given` stands for all biases."""
        card, size, h = self.card, self.card.hidden, state[f"h_{name}"]
        first, second = slice(0, size), slice(size, 2 * size)
        own = first if x is None else second
        begun: Floats | None
        if card.form.name == "gru":
            bias = self._bias(f"b_{name}") if given is None else given
            zeros = np.zeros((len(h), 3 * size), np.float32)
            from_x = zeros if x is None else self._add(None, f"w_x_{name}", x)
            begun = np.where(np.arange(3 * size) < 2 * size, from_x, np.float32(0))
            both = self._add(begun, f"w_{name}", h)  # of r and z; the candidate's from the state alone
            r, z = np.split(_sigmoid(both[:, : 2 * size] + bias[..., : 2 * size]), 2, axis=1)
            inner = both[:, 2 * size :] + self._bias(f"b_hn_{name}")
            n = tanh(r * inner + (from_x[:, 2 * size :] + bias[..., 2 * size :]))
            new = n + z * (h - n)
        elif card.form.name == "gru-before":
            gates = self._bias(f"b_{name}") if given is None else given[:, : 2 * size]
            rest = self._bias(f"b_n_{name}") if given is None else given[:, 2 * size :]
            begun = None if x is None else self._add(None, f"w_{name}", x, first)
            r, z = np.split(_sigmoid(self._add(begun, f"w_{name}", h, own) + gates), 2, axis=1)
            begun = None if x is None else self._add(None, f"w_n_{name}", x, first)
            n = tanh(self._add(begun, f"w_n_{name}", r * h, own) + rest)
            new = n + z * (h - n)
        else:
            begun = None if x is None else self._add(None, f"w_{name}", x, first)
            a = self._add(begun, f"w_{name}", h, own) + (self._bias(f"b_{name}") if given is None else given)
            if card.cell == "rnn":
                new = tanh(a)
            else:
                i, f, o = np.split(_sigmoid(a[:, : 3 * size]), 3, axis=1)
                c = f * state[f"c_{name}"] + i * tanh(a[:, 3 * size :])
                state[f"c_{name}"] = c
                new = o * tanh(c)
        state[f"h_{name}"] = new
        return new

    def _add(self, begun: Floats | None, matrix: str, value: Floats, rows: slice | None = None) -> Floats:
        """``begun + value @ rows of matrix``, block after block."""
        weights = self._tensors[f"{matrix}_q"]
        rows = rows or slice(0, len(weights))
        block, scales = cut(len(weights), rows, self._tensors[f"{matrix}_scale"])
        scales = scales * GRID * halves(self.card, matrix)
        q = rounded(value)
        total = np.zeros((len(q), weights.shape[1]), np.float32) if begun is None else begun
        for number, scale in enumerate(scales):
            columns = slice(number * block, (number + 1) * block)
            part = weights[rows][columns].astype(np.int32)
            total = total + (q[:, columns].astype(np.int32) @ part).astype(np.float32) * scale
        return total

    def _bias(self, name: str) -> Floats:
        bias: Floats = self._tensors[name] * halves(self.card, name)
        return bias


def _sigmoid(half: Floats) -> Floats:
    """The sigmoid of twice the argument."""
    return tanh(half) * np.float32(0.5) + np.float32(0.5)
