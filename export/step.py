"""One recurrent step as the torch module that is traced: folded embedding, decomposed cells.

Only Gather, MatMul, Add, Mul, Sigmoid, Tanh, Split and Concat come out of it, which every
backend runs well; the LSTM and GRU operators are slower everywhere and cannot be quantised.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..contract.card import Card
from ..trainer.cells import folded
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
        per_layer: list[tuple[Tensor, ...]] = []
        # (B, G*H): layer 0's input product, biases included
        x = F.embedding(token, self.get_parameter("table"))
        for layer in range(card.layers):
            weight = functools.partial(self._weight, layer)
            new = folded(card, layer, x, states[layer :: card.layers], weight)
            per_layer.append(new)
            x = new[0]
        logits = x @ self.get_parameter("w_out") + self.get_parameter("b_out")
        return (logits.float(), *(state for kind in zip(*per_layer, strict=True) for state in kind))

    def _weight(self, layer: int, kind: str) -> Tensor:
        return self.get_parameter(f"{kind}_{layer:02d}")
