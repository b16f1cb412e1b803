"""Texts out of an exported engine, and how well it predicts the book."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from ...contract.agreement import log_softmax
from ...contract.codec import Codec
from ...contract.engine import Engine, predictions
from ...contract.sampling import Sampling
from ...runtime.generate import Request
from ...runtime.streams import write_texts
from .options import WINDOW

WINDOWS = 4096
"""Windows of the book that an engine's predictions are measured on."""

_ROWS = 256

Advance = Callable[[int], None]


def greedy(engine: Engine, prompts: Sequence[str], length: int, advance: Advance) -> list[str]:
    """Always the most probable character after each prompt.

    Returns:
        The prompts and `length` characters after each.
    """
    request = Request(length=length, sampling=Sampling(temperature=0))
    texts = write_texts(engine, request, prompts, advance)
    return [text.prompt + text.text for text in texts]


def sampled(engine: Engine, tau: float, count: int, length: int, seed: int, advance: Advance) -> list[str]:
    """Texts from a random first character on, each with noise of its own."""
    request = Request(length=length, seed=seed, num_samples=count, sampling=Sampling.from_tau(tau))
    return [text.text for text in write_texts(engine, request, None, advance)]


class Predictions:
    """An engine's predictions over windows of a book, each from a zero state.

    The windows are the same for every engine: `WINDOWS` of them at uniformly random offsets.

    Args:
        engine: any backend.
        book: what it was trained on.
        seed: of the offsets.

    Attributes:
        logits: float32 ``[WINDOWS, WINDOW, vocab]``.
        targets: int64 ``[WINDOWS, WINDOW]``.
    """

    def __init__(self, engine: Engine, book: str, seed: int) -> None:
        tokens = Codec(engine.card.vocabulary).encode(book)
        offsets = np.random.default_rng(abs(seed)).integers(len(tokens) - WINDOW, size=WINDOWS)
        windows = tokens[offsets[:, None] + np.arange(WINDOW + 1)]
        self.targets = windows[:, 1:]
        pieces = []
        for start in range(0, WINDOWS, _ROWS):
            rows = np.ascontiguousarray(windows[start : start + _ROWS, :-1])
            pieces.append(predictions(engine, rows))
        self.logits = np.concatenate(pieces)

    def accuracy(self) -> npt.NDArray[np.float64]:
        """Share of windows predicted right, by position, float64 ``[WINDOW]``."""
        right: npt.NDArray[np.float64] = (self.logits.argmax(axis=-1) == self.targets).mean(axis=0)
        return right

    def loss(self) -> float:
        """Mean cross entropy in nats per character."""
        logs = log_softmax(self.logits)
        return float(-np.take_along_axis(logs, self.targets[..., None], axis=-1).mean())

    def at_tau(self, tau: float) -> dict[str, float]:
        """What the factor `tau` on the logits makes of the distributions, on average.

        Returns:
            ``entropy`` in nats, and ``top``, the probability of the most probable character.
        """
        logs = log_softmax(self.logits * np.float32(tau))
        probabilities = np.exp(logs)
        return {
            "entropy": float(-(probabilities * logs).sum(axis=-1).mean()),
            "top": float(probabilities.max(axis=-1).mean()),
        }
