"""The recurrent cells, one time step each, written out gate by gate: in two forms, side by side.

- As the model has its weights, for decoding with PyTorch: `advance` and the cells that it calls.
- As the step that is traced for export has them, folded (`contract.card.step_shapes`): `folded`. Only Gather,
  MatMul, Add, Mul, Sigmoid, Tanh, Split and Concat may come out of that, and no line may change that adds a
  node, or files written before would pass for changed ones.

Notation: x is the input of the layer, h (and c) its state, sigma the logistic function, * the
elementwise product. Every cell takes the input product ``p = W_ih x + b_ih`` ready-made, since it does
not depend on the state: over a whole window it is one matrix product. Weights are stacked by gate as
in PyTorch: ``w_hh`` is ``[G * hidden, hidden]`` and ``b_hh`` ``[G * hidden]``, G gates.

The equations are those of torch.nn.RNN, LSTM and GRU. Elman (1990); Hochreiter and Schmidhuber
(1997) with the forget gate of Gers et al. (2000); Cho et al. (2014).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..contract.card import Card

Tensors = tuple[Tensor, ...]


def rnn_cell(p: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor) -> Tensor:
    """The vanilla cell: h' = tanh(W_ih x + W_hh h + b).

    Args:
        p: input product ``[batch, hidden]``.
        h: state ``[batch, hidden]``.
        w_hh: ``[hidden, hidden]``.
        b_hh: ``[hidden]``.

    Returns:
        The new state ``[batch, hidden]``.
    """
    return torch.tanh(p + F.linear(h, w_hh, b_hh))


def lstm_cell(p: Tensor, h: Tensor, c: Tensor, w_hh: Tensor, b_hh: Tensor) -> tuple[Tensor, Tensor]:
    """The LSTM cell: c' = sigma(f) * c + sigma(i) * tanh(g), h' = sigma(o) * tanh(c').

    Args:
        p: input product ``[batch, 4 * hidden]``, gates in the order i, f, g, o.
        h: state ``[batch, hidden]``.
        c: cell state ``[batch, hidden]``.
        w_hh: ``[4 * hidden, hidden]``.
        b_hh: ``[4 * hidden]``.

    Returns:
        The new h and c, ``[batch, hidden]`` each.
    """
    i, f, g, o = (p + F.linear(h, w_hh, b_hh)).chunk(4, dim=-1)
    return _lstm_update(torch.sigmoid(i), torch.sigmoid(f), torch.sigmoid(o), g, c)


def _lstm_update(i: Tensor, f: Tensor, o: Tensor, g: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    c = f * c + i * torch.tanh(g)
    return o * torch.tanh(c), c


def gru_cell(p: Tensor, h: Tensor, w_hh: Tensor, b_hh: Tensor, reset: str) -> Tensor:
    """The GRU cell: h' = (1 - z) * n + z * h with

    - r = sigma(W_ir x + W_hr h + b_r), z = sigma(W_iz x + W_hz h + b_z);
    - reset ``after`` the product: n = tanh(W_in x + b_in + r * (W_hn h + b_hn));
    - reset ``before`` the product: n = tanh(W_in x + b_in + W_hn (r * h) + b_hn).

    Textbooks often write h' = (1 - z) * h + z * n. That names the complement of the same gate: here z is
    PyTorch's, the share of the *old* state that stays, whichever way the reset acts.

    Args:
        p: input product ``[batch, 3 * hidden]``, gates in the order r, z, n.
        h: state ``[batch, hidden]``.
        w_hh: ``[3 * hidden, hidden]``.
        b_hh: ``[3 * hidden]``.
        reset: ``after`` or ``before``.

    Returns:
        The new state ``[batch, hidden]``.
    """
    if reset == "after":
        p_r, p_z, p_n = p.chunk(3, dim=-1)
        h_r, h_z, h_n = F.linear(h, w_hh, b_hh).chunk(3, dim=-1)
        r, z = torch.sigmoid(p_r + h_r), torch.sigmoid(p_z + h_z)
        n = torch.tanh(p_n + r * h_n)
    else:
        gates = 2 * h.shape[-1]
        r, z = torch.sigmoid(p[..., :gates] + F.linear(h, w_hh[:gates], b_hh[:gates])).chunk(2, dim=-1)
        n = torch.tanh(p[..., gates:] + F.linear(r * h, w_hh[gates:], b_hh[gates:]))
    return (1 - z) * n + z * h


def advance(card: Card, p: Tensor, states: Tensors, w_hh: Tensor, b_hh: Tensor) -> Tensors:
    """The new states of a layer, as it has them: h, and c for the LSTM.

    Args:
        card: whose cell.
        p: input product ``[batch, G * hidden]``.
        states: ``[batch, hidden]`` each.
        w_hh: ``[G * hidden, hidden]``.
        b_hh: ``[G * hidden]``.
    """
    if card.cell == "lstm":
        return lstm_cell(p, states[0], states[1], w_hh, b_hh)
    if card.cell == "gru":
        return (gru_cell(p, states[0], w_hh, b_hh, card.gru_reset),)
    return (rnn_cell(p, states[0], w_hh, b_hh),)


def folded(card: Card, layer: int, x: Tensor, states: Tensors, weight: Callable[[str], Tensor]) -> Tensors:
    """The new states of a layer, over folded weights.

    Args:
        card: whose cell.
        layer: its number. In layer 0 `x` is the token's row of the table.
        x: ``[batch, G * hidden]`` in layer 0, else ``[batch, hidden]``.
        states: ``[batch, hidden]`` each.
        weight: the layer's tensor of a kind: ``w`` for ``w_LL``.
    """
    form, sizes = card.form, [card.form.sigmoids * card.hidden, card.hidden]
    h = states[0]

    def product() -> Tensor:
        """All gates of ``w`` before their non-linearity: one product over [x, h]."""
        if layer == 0:
            return h @ weight("w") + x
        return torch.cat([x, h], dim=1) @ weight("w") + weight("b")

    if form.name == "rnn":
        return (torch.tanh(product()),)
    if form.name == "lstm":
        sigmoids, g = torch.split(product(), sizes, dim=1)
        i, f, o = torch.sigmoid(sigmoids).chunk(3, dim=1)
        return _lstm_update(i, f, o, g, states[1])
    if form.name == "gru":
        if layer:
            x = x @ weight("w_x") + weight("b")
        recurrent = h @ weight("w")
        x_gates, x_n = torch.split(x, sizes, dim=1)
        h_gates, h_n = torch.split(recurrent, sizes, dim=1)
        r, z = torch.sigmoid(x_gates + h_gates).chunk(2, dim=1)
        n = torch.tanh(x_n + r * (h_n + weight("b_hn")))
    elif layer == 0:
        x_gates, x_n = torch.split(x, sizes, dim=1)
        r, z = torch.sigmoid(h @ weight("w") + x_gates).chunk(2, dim=1)
        n = torch.tanh((r * h) @ weight("w_n") + x_n)
    else:
        r, z = torch.sigmoid(product()).chunk(2, dim=1)
        n = torch.tanh(torch.cat([x, r * h], dim=1) @ weight("w_n") + weight("b_n"))
    return (n + z * (h - n),)


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
            w_ih, w_hh, b_ih, b_hh = (
                getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            )
            state, outputs = h[layer], []
            for p in F.linear(x, w_ih, b_ih).unbind(dim=1):
                state = gru_cell(p, state, w_hh, b_hh, "before")
                outputs.append(state)
            x = torch.stack(outputs, dim=1)
            last.append(state)
        return x, torch.stack(last)
