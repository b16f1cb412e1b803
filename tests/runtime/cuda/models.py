"""Steps of every precision with random weights, and what those of floats must say, by numpy in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from p2.contract.card import Card, step_shapes
from p2.runtime.onnx_format import Graph
from p2.runtime.onnx_tensors import BFLOAT16, E4M3, FLOAT, FLOAT8, FLOAT16, Tensor
from p2.runtime.step_file import StepFile

from ...quantized import step_of, tensors_of

Doubles = npt.NDArray[np.float64]


def made(card: Card, seed: int = 0) -> StepFile:
    """A step as `p2 export` writes it, in any precision."""
    if card.format.integers:
        return step_of(card, tensors_of(card, seed))
    rng, held = np.random.default_rng(seed), {}
    for name, shape in step_shapes(card).items():
        array = rng.standard_normal(shape).astype(np.float32)
        if name.startswith("w_"):
            array *= np.float32({"rnn": 0.8}.get(card.cell, 1.2) / np.sqrt(shape[0]))
        held |= {tensor.name: tensor for tensor in _stored(card, name, array)}
    kind = FLOAT16 if card.precision == "float16" else FLOAT
    return StepFile(Path("made.onnx"), card, Graph([], held, [], []), 21, kind, as_traced=True)


def _stored(card: Card, name: str, array: npt.NDArray[np.float32]) -> list[Tensor]:
    """A tensor in the form of its precision; bits are cut off, which is as good as rounding here."""
    is_matrix = name.startswith("w_")
    if card.precision == "float16":
        return [Tensor.of(name, array.astype(np.float16))]
    if card.precision == "bfloat16" and (is_matrix or name == "table"):
        raw = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
        return [Tensor(name, BFLOAT16, array.shape, raw)]
    if card.precision == "float8" and is_matrix:
        scale = (np.abs(array).max(axis=0) / 448).astype(np.float32)
        positive = E4M3[:127]
        codes = np.abs(positive - np.abs(array / scale)[..., None]).argmin(axis=-1)
        codes += 128 * (array < 0)
        return [
            Tensor(f"{name}_q", FLOAT8, array.shape, codes.astype(np.uint8).tobytes()),
            Tensor.of(f"{name}_scale", scale),
        ]
    return [Tensor.of(name, array)]


class Reference:
    """A step with float weights in float64, but for states where they meet weights, which are rounded."""

    def __init__(self, step: StepFile) -> None:
        self.card = step.card
        stored = step.graph.tensors
        self.tensors: dict[str, Doubles] = {}
        for name in step_shapes(self.card):
            if name in stored:
                self.tensors[name] = np.asarray(stored[name].array(), np.float64)
            else:
                self.tensors[name] = stored[f"{name}_q"].array() * stored[f"{name}_scale"].array().astype(
                    float
                )

    def rounded(self, h: Doubles) -> Doubles:
        if self.card.precision == "bfloat16":
            upper = h.astype(np.float32).view(np.uint32)
            upper = (upper + 0x7FFF + (upper >> 16 & 1)) & 0xFFFF0000
            return upper.view(np.float32).astype(np.float64)
        kind = np.float32 if self.card.precision == "float32" else np.float16
        return h.astype(kind).astype(np.float64)

    def zero_state(self, batch: int) -> dict[str, Doubles]:
        return {name: np.zeros((batch, self.card.hidden)) for name in self.card.state_names}

    def step(self, state: dict[str, Doubles], token: npt.NDArray[np.int64]) -> Doubles:
        """The logits ``[batch, vocab]``; the state is advanced."""
        t, size, x = self.tensors, self.card.hidden, None
        for number in range(self.card.layers):
            name = f"{number:02d}"
            h = state[f"h_{name}"]
            new = self._layer(t, name, size, state, x, h, t["table"][token] if x is None else None)
            state[f"h_{name}"], x = new, self.rounded(new)
        return x @ t["w_out"] + t["b_out"]

    def _layer(self, t, name, size, state, x, h, row):
        met = self.rounded(h)
        cell = self.card.form.name
        if cell == "gru":
            given = row if x is None else x @ t[f"w_x_{name}"] + t[f"b_{name}"]
            own = met @ t[f"w_{name}"]
            r, z = np.split(_sigmoid(given[:, : 2 * size] + own[:, : 2 * size]), 2, axis=1)
            n = np.tanh(given[:, 2 * size :] + r * (own[:, 2 * size :] + t[f"b_hn_{name}"]))
            return (1 - z) * n + z * h
        if cell == "gru-before":
            gates, candidate = t[f"w_{name}"], t[f"w_n_{name}"]
            given = row
            if x is not None:
                given = np.hstack(
                    [x @ gates[:size] + t[f"b_{name}"], x @ candidate[:size] + t[f"b_n_{name}"]]
                )
                gates, candidate = gates[size:], candidate[size:]
            r, z = np.split(_sigmoid(given[:, : 2 * size] + met @ gates), 2, axis=1)
            n = np.tanh(given[:, 2 * size :] + self.rounded(r * h) @ candidate)
            return (1 - z) * n + z * h
        w = t[f"w_{name}"]
        a = row + met @ w if x is None else np.hstack([x, met]) @ w + t[f"b_{name}"]
        if cell == "rnn":
            return np.tanh(a)
        i, f, o = np.split(_sigmoid(a[:, : 3 * size]), 3, axis=1)
        state[f"c_{name}"] = f * state[f"c_{name}"] + i * np.tanh(a[:, 3 * size :])
        return o * np.tanh(state[f"c_{name}"])


def _sigmoid(x: Doubles) -> Doubles:
    return 1 / (1 + np.exp(-x))
