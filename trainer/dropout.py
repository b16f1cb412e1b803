"""What is dropped in training, and scaled so that its mean stays: units, whole characters, parts of states.

Masks are drawn from PyTorch's global generator, which a learner seeds for each update.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Dropout:
    """Shares that are dropped, each in ``[0, 1)``; 0 drops nothing.

    Attributes:
        between: of a layer's outputs on their way to the next (Zaremba et al., 2014).
        output: of the last layer's outputs on their way to the output layer.
        embedding: of the vocabulary, in each window: such a character's embedding is zero wherever it stands.
        recurrent: of the state that a layer's products see, the same units at all steps of a window.
        weights: of the recurrent matrices, other ones in every batch (DropConnect; Merity et al., 2018).
        variational: whether `between` and `output` also drop the same units at all steps of a window (Gal
            and Ghahramani, 2016).
        part: where the rows are some of a batch that several processes compute: the number of the first, and
            the size of the batch. Masks are drawn for all of it, so that they are those of a single process.
    """

    between: float = 0.0
    output: float = 0.0
    embedding: float = 0.0
    recurrent: float = 0.0
    weights: float = 0.0
    variational: bool = False
    part: tuple[int, int] | None = None

    @property
    def by_layer(self) -> bool:
        """Whether the layers have to run one by one."""
        return bool(self.recurrent or self.weights or (self.between and (self.variational or self.part)))

    def units(self, x: Tensor, rate: float) -> Tensor:
        """``[batch, time, width]`` with a share of the units dropped."""
        if not rate:
            return x
        if self.variational:
            return x * self.mask((len(x), 1, x.shape[2]), rate, x.device)
        return F.dropout(x, rate) if self.part is None else x * self._kept(x, rate)

    def characters(self, x: Tensor, tokens: Tensor, vocab: int) -> Tensor:
        """Embedded tokens ``[batch, time, width]`` with whole characters dropped, others in each row."""
        if not self.embedding:
            return x
        return x * self.mask((len(x), vocab), self.embedding, x.device).gather(1, tokens)[..., None]

    def mask(self, shape: Sequence[int], rate: float, device: torch.device) -> Tensor:
        """These rows' part of a `mask`; rows are in front."""
        rows, *rest = shape
        first, batch = self.part or (0, rows)
        return mask((batch, *rest), rate, device)[first : first + rows]

    def _kept(self, x: Tensor, rate: float) -> Tensor:
        """PyTorch's mask of the whole batch, drawn in the order of memory, as far as it is of these rows."""
        assert self.part is not None
        first, batch = self.part
        rows, time, width = x.shape
        if x.stride(0) <= x.stride(1):  # its own layers have time in front
            drawn = F.dropout(x.new_ones(time, batch, width), rate).transpose(0, 1)
        else:
            drawn = F.dropout(x.new_ones(batch, time, width), rate)
        return drawn[first : first + rows]


def mask(shape: Sequence[int], rate: float, device: torch.device) -> Tensor:
    """0 with probability `rate`, else ``1 / (1 - rate)``; float32."""
    return torch.empty(tuple(shape), device=device).bernoulli_(1 - rate).div_(1 - rate)
