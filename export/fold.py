"""Trained weights rearranged into the tensors of the folded step (`contract.card.step_shapes`).

Layer 0 sees one of V characters, so its input product is one of V rows: ``embedding @ W_ih.T + b``
is computed once, here, and the product becomes a table look-up. Everything is done in float64
and rounded once, so folding adds no error that float32 could show.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..contract.card import Card, step_shapes
from ..contract.cells import APART, JOINT, STAGED, order

Weights = dict[str, torch.Tensor]


def fold(card: Card, parameters: Mapping[str, torch.Tensor]) -> Weights:
    """The step's tensors, float32, by the names of `step_shapes`.

    Args:
        card: the model.
        parameters: the trained model's state: ``embedding.weight`` ``[V, E]``; per layer k
            ``rnn.weight_ih_l{k}`` ``[G*H, inputs]``, ``rnn.weight_hh_l{k}`` ``[G*H, H]`` and
            ``rnn.bias_ih_l{k}``, ``rnn.bias_hh_l{k}`` ``[G*H]`` in PyTorch's gate order;
            ``output.weight`` ``[V, H]``, ``output.bias`` ``[V]``.
    """
    wide = {name: tensor.detach().to("cpu", torch.float64) for name, tensor in parameters.items()}
    folded: Weights = {}
    sigmoids = card.form.sigmoids * card.hidden
    for layer in range(card.layers):
        w_ih = _reorder(card, wide[f"rnn.weight_ih_l{layer}"]).T
        w_hh = _reorder(card, wide[f"rnn.weight_hh_l{layer}"]).T
        b_ih = _reorder(card, wide[f"rnn.bias_ih_l{layer}"])
        b_hh = _reorder(card, wide[f"rnn.bias_hh_l{layer}"])
        name = f"{layer:02d}"
        if card.form.products == APART:
            # The candidate's recurrent bias is scaled by the reset gate, so it cannot be merged.
            gates, folded[f"b_hn_{name}"] = torch.split(b_hh, [sigmoids, card.hidden])
            bias = b_ih + torch.cat([gates, torch.zeros_like(folded[f"b_hn_{name}"])])
        else:
            bias = b_ih + b_hh
        if layer == 0:
            folded["table"] = wide["embedding.weight"] @ w_ih + bias
        elif card.form.products == STAGED:
            folded[f"b_{name}"], folded[f"b_n_{name}"] = torch.split(bias, [sigmoids, card.hidden])
        else:
            folded[f"b_{name}"] = bias
        folded.update(_products(card, name, w_ih if layer else None, w_hh))
    folded["w_out"] = wide["output.weight"].T
    folded["b_out"] = wide["output.bias"]
    return {name: folded[name].to(torch.float32).contiguous() for name in step_shapes(card)}


def _reorder(card: Card, rows: torch.Tensor) -> torch.Tensor:
    """The gates along the first axis from PyTorch's order to the step's."""
    gates = rows.chunk(card.gates)
    return torch.cat([gates[number] for number in order(card.form.torch_gates, card.form.gates)])


def _products(card: Card, name: str, w_ih: torch.Tensor | None, w_hh: torch.Tensor) -> Weights:
    """The matrices of one layer; `w_ih` is None in layer 0, whose input part is the table."""
    if card.form.products == APART:
        return {f"w_{name}": w_hh} if w_ih is None else {f"w_{name}": w_hh, f"w_x_{name}": w_ih}
    both = w_hh if w_ih is None else torch.cat([w_ih, w_hh])
    if card.form.products == JOINT:
        return {f"w_{name}": both}
    gates, candidate = torch.split(both, [card.form.sigmoids * card.hidden, card.hidden], dim=1)
    return {f"w_{name}": gates, f"w_n_{name}": candidate}
