"""The recurrent cells, one time step each: the one place where their equations are written out.

They are those of torch.nn.RNN, LSTM and GRU. Elman (1990); Hochreiter and Schmidhuber (1997) with the
forget gate of Gers et al. (2000); Cho et al. (2014). Notation: x is the input of the layer, h (and c) its
state, sigma the logistic function, * the elementwise product.

How weights are kept and how arithmetic is done is a `Layer`'s. Decoding with PyTorch, and training where
torch.nn has no such cell, run over the model's own weights (`Trained`), the step that is traced for export
over folded ones (`export.step.Folded`), the benchmark's over those and in place. They differ in rounding
only. None may change the order of its operations: trained weights would have other bits, exported files
other nodes.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..contract.card import Card
from ..contract.cells import STAGED, Cell, form, order

States = tuple[Tensor, ...]
One = Callable[[Tensor], Tensor]
Three = Callable[[Tensor, Tensor, Tensor], Tensor]


class Layer(ABC):
    """One layer: its products before any non-linearity, ``[batch, ...]``, and its arithmetic.

    Gates are given one by one or joined, in the order of `Cell.gates`: those with a sigmoid, then the last.
    The arithmetic is PyTorch's here. It may overwrite what an equation hands to it and does not use again:
    the argument of `sigmoid` and `tanh`, the first of `add_product` and of `mix`, the second of `multiply`.

    Attributes:
        form: whose cell.
    """

    def __init__(self, form: Cell) -> None:
        self.form = form
        self._equation = _EQUATIONS[form.name]

    def advance(self, x: Tensor, states: Iterable[Tensor]) -> States:
        """The new states, ``[batch, hidden]`` each: h, and c for the LSTM.

        Args:
            x: the input, as the products take it.
            states: ``[batch, hidden]`` each.
        """
        return self._equation(self, x, *states)

    @abstractmethod
    def product(self, x: Tensor, h: Tensor, kind: str = "") -> Tensor:
        """Of input and state, biases included, for all gates.

        If the products are staged, for those with a sigmoid, and with the kind ``_n`` for the last.
        """

    @abstractmethod
    def apart(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The product of the input, biases included, and that of the state, for all gates."""

    @abstractmethod
    def inside(self, h_n: Tensor) -> Tensor:
        """The last gate's product of the state as `apart` gave it, with its own bias."""

    @abstractmethod
    def split(self, gates: Tensor) -> Sequence[Tensor]:
        """All gates: those with a sigmoid, then the last."""

    @abstractmethod
    def inputs(self, x: Tensor) -> Sequence[Tensor]:
        """What the staged products have of the input: those with a sigmoid, the last."""

    sigmoid: One = staticmethod(torch.sigmoid)
    tanh: One = staticmethod(torch.tanh)
    multiply: Callable[[Tensor, Tensor], Tensor] = staticmethod(operator.mul)
    add_product: Three = staticmethod(lambda a, b, c: a + b * c)
    mix: Three = staticmethod(lambda n, h, z: (1 - z) * n + z * h)


def _rnn(layer: Layer, x: Tensor, h: Tensor) -> States:
    """The vanilla cell: h' = tanh(W_ih x + W_hh h + b)."""
    return (layer.tanh(layer.product(x, h)),)


def _lstm(layer: Layer, x: Tensor, h: Tensor, c: Tensor) -> States:
    """The LSTM cell: c' = sigma(f) * c + sigma(i) * tanh(g), h' = sigma(o) * tanh(c')."""
    *gates, g = layer.split(layer.product(x, h))
    i, f, o = _sigmoids(layer, gates)
    c = layer.add_product(f * c, i, layer.tanh(g))
    return layer.multiply(o, torch.tanh(c)), c


def _gru_after(layer: Layer, x: Tensor, h: Tensor) -> States:
    """The GRU cell that resets after the product: h' = (1 - z) * n + z * h with

    - r = sigma(W_ir x + W_hr h + b_r), z = sigma(W_iz x + W_hz h + b_z);
    - n = tanh(W_in x + b_in + r * (W_hn h + b_hn)).

    Textbooks often write h' = (1 - z) * h + z * n. That names the complement of the same gate: here z is
    PyTorch's, the share of the *old* state that stays, whichever way the reset acts.
    """
    given, recurrent = layer.apart(x, h)
    *given_gates, given_n = layer.split(given)
    *recurrent_gates, recurrent_n = layer.split(recurrent)
    r, z = _sigmoids(layer, list(map(operator.add, given_gates, recurrent_gates)))
    n = layer.tanh(layer.add_product(given_n, r, layer.inside(recurrent_n)))
    return (layer.mix(n, h, z),)


def _gru_before(layer: Layer, x: Tensor, h: Tensor) -> States:
    """The same with the reset before the product: n = tanh(W_in x + b_in + W_hn (r * h) + b_hn)."""
    x_gates, x_n = layer.inputs(x)
    r, z = _sigmoids(layer, [layer.product(x_gates, h)])
    n = layer.tanh(layer.product(x_n, r * h, "_n"))
    return (layer.mix(n, h, z),)


_EQUATIONS: dict[str, Callable[..., States]] = {
    "rnn": _rnn,
    "lstm": _lstm,
    "gru": _gru_after,
    "gru-before": _gru_before,
}


def _sigmoids(layer: Layer, gates: Sequence[Tensor]) -> Sequence[Tensor]:
    """One by one, of gates that come joined or one by one.

    The two differ in bits: PyTorch rounds the last numbers of a row otherwise than those before.
    """
    if len(gates) == 1:
        return layer.sigmoid(gates[0]).chunk(layer.form.sigmoids, dim=1)
    return [layer.sigmoid(gate) for gate in gates]


class Trained(Layer):
    """Weights as the model has them, gates stacked in PyTorch's order.

    What `Layer.advance` is given is the input product ``W_ih x + b_ih``, ``[batch, G * hidden]``: it does
    not depend on the state, so over a whole window it is one matrix product.

    Args:
        form: whose cell.
        w_hh: ``[G * hidden, hidden]``, G gates.
        b_hh: ``[G * hidden]``.
    """

    def __init__(self, form: Cell, w_hh: Tensor, b_hh: Tensor) -> None:
        super().__init__(form)
        self._w_hh, self._b_hh = w_hh, b_hh

    def product(self, x: Tensor, h: Tensor, kind: str = "") -> Tensor:
        """See `Layer.product`."""
        w, b = self._w_hh, self._b_hh
        if self.form.products == STAGED:
            gates = self.form.sigmoids * h.shape[1]
            w, b = (w[gates:], b[gates:]) if kind else (w[:gates], b[:gates])
        return x + F.linear(h, w, b)

    def apart(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layer.apart`."""
        return x, F.linear(h, self._w_hh, self._b_hh)

    def inside(self, h_n: Tensor) -> Tensor:
        """See `Layer.inside`."""
        return h_n

    def split(self, gates: Tensor) -> Sequence[Tensor]:
        """See `Layer.split`."""
        parts = gates.chunk(len(self.form.gates), dim=1)
        return [parts[number] for number in order(self.form.torch_gates, self.form.gates)]

    def inputs(self, x: Tensor) -> Sequence[Tensor]:
        """See `Layer.inputs`."""
        gates = self.form.sigmoids * self._w_hh.shape[1]
        return x[:, :gates], x[:, gates:]


class Masked(Trained):
    """The same in training, where the products see the state through a mask, and nothing else does.

    Args:
        mask: ``[batch, hidden]``.
    """

    def __init__(self, form: Cell, w_hh: Tensor, b_hh: Tensor, mask: Tensor) -> None:
        super().__init__(form, w_hh, b_hh)
        self._mask = mask

    def product(self, x: Tensor, h: Tensor, kind: str = "") -> Tensor:
        """See `Layer.product`."""
        return super().product(x, h * self._mask, kind)

    def apart(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layer.apart`."""
        return super().apart(x, h * self._mask)


def unroll(
    form: Cell, weights: Sequence[Tensor], x: Tensor, states: States, mask: Tensor | None = None
) -> tuple[Tensor, States]:
    """One layer over a window, step by step.

    Args:
        form: whose cell.
        weights: ``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh``.
        x: inputs ``[batch, time, inputs]``.
        states: ``[batch, hidden]`` each.
        mask: see `Masked`; None is none.

    Returns:
        Outputs ``[batch, time, hidden]`` and the new states.
    """
    w_ih, w_hh, b_ih, b_hh = weights
    cell = Trained(form, w_hh, b_hh) if mask is None else Masked(form, w_hh, b_hh, mask)
    outputs = []
    for p in F.linear(x, w_ih, b_ih).unbind(dim=1):
        states = cell.advance(p, states)
        outputs.append(states[0])
    return torch.stack(outputs, dim=1), states


def fused(form: Cell, weights: Sequence[Tensor], x: Tensor, states: States) -> tuple[Tensor, States]:
    """The same in one call, for a form that `Cell.is_fused`; arguments as `unroll`."""
    hx = [state[None] for state in states]
    one = len(hx) == 1  # PyTorch's functions take and give several states apart
    outputs, *ends = _FUSED[form.key](
        x, hx[0] if one else hx, weights, has_biases=True, num_layers=1, dropout=0.0, train=True,
        bidirectional=False, batch_first=True,
    )  # fmt: skip
    return outputs, tuple(end[0] for end in ends)


_FUSED: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "rnn": torch.rnn_tanh,
    "lstm": torch.lstm,
    "gru": torch.gru,
}


def layers(card: Card, dropout: float) -> nn.Module:
    """All layers as one module: PyTorch's own, where it has the cell."""
    if not card.form.is_fused:
        return ResetBeforeGRU(card.embedding, card.hidden, card.layers, dropout)
    kind: Callable[..., nn.Module] = getattr(nn, card.form.title)
    return kind(card.embedding, card.hidden, card.layers, batch_first=True, dropout=dropout)


class ResetBeforeGRU(nn.Module):
    """Stacked GRU layers with the reset before the recurrent product; otherwise as nn.GRU.

    No library has this variant as one fused call: the product has to wait for the reset gate. So it
    steps through time here. Parameters have the names, shapes and gate order of nn.GRU, for one
    direction: ``weight_ih_l{k}`` ``[3 * hidden, inputs]``, ``weight_hh_l{k}`` ``[3 * hidden, hidden]``,
    ``bias_ih_l{k}`` and ``bias_hh_l{k}`` ``[3 * hidden]``.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_layers = num_layers
        self.dropout = dropout
        for layer in range(num_layers):
            inputs = input_size if layer == 0 else hidden_size
            shapes = {
                "weight_ih": (3 * hidden_size, inputs),
                "weight_hh": (3 * hidden_size, hidden_size),
                "bias_ih": (3 * hidden_size,),
                "bias_hh": (3 * hidden_size,),
            }
            for name, shape in shapes.items():
                self.register_parameter(f"{name}_l{layer}", nn.Parameter(torch.empty(shape)))
        bound = hidden_size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)  # what nn.GRU starts with

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """Run over a window.

        Args:
            x: inputs ``[batch, time, inputs]``.
            h: states ``[layers, batch, hidden]``.

        Returns:
            The last layer's outputs ``[batch, time, hidden]`` and the new states.
        """
        last = []
        for layer in range(self.num_layers):
            if layer:
                x = F.dropout(x, self.dropout, self.training)
            weights = [
                getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ]
            x, (state,) = unroll(form("gru", "before"), weights, x, (h[layer],))
            last.append(state)
        return x, torch.stack(last)
