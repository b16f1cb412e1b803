"""The model that a state_dict is of, put together from torch.nn's own modules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from ..contract.cells import Cell
from ..contract.codec import Tokens

Array = npt.NDArray[np.floating]


class Stack:
    """A `found.Predict`: embedding or one-hot, a module of torch.nn for each layer, a linear layer.

    Args:
        form: a cell that torch.nn has.
        embedding: ``[V, E]``, or None for one of V.
        layers: ``weight_ih``, ``weight_hh``, ``bias_ih`` and ``bias_hh`` of each, in PyTorch's order.
        w_out: ``[V, hidden]``.
        b_out: ``[V]``.
    """

    def __init__(
        self,
        form: Cell,
        embedding: Array | None,
        layers: Sequence[Sequence[Array]],
        w_out: Array,
        b_out: Array,
    ) -> None:
        self._form, self._embedding, self._layers = form, embedding, layers
        self._w_out, self._b_out = w_out, b_out

    @torch.no_grad()
    def __call__(self, tokens: Tokens) -> Array:
        """Logits ``[time, V]``, in float64 if any of the weights is."""
        arrays = [array for layer in self._layers for array in layer] + [self._w_out, self._b_out]
        dtype = torch.from_numpy(np.zeros(0, np.result_type(*arrays, self._embedding_type()))).dtype
        ids = torch.from_numpy(tokens)
        if self._embedding is None:
            x = F.one_hot(ids, len(self._b_out)).to(dtype)
        else:
            x = F.embedding(ids, _tensor(self._embedding, dtype))
        for layer in self._layers:
            hidden, inputs = layer[1].shape[1], layer[0].shape[1]
            module: nn.Module = getattr(nn, self._form.title)(inputs, hidden).to(dtype)
            names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
            module.load_state_dict({n: _tensor(a, dtype) for n, a in zip(names, layer, strict=True)})
            x = module(x)[0]
        logits: Array = F.linear(x, _tensor(self._w_out, dtype), _tensor(self._b_out, dtype)).numpy()
        return logits

    def _embedding_type(self) -> npt.DTypeLike:
        return np.float32 if self._embedding is None else self._embedding.dtype


def _tensor(array: Array, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(dtype)
