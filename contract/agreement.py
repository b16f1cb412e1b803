"""How far two sets of logits are apart, and how far they may be.

The parity suite and the exporter's own check use the same measures and the same limits.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from .precisions import TABLE, Limits

Floats = npt.NDArray[np.float32]


LIMITS = {precision.key: precision.limits for precision in TABLE.values()}

# Logits that differ by less say that all characters are alike: their error is not compared with nothing.
NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Agreement:
    """How well logits agree with a reference over many characters.

    Attributes:
        steps: characters compared.
        max_abs: largest absolute logit error.
        relative: see `Limits`; where the reference logits hardly differ, the error itself.
        kl: mean KL(reference || candidate), nats per character.
        kl_max: the largest KL of one character, nats.
    """

    steps: int
    max_abs: float
    relative: float
    kl: float
    kl_max: float

    def within(self, limits: Limits) -> bool:
        """Whether both measures are inside the limits (NaN never is)."""
        return self.relative <= limits.relative and self.kl <= limits.kl

    def to_dict(self) -> dict[str, float | int]:
        """Plain JSON values."""
        return asdict(self)


def log_softmax(logits: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Natural-log probabilities over the last axis, in float64."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide


def agreement(reference: Floats, candidate: Floats) -> Agreement:
    """Compare logits.

    Args:
        reference: float32 ``[..., vocab]``.
        candidate: the same shape.
    """
    a = reference.reshape(-1, reference.shape[-1]).astype(np.float64)
    b = candidate.reshape(-1, candidate.shape[-1]).astype(np.float64)
    log_p, log_q = log_softmax(a), log_softmax(b)
    kl = np.maximum((np.exp(log_p) * (log_p - log_q)).sum(axis=-1), 0.0)
    centred = a - a.mean(axis=-1, keepdims=True)
    error = b - b.mean(axis=-1, keepdims=True) - centred
    scale = math.sqrt(float((centred**2).mean()))
    rms = math.sqrt(float((error**2).mean()))
    return Agreement(
        steps=len(a),
        max_abs=float(np.abs(b - a).max()),
        relative=rms / scale if scale > NEGLIGIBLE else rms,
        kl=float(kl.mean()),
        kl_max=float(kl.max()),
    )


def bits_per_character(logits: Floats, targets: npt.NDArray[np.int64]) -> float:
    """Mean of -log2 p(target).

    Args:
        logits: float32 ``[..., vocab]``, the prediction before each target.
        targets: int64 ``[...]``.
    """
    log_p = log_softmax(logits).reshape(-1, logits.shape[-1])
    chosen = log_p[np.arange(len(log_p)), targets.reshape(-1)]
    return float(-chosen.mean() / math.log(2))
