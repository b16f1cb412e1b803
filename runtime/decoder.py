"""Tokens out of an engine: keeps track of what has been written and which noise comes next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..spec.codec import Tokens
from ..spec.engine import Engine
from ..spec.noise import first_tokens, gumbel
from ..spec.sampling import Sampling, scale_noise

# Noise for at most this many numbers at a time, so that memory does not grow with the length.
NOISE_NUMBERS = 1 << 20


class Decoder:
    """A batch of texts being written.

    Every stream draws its noise by (seed, stream, position), so what it writes depends neither on
    its neighbours in the batch nor on how the writing is cut into calls.

    Args:
        engine: any backend.
        sampling: how characters are chosen.
        seed: key of the noise.
        streams: the stream number of each row; ``range(batch)`` by default gives one.
    """

    def __init__(
        self, engine: Engine, sampling: Sampling, seed: int = 0, streams: Sequence[int] = (0,)
    ) -> None:
        self.engine = engine
        self.sampling = sampling
        self.seed = seed
        self.streams = tuple(streams)
        self.position = 0
        self._state = engine.zero_state(len(self.streams))
        self._last: Tokens | None = None

    def prompt(self, tokens: Tokens) -> None:
        """Read known text, int64 ``[batch, length]``, length >= 1, before writing."""
        if self._last is not None:
            tokens = np.concatenate([self._last[:, None], tokens], axis=1)
        self.engine.feed(self._state, tokens[:, :-1])
        self._last = np.ascontiguousarray(tokens[:, -1])

    def write(self, count: int) -> Tokens:
        """The next `count` characters of every stream, int64 ``[batch, count]``.

        With no prompt the first character is drawn uniformly from the vocabulary.
        """
        pieces = []
        if self._last is None and count > 0:
            self._last = first_tokens(self.seed, self.streams, self.engine.card.vocab)
            pieces.append(self._last[:, None])
            self.position += 1
            count -= 1
        limit = max(1, NOISE_NUMBERS // (len(self.streams) * self.engine.card.vocab))
        while count > 0:
            assert self._last is not None
            now = min(count, limit)
            tokens = self.engine.decode(self._state, self._last, self._noise(now), self.sampling)
            self._last = np.ascontiguousarray(tokens[:, -1])
            self.position += now
            count -= now
            pieces.append(tokens)
        return np.concatenate(pieces, axis=1) if pieces else np.zeros((len(self.streams), 0), np.int64)

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on from here, on this or another backend."""
        return {
            "state": self.engine.snapshot(self._state),
            "last": None if self._last is None else self._last.copy(),
            "position": self.position,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot."""
        self._state = self.engine.restore(snapshot["state"])
        self._last = None if snapshot["last"] is None else snapshot["last"].copy()
        self.position = snapshot["position"]

    def _noise(self, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        vocab = self.engine.card.vocab
        if self.sampling.greedy:
            return np.zeros((count, len(self.streams), vocab), np.float32)
        return scale_noise(gumbel(self.seed, self.streams, self.position, count, vocab), self.sampling)
