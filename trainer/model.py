"""The character model: embedding, recurrent layers, output layer.

Two paths over the same parameters. `CharModel.forward` runs over whole windows with PyTorch's fused
layers and is what training uses; `CharModel.step` runs one time step through the cells as they are
written out in `cells`, and is what decoding uses and what every exported engine is compared with. A
test holds them together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..contract.card import Card
from . import cells
from .dropout import Dropout

State = dict[str, Tensor]
"""Tensors ``[batch, hidden]`` under the card's `state_names`."""


class CharModel(nn.Module):
    """A recurrent character model in float32.

    Attributes:
        card: what the model is.
        drop: what training drops.
        embedding: ``[V, embedding]``.
        rnn: what `cells.layers` made; all name their parameters alike.
        output: hidden to V logits. If the weights are tied, its matrix is the embedding's.
    """

    def __init__(self, card: Card, drop: Dropout | None = None, *, tied: bool = False) -> None:
        super().__init__()
        self.card = card
        self.drop = drop or Dropout()
        self.embedding = nn.Embedding(card.vocab, card.embedding)
        self.rnn = cells.layers(card, 0.0 if self.drop.by_layer else self.drop.between)
        self.output = nn.Linear(card.hidden, card.vocab)
        if tied:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: Mapping[str, Tensor] | None = None) -> tuple[Tensor, State]:
        """Predict the character after each of a window.

        Args:
            tokens: int64 ``[batch, time]``, time >= 1.
            state: the state before the window; None is zeros.

        Returns:
            Logits float32 ``[batch, time, V]`` and the state after the window.
        """
        state = self.zero_state(len(tokens)) if state is None else state
        kinds = self.card.form.states
        stacked = tuple(torch.stack([state[name] for name in self._names(kind)]) for kind in kinds)
        x = self.embedding(tokens)
        if self.training:
            x = self.drop.characters(x, tokens, self.card.vocab)
        if self.training and self.drop.by_layer:
            outputs, ends = self._by_layer(x, stacked)
        else:
            one = len(stacked) == 1  # PyTorch's modules take and give several states in a tuple
            with self._reproducible_dropout():
                outputs, ends = self.rnn(x, stacked[0] if one else stacked)
            ends = (ends,) if one else ends
        if self.training:
            outputs = self.drop.units(outputs, self.drop.output)
        new: State = {}
        for kind, end in zip(kinds, ends, strict=True):
            new |= self._unstack(kind, end)
        return self.output(outputs).float(), new

    def _by_layer(self, x: Tensor, stacked: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What `rnn` gives, with what is dropped between the layers and inside them."""
        card, drop, ends = self.card, self.drop, []
        for layer in range(card.layers):
            w_ih, w_hh, b_ih, b_hh = self.layer_parameters(layer)
            weights = w_ih, F.dropout(w_hh, drop.weights) if drop.weights else w_hh, b_ih, b_hh
            states = tuple(kind[layer] for kind in stacked)
            x = drop.units(x, drop.between) if layer else x
            if drop.recurrent or not card.form.is_fused:
                seen = drop.mask(states[0].shape, drop.recurrent, x.device) if drop.recurrent else None
                x, states = cells.unroll(card.form, weights, x, states, seen)
            else:
                x, states = cells.fused(card.form, weights, x, states)
            ends.append(states)
        return x, tuple(torch.stack(kind) for kind in zip(*ends, strict=True))

    def step(self, token: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, State]:
        """Predict the character after one, with the cells of `cells`. No dropout.

        Args:
            token: int64 ``[batch]``.
            state: the state before it.

        Returns:
            Logits float32 ``[batch, V]`` and the new state.
        """
        x = F.embedding(token, self.embedding.weight)
        new: State = {}
        for layer in range(self.card.layers):
            w_ih, w_hh, b_ih, b_hh = self.layer_parameters(layer)
            names = [f"{kind}_{layer:02d}" for kind in self.card.form.states]
            p = F.linear(x, w_ih, b_ih)
            cell = cells.Trained(self.card.form, w_hh, b_hh)
            states = cell.advance(p, [state[name] for name in names])
            new |= zip(names, states, strict=True)
            x = states[0]
        logits = F.linear(x, self.output.weight, self.output.bias)
        return logits, {name: new[name] for name in self.card.state_names}

    def zero_state(self, batch: int) -> State:
        """The state before a text: float32 zeros."""
        device = self.output.weight.device
        return {name: torch.zeros(batch, self.card.hidden, device=device) for name in self.card.state_names}

    def layer_parameters(self, layer: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``weight_ih``, ``weight_hh``, ``bias_ih``, ``bias_hh`` of a layer, in PyTorch's gate order."""
        w_ih, w_hh, b_ih, b_hh = (
            getattr(self.rnn, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        return w_ih, w_hh, b_ih, b_hh

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Draw the initial weights of a model that is still on the CPU.

        Embedding: standard normal. Input products: Xavier uniform per gate (Glorot and Bengio, 2010).
        Recurrent products: orthogonal per gate (Saxe et al., 2014), which keeps the norm of the state
        and of its gradient. Output: Xavier uniform. Biases: zero, but 1 for the LSTM's forget gate, so
        that it begins by remembering (Jozefowicz et al., 2015).
        """
        generator = torch.Generator().manual_seed(seed & (2**63 - 1))
        self.embedding.weight.normal_(generator=generator)
        for layer in range(self.card.layers):
            w_ih, w_hh, b_ih, b_hh = self.layer_parameters(layer)
            for gate in w_ih.chunk(self.card.gates):
                nn.init.xavier_uniform_(gate, generator=generator)
            for gate in w_hh.chunk(self.card.gates):
                nn.init.orthogonal_(gate, generator=generator)
            b_ih.zero_()
            b_hh.zero_()
            if "f" in self.card.form.gates:
                b_ih.chunk(self.card.gates)[self.card.form.torch_gates.index("f")].fill_(1.0)
        nn.init.xavier_uniform_(self.output.weight, generator=generator)
        self.output.bias.zero_()

    def _names(self, kind: str) -> list[str]:
        return [name for name in self.card.state_names if name.startswith(kind)]

    def _unstack(self, kind: str, stacked: Tensor) -> State:
        """``[layers, batch, hidden]`` as a state; float32 even under autocast."""
        return dict(zip(self._names(kind), stacked.float(), strict=True))

    def _reproducible_dropout(self) -> contextlib.AbstractContextManager[object]:
        """Keep dropout off cuDNN: its generator cannot be seeded again, so no run could be resumed."""
        if self.training and self.drop.between and self.output.weight.is_cuda:
            return torch.backends.cudnn.flags(enabled=False)
        return contextlib.nullcontext()


def parameter_shapes(card: Card) -> dict[str, tuple[int, ...]]:
    """Shapes of a model's parameters by their names in ``CharModel.state_dict()``, without building it."""
    shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (card.vocab, card.embedding)}
    wide = card.gates * card.hidden
    for layer in range(card.layers):
        shapes[f"rnn.weight_ih_l{layer}"] = (wide, card.hidden if layer else card.embedding)
        shapes[f"rnn.weight_hh_l{layer}"] = (wide, card.hidden)
        shapes[f"rnn.bias_ih_l{layer}"] = shapes[f"rnn.bias_hh_l{layer}"] = (wide,)
    return shapes | {"output.weight": (card.vocab, card.hidden), "output.bias": (card.vocab,)}
