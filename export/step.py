"""One recurrent step as the torch module that is traced: folded embedding, decomposed cells.

Only Gather, MatMul, Add, Mul, Sigmoid, Tanh, Split and Concat come out of it, which every
backend runs well; the LSTM and GRU operators are slower everywhere and cannot be quantised.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contract.card import Card
from .fold import Weights


class Step(nn.Module):
    """``(token, h_00, ..., c_00, ...) -> (logits, h_00', ..., c_00', ...)``.

    Args:
        card: the model.
        weights: what `fold` gave.
        dtype: the float type of weights, states and arithmetic. Logits are float32 always.
    """

    def __init__(self, card: Card, weights: Weights, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.card = card
        for name, tensor in weights.items():
            self.register_parameter(name, nn.Parameter(tensor.to(dtype), requires_grad=False))

    def forward(self, token: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """One step.

        Args:
            token: int64 ``[batch]``.
            states: ``[batch, hidden]`` each, in the order of `Card.state_names`.

        Returns:
            logits float32 ``[batch, vocab]``, then the new states.
        """
        card = self.card
        new_h: list[Tensor] = []
        new_c: list[Tensor] = []
        # (B, G*H): layer 0's input product, biases included
        x = F.embedding(token, self.get_parameter("table"))
        for layer in range(card.layers):
            h = states[layer]
            if card.cell == "lstm":
                h, c = self._lstm(layer, x, h, states[card.layers + layer])
                new_c.append(c)
            else:
                h = self._rnn(layer, x, h) if card.cell == "rnn" else self._gru(layer, x, h)
            new_h.append(h)
            x = h
        logits = x @ self.get_parameter("w_out") + self.get_parameter("b_out")
        return (logits.float(), *new_h, *new_c)

    def _weight(self, kind: str, layer: int) -> Tensor:
        return self.get_parameter(f"{kind}_{layer:02d}")

    def _gate_products(self, layer: int, x: Tensor, h: Tensor) -> Tensor:
        """All gates before their non-linearity, (B, G*H): one product over [x, h]."""
        w = self._weight("w", layer)
        if layer == 0:
            return h @ w + x
        return torch.cat([x, h], dim=1) @ w + self._weight("b", layer)

    def _rnn(self, layer: int, x: Tensor, h: Tensor) -> Tensor:
        """h' = tanh(W_hx x + W_hh h + b_h)."""
        return torch.tanh(self._gate_products(layer, x, h))

    def _lstm(self, layer: int, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """c' = g*i + c*f, h' = tanh(c')*o, with the gates in the order i, f, o, g."""
        hidden = self.card.hidden
        sigmoids, g = torch.split(self._gate_products(layer, x, h), [3 * hidden, hidden], dim=1)
        i, f, o = torch.sigmoid(sigmoids).chunk(3, dim=1)
        c = f * c + i * torch.tanh(g)
        return o * torch.tanh(c), c

    def _gru(self, layer: int, x: Tensor, h: Tensor) -> Tensor:
        """h' = (1-z)*n + z*h, with n's reset after or before the recurrent product."""
        hidden = self.card.hidden
        if self.card.gru_reset == "after":
            if layer:
                x = x @ self._weight("w_x", layer) + self._weight("b", layer)
            recurrent = h @ self._weight("w", layer)
            x_gates, x_n = torch.split(x, [2 * hidden, hidden], dim=1)
            h_gates, h_n = torch.split(recurrent, [2 * hidden, hidden], dim=1)
            r, z = torch.sigmoid(x_gates + h_gates).chunk(2, dim=1)
            n = torch.tanh(x_n + r * (h_n + self._weight("b_hn", layer)))
        elif layer == 0:
            x_gates, x_n = torch.split(x, [2 * hidden, hidden], dim=1)
            r, z = torch.sigmoid(h @ self._weight("w", 0) + x_gates).chunk(2, dim=1)
            n = torch.tanh((r * h) @ self._weight("w_n", 0) + x_n)
        else:
            r, z = torch.sigmoid(self._gate_products(layer, x, h)).chunk(2, dim=1)
            candidate = torch.cat([x, r * h], dim=1) @ self._weight("w_n", layer)
            n = torch.tanh(candidate + self._weight("b_n", layer))
        return n + z * (h - n)
