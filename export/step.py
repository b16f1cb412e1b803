"""One recurrent step over folded weights: as the torch module that is traced, and for who runs it otherwise.

Only Gather, MatMul, Add, Mul, Sigmoid, Tanh, Split and Concat come out of the trace, which every backend runs
well; the LSTM and GRU operators are slower everywhere and cannot be quantised. No line may change that adds a
node, or files written before would pass for changed ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ..contract.card import Card
from ..trainer.cells import Layer, States, Three
from .fold import Weights

# (token [batch], states [batch, hidden] each) -> (logits [batch, vocab], new states)
Advance = Callable[[Tensor, States], tuple[Tensor, States]]


class Folded(Layer):
    """A layer over the tensors of `contract.card.step_shapes`. Layer 0 is given the table's row of the token.

    Args:
        card: the model.
        number: the layer's.
        weights: the tensors by their names.
    """

    def __init__(self, card: Card, number: int, weights: Weights) -> None:
        super().__init__(card.form)
        end = f"_{number:02d}"
        self._of = {name.removesuffix(end): weight for name, weight in weights.items() if name.endswith(end)}
        self._number = number
        self._sizes = [card.form.sigmoids * card.hidden, card.hidden]

    affine: Three = staticmethod(lambda bias, x, w: x @ w + bias)
    mix: Three = staticmethod(lambda n, h, z: n + z * (h - n))  # without a constant, and an operation less

    def product(self, x: Tensor, h: Tensor, kind: str = "") -> Tensor:
        """See `Layer.product`. In a deeper layer one product over [x, h]."""
        w = self._of["w" + kind]
        if self._number:
            return self.affine(self._of["b" + kind], torch.cat([x, h], dim=1), w)
        return self.affine(x, h, w)

    def apart(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """See `Layer.apart`."""
        if self._number:
            x = self.affine(self._of["b"], x, self._of["w_x"])
        return x, h @ self._of["w"]

    def inside(self, h_n: Tensor) -> Tensor:
        """See `Layer.inside`."""
        return h_n + self._of["b_hn"]

    def split(self, gates: Tensor) -> Sequence[Tensor]:
        """See `Layer.split`. Those with a sigmoid are joined."""
        return gates.split_with_sizes(self._sizes, dim=1)  # what torch.split calls in the end

    def inputs(self, x: Tensor) -> Sequence[Tensor]:
        """See `Layer.inputs`."""
        return (x, x) if self._number else self.split(x)


def step_of(card: Card, weights: Weights, kind: type[Folded] = Folded) -> Advance:
    """The step as a function of token and states, the states in the order of `Card.state_names`.

    Args:
        card: the model.
        weights: by the names of `contract.card.step_shapes`.
        kind: whose arithmetic.
    """
    layers = [kind(card, number, weights) for number in range(card.layers)]
    table, w_out, b_out, affine = weights["table"], weights["w_out"], weights["b_out"], kind.affine

    def step(token: Tensor, states: States) -> tuple[Tensor, States]:
        x = torch.embedding(table, token)  # (B, G*H): layer 0's input product, biases included
        new = []
        for number, layer in enumerate(layers):
            new.append(layer.advance(x, states[number :: len(layers)]))
            x = new[-1][0]
        return affine(b_out, x, w_out), sum(zip(*new, strict=True), ())

    return step


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
        logits, new = step_of(self.card, dict(self.named_parameters()))(token, states)
        return (logits.float(), *new)
