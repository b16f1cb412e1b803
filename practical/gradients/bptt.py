"""Back-propagation through time of the vanilla RNN, written out by hand, and gradients along a sequence.

The cell is h_i = tanh(W_hx x_i + W_hh h_{i-1} + b), the prediction p = W_ph h_t + b_p after the last step t,
and L a loss of p. W_hh takes part in every step, so its gradient is a sum over them (Werbos, 1990):

    dL/dW_hh = sum over i = 1 ... t of  dL/dp dp/dh_t (dh_t/dh_{t-1} ... dh_{i+1}/dh_i) d+h_i/dW_hh

with dh_j/dh_{j-1} = diag(1 - h_j^2) W_hh, and d+ the derivative at fixed h_{i-1}. W_ph takes part once:
dL/dW_ph = dL/dp h_t, with no product over time.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..toy.classifier import Levels, SequenceClassifier


class ByHand(NamedTuple):
    """The gradients of a batch's summed loss, by the formula.

    Attributes:
        w_ph: ``[classes, hidden]``.
        w_hh: ``[hidden, hidden]``, the sum of `terms`.
        terms: ``[steps, hidden, hidden]``, what step i adds to it.
        jacobians: ``[steps]``, the largest singular value of dh_t/dh_i, mean over the batch.
    """

    w_ph: Tensor
    w_hh: Tensor
    terms: Tensor
    jacobians: Tensor


@torch.no_grad()
def by_hand(model: SequenceClassifier, batch: Levels, labels: Tensor) -> ByHand:
    """The formula above, product by product, for the cross entropy of the last step.

    Args:
        model: a vanilla RNN.
        batch: sequences apart, see `classifier.apart`.
        labels: int64 ``[batch]``.
    """
    states, _ = model.states(batch)
    probability = torch.softmax(F.linear(states[-1], model.w_ph, model.b_p), dim=1)
    dl_dp = probability - F.one_hot(labels, probability.shape[1])  # [batch, classes]
    dl_dh = dl_dp @ model.w_ph
    before = [torch.zeros_like(states[0]), *states[:-1]]
    hidden = states[0].shape[1]
    product = torch.eye(hidden, dtype=dl_dp.dtype).expand(len(labels), hidden, hidden)  # dh_t/dh_i
    terms, jacobians = [], []
    for h, h_before in zip(reversed(states), reversed(before), strict=True):
        slope = 1 - h**2
        reaching = torch.einsum("bh,bhk->bk", dl_dh, product)
        terms.append(torch.einsum("bk,bj->kj", reaching * slope, h_before))
        jacobians.append(torch.linalg.matrix_norm(product, ord=2).mean())
        product = product @ (slope[:, :, None] * model.w_hh)
    stacked = torch.stack(terms[::-1])
    return ByHand(dl_dp.T @ states[-1], stacked.sum(dim=0), stacked, torch.stack(jacobians[::-1]))


class Along(NamedTuple):
    """Norms of the gradient of each sequence's own loss, ``[steps, batch]``.

    Attributes:
        h: with respect to the state h_t.
        c: with respect to the LSTM's cell state c_t; None for other cells. h_t acts on the later steps
            through their gates only; what the cell carries by itself is in this one (and what goes through
            h_t, which c_t makes).
    """

    h: Tensor
    c: Tensor | None


def along(model: SequenceClassifier, batch: Levels, labels: Tensor) -> Along:
    """|dL/dh_t| for every step t, the loss being the cross entropy after the last.

    Of two classes the gradient is that of the logits' difference, times the error of the probability. So
    it is computed, since a trained model's error underflows where the direction does not.

    Args:
        model: any cell, of two classes.
        batch: sequences apart.
        labels: int64 ``[batch]``.
    """
    hs, cs = model.states(batch)
    logits = F.linear(hs[-1], model.w_ph, model.b_p)
    difference = logits[:, 1] - logits[:, 0]
    gradients = torch.autograd.grad(difference.sum(), hs + cs, allow_unused=True)
    wrong = torch.where(labels == 1, -difference, difference).detach()
    error = torch.sigmoid(wrong)  # 1 - the probability of the right class
    norms = (
        torch.stack([(torch.zeros_like(hs[0]) if g is None else g).norm(dim=1) for g in gradients]) * error
    )
    return Along(norms[: len(hs)], norms[len(hs) :] if cs else None)


@torch.no_grad()
def gates(model: SequenceClassifier, batch: Levels) -> dict[str, Tensor]:
    """What an LSTM's gates do: i, f, g and o, ``[steps, batch, hidden]`` each."""
    hs, _ = model.states(batch)
    table = F.linear(model.embedding, model.w_ih)
    before = [torch.zeros_like(hs[0]), *hs[:-1]]
    sums = torch.stack(
        [
            F.embedding(level.symbol, table) + F.linear(h, model.w_hh, model.bias)
            for level, h in zip(batch.steps, before, strict=True)
        ]
    )
    i, f, g, o = sums.chunk(4, dim=-1)
    return {"i": torch.sigmoid(i), "f": torch.sigmoid(f), "g": torch.tanh(g), "o": torch.sigmoid(o)}
