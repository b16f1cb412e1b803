"""Writing with a library that runs one step per call: the loop and the choice are in Python.

Random numbers come in blocks, the choice is argmax(logits + Gumbel noise) in numpy, and the token
that it leaves in its buffer is what the next step reads. The noise is `contract.noise`'s, so the texts
are those that p2 writes with the same seed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import numpy.typing as npt

from ...contract.card import Card
from ...contract.codec import Tokens
from ...contract.noise import first_tokens, gumbel

Floats = npt.NDArray[np.float32]

NOISE_NUMBERS = 1 << 20  # noise held at a time


class Stepper(ABC):
    """A batch of texts, the step bound to their buffers once and for all.

    Attributes:
        token: int64 ``[batch]``, what the next `step` reads.
    """

    token: Tokens

    @abstractmethod
    def step(self) -> Floats:
        """Feed `token`: the prediction, float32 ``[batch, vocab]``, valid until the next step."""


class HostLoop(ABC):
    """`contender.Running` over a step; a subclass says what a `Stepper` is.

    Attributes:
        threads: processor threads in use.
    """

    def __init__(self, card: Card, threads: int) -> None:
        self.card = card
        self.threads = threads
        self._stepper: Stepper | None = None
        self._seed = 0
        self._streams = range(0)
        self._position = 0

    @abstractmethod
    def open(self, batch: int) -> Stepper:
        """`batch` texts with a zero state."""

    def start(self, batch: int, seed: int) -> None:
        """See `Running.start`."""
        self._stepper = None  # its memory goes back first
        self._stepper = self.open(batch)
        self._seed, self._streams, self._position = seed, range(batch), 1
        self._stepper.token[:] = first_tokens(seed, self._streams, self.card.vocab)

    def write(self, count: int) -> Tokens:
        """See `Running.write`."""
        assert self._stepper is not None, "start comes first"
        written = np.empty((len(self._streams), count), np.int64)
        block = max(1, NOISE_NUMBERS // (len(self._streams) * self.card.vocab))
        for begin in range(0, count, block):
            piece = written[:, begin : begin + block]
            length = piece.shape[1]
            noise = gumbel(self._seed, self._streams, self._position, length, self.card.vocab)
            _choose(self._stepper, noise, piece)
            self._position += length
        return written

    def follow(self, first: Tokens, noise: Floats) -> Tokens:
        """See `Running.follow`."""
        stepper = self.open(len(first))
        stepper.token[:] = first
        written = np.empty((len(first), len(noise)), np.int64)
        _choose(stepper, noise, written)
        return written

    def read(self, tokens: Tokens) -> None:
        """See `Running.read`."""
        stepper = self.open(len(tokens))
        for column in tokens.T:
            stepper.token[:] = column
            stepper.step()

    def logits(self, tokens: Tokens) -> Floats:
        """See `Running.logits`."""
        stepper = self.open(len(tokens))
        predicted = np.empty((*tokens.shape, self.card.vocab), np.float32)
        for position, column in enumerate(tokens.T):
            stepper.token[:] = column
            predicted[:, position] = stepper.step()
        return predicted

    def close(self) -> None:
        """See `Running.close`."""
        self._stepper = None


def _choose(stepper: Stepper, noise: Floats, written: Tokens) -> None:
    """Write one character per row of noise ``[count, batch, vocab]`` into ``[batch, count]``."""
    step, token = stepper.step, stepper.token
    scores = np.empty(noise.shape[1:], np.float32)
    for row, column in zip(noise, written.T, strict=True):
        np.add(step(), row, out=scores)
        scores.argmax(axis=1, out=token)
        column[:] = token
