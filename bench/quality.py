"""What a precision costs: predictions on held-out text against those of p2's float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..contract.agreement import agreement, bits_per_character
from ..contract.codec import Tokens
from ..contract.precisions import TABLE
from .document import Quality

DIFFERENCE_LIMITS = {p.key: p.difference for p in TABLE.values() if p.difference is not None}
"""Bits per character that a precision may lose against float32 on held-out text: what p2 promises."""


def assess(
    reference: npt.NDArray[np.float32], logits: npt.NDArray[np.float32], targets: Tokens, precision: str
) -> Quality:
    """Compare predictions.

    Args:
        reference: float32 ``[batch, length, vocab]`` of p2's float32, teacher-forced.
        logits: the same of another precision, all finite.
        targets: int64 ``[batch, length]``, the characters that came.
        precision: whose limit holds.
    """
    bits = bits_per_character(logits, targets)
    difference = bits - bits_per_character(reference, targets)
    limit = DIFFERENCE_LIMITS.get(precision)
    return Quality(
        characters=targets.size,
        bits_per_character=bits,
        difference=difference,
        kl=agreement(reference, logits).kl,
        limit=limit,
        passes=limit is None or difference <= limit,
    )
