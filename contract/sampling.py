"""How the next character is chosen: the definition, in numpy, that every backend must match.

With logits ``l``, noise ``g`` (standard Gumbel) and tau = 1 / temperature:

1. filter: over p = softmax(tau * l), top-k keeps the k most probable characters, then top-p the
   fewest of those that together reach probability p, then min-p those at least min_p times as
   probable as the most probable one;
2. choose: ``argmax(l + g / tau)`` over what is left. That is the same character as
   ``argmax(tau * l + g)``, a draw from softmax(tau * l), with the scaling done on the noise,
   outside the loop. At temperature 0 the noise vanishes and it is the plain argmax.

Ties go to the lowest token; characters that tie with the last one kept by a filter stay too.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .codec import Tokens
from .errors import UsageError

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Sampling:
    """Settings of the choice.

    Attributes:
        temperature: divides the logits; 0 is greedy, else 1e-6 to 1e6, which float32 holds both ways.
        top_k: keep the k most probable characters; 0 keeps all.
        top_p: keep the fewest characters that reach this probability, 0 < top_p <= 1; 1 keeps all.
        min_p: keep characters at least this share as probable as the best, 0 <= min_p < 1.

    Raises:
        UsageError: a value is out of its range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.top_k, numbers.Integral):
            raise UsageError(f"top-k must be a whole number, not {self.top_k!r}")
        for name in ("temperature", "top_p", "min_p"):
            if not isinstance(getattr(self, name), numbers.Real):
                raise UsageError(f"{name.replace('_', '-')} must be a number, not {getattr(self, name)!r}")
        if self.temperature != 0 and not 1e-6 <= self.temperature <= 1e6:
            raise UsageError(
                f"temperature must be 0 (greedy) or between 1e-6 and 1e6, not {self.temperature:g}"
            )
        if self.top_k < 0:
            raise UsageError(f"top-k must be 0 (off) or positive, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p must be above 0 and at most 1 (off), not {self.top_p}")
        if not 0 <= self.min_p < 1:
            raise UsageError(f"min-p must be at least 0 (off) and below 1, not {self.min_p}")

    @classmethod
    def from_tau(cls, tau: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0) -> Sampling:
        """Settings with tau, which multiplies the logits; tau 2.0 is temperature 0.5."""
        if not 1e-6 <= tau <= 1e6:
            raise UsageError(f"tau must be between 1e-6 and 1e6, not {tau:g} (it multiplies the logits)")
        return cls(1.0 / tau, top_k, top_p, min_p)

    @property
    def greedy(self) -> bool:
        """Whether no noise takes part."""
        return self.temperature == 0

    def kept(self, vocab: int) -> int:
        """How many characters top-k keeps: all where it is off, or larger than the vocabulary."""
        return min(self.top_k or vocab, vocab)

    @property
    def filters(self) -> bool:
        """Whether any of top-k, top-p, min-p is on (none matters to a greedy choice)."""
        return not self.greedy and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)


def scale_noise(noise: Floats, sampling: Sampling) -> Floats:
    """Noise times temperature, float32, in place: what the decode loops add to the logits."""
    if sampling.temperature != 1.0:
        noise *= np.float32(sampling.temperature)
    return noise


def threshold(logits: Floats, sampling: Sampling) -> Floats:
    """The smallest logit that survives the filters, float32 ``[batch, 1]``.

    Args:
        logits: float32 ``[batch, vocab]``.
        sampling: settings with temperature > 0.
    """
    ordered = -np.sort(-logits, axis=-1)
    ordered = ordered[:, : sampling.kept(ordered.shape[1])]
    tau = np.float32(1.0 / sampling.temperature)
    weights = np.exp((ordered - ordered[:, :1]) * tau)
    keep = np.ones_like(ordered, dtype=bool)
    if sampling.top_p < 1:
        probabilities = weights / weights.sum(axis=-1, keepdims=True)
        before = np.zeros_like(probabilities)
        np.cumsum(probabilities[:, :-1], axis=-1, out=before[:, 1:])
        keep &= before < np.float32(sampling.top_p)
    if sampling.min_p > 0:
        keep &= weights >= np.float32(sampling.min_p)
    lowest: Floats = np.where(keep, ordered, np.float32(np.inf)).min(axis=-1, keepdims=True)
    return lowest


def choose(logits: Floats, scaled_noise: Floats, sampling: Sampling) -> Tokens:
    """The chosen characters, int64 ``[batch]``.

    Args:
        logits: float32 ``[batch, vocab]``.
        scaled_noise: float32 ``[batch, vocab]``, as `scale_noise` gives it.
        sampling: the settings.
    """
    if sampling.filters:
        logits = np.where(logits >= threshold(logits, sampling), logits, np.float32(-np.inf))
    chosen: Tokens = np.argmax(logits + scaled_noise, axis=-1)
    return chosen


def write(predict: Callable[[Tokens], Floats], last: Tokens, noise: Floats, sampling: Sampling) -> Tokens:
    """Characters that are chosen one by one here, int64 ``[batch, count]``.

    Args:
        predict: feeds tokens ``[batch]`` and gives the logits, float32 ``[batch, vocab]``.
        last: int64 ``[batch]``, fed first.
        noise: float32 ``[count, batch, vocab]``, as `scale_noise` gives it.
        sampling: the settings.
    """
    written = np.empty((len(last), len(noise)), np.int64)
    for position, scaled in enumerate(noise):
        last = written[:, position] = choose(predict(last), scaled, sampling)
    return written
