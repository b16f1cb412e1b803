"""The protocol of the benchmark's competitors.

A contender is a way to run a model. The benchmark loads each in a process of its own, so that no
library's threads or allocator disturb another's, and knows nothing of it but this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ..contract.card import Card
from ..contract.codec import Tokens


@dataclass(frozen=True)
class Model:
    """One set of weights, in every form that a contender may want.

    Attributes:
        name: for the report, e.g. ``lstm,2,256,512``.
        card: what the model is, in float32.
        checkpoint: folder that `trainer.checkpoint` reads.
        steps: p2's exported step graph for each precision.
    """

    name: str
    card: Card
    checkpoint: Path
    steps: dict[str, Path]


class Running(Protocol):
    """A loaded model.

    Attributes:
        threads: processor threads in use.
    """

    threads: int

    def start(self, batch: int, seed: int) -> None:
        """Begin `batch` new texts: state zero, first characters drawn from `seed`."""
        ...

    def write(self, count: int) -> Tokens:
        """The next `count` characters of every text at temperature 1, int64 ``[batch, count]``.

        Everything that a person needs to get them is inside: random numbers, the choice, the loop.
        """
        ...

    def follow(self, first: Tokens, noise: npt.NDArray[np.float32]) -> Tokens:
        """Write from a zero state with given noise: argmax(logits + noise) at every character.

        Args:
            first: int64 ``[batch]``, fed before the first choice.
            noise: float32 ``[count, batch, vocab]``.

        Returns:
            int64 ``[batch, count]``: identical for every exact implementation of the same weights.
        """
        ...

    def read(self, tokens: Tokens) -> None:
        """Advance over known text, int64 ``[batch, length]``, from a zero state; no logits wanted."""
        ...

    def logits(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """The prediction after each token from a zero state, float32 ``[batch, length, vocab]``."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Contender(Protocol):
    """A way to run a model.

    Attributes:
        key: short and unique, e.g. ``torch-eager``.
        title: for people, e.g. ``nn.LSTM, eager PyTorch`` (the cell is in the model's name).
        precision: of the weights: float32, float16, int8, int4.
        group: ``p2``, ``peer``, or ``variant``: another way of p2's own, or a peer held back,
            which no target counts.
        device: ``cpu`` or ``cuda``.
    """

    key: str
    title: str
    precision: str
    group: str
    device: str

    def missing(self, card: Card) -> str | None:
        """Why it cannot run this model here, as a sentence; None if it can. Imports nothing heavy."""
        ...

    def load(self, model: Model, threads: int | None) -> Running:
        """Make it ready; None lets the contender choose its threads as its users would."""
        ...
