"""The step's arithmetic as somebody writes it who tunes PyTorch: in place, and with fused operations."""

from __future__ import annotations

import torch
from torch import Tensor

from ...export.step import Folded


class InPlace(Folded):
    """A layer that writes over what its equation does not use again."""

    affine = staticmethod(torch.addmm)  # type: ignore[assignment]
    sigmoid = staticmethod(Tensor.sigmoid_)
    tanh = staticmethod(Tensor.tanh_)
    multiply = staticmethod(lambda a, b: b.mul_(a))
    add_product = staticmethod(Tensor.addcmul_)
    mix = staticmethod(torch.lerp)
