"""The noise stream: random numbers by address, so every backend can use the same ones.

Philox is a counter-based generator (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as
easy as 1, 2, 3", SC'11): the number at any address is computed directly, without the ones before
it. The address here is (seed, stream, position), where a stream is one text of a batch and a
position is the index of a character within it. Hence the same seed gives the same text for
every backend, every batch size, and whether it is written in one go or resumed half-way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Noise = npt.NDArray[np.float32]
Words = npt.NDArray[np.uint32]

_WORDS = 8  # 32-bit words in one block of Philox-4x64
_MASK = (1 << 64) - 1
_PASS = 1 << 14  # float64 numbers worked on at a time: 128 KiB stay in a core's cache for all passes


class Address(NamedTuple):
    """Where the noise of a batch begins: what an engine needs that draws it by itself.

    Attributes:
        seed: key of the generators; any integer, taken modulo 2**64.
        streams: one stream number >= 0 for each row, taken modulo 2**64.
        position: index of the first character, 0 to 2**64 - 1.
    """

    seed: int
    streams: Sequence[int]
    position: int


class NoiseSource:
    """The noise of a batch of streams, read on from a position.

    Each stream keeps its generator, whose counter runs on from one position to the next: making a
    generator costs more than the numbers of a short call.

    Args:
        seed: key of the generators; any integer, taken modulo 2**64.
        streams: one stream number >= 0 for each row of the batch.
        vocab: vocabulary size V, the numbers of one position.
        position: index of the first character to be read, >= 0.

    Attributes:
        position: index of the next character.
    """

    def __init__(self, seed: int, streams: Sequence[int], vocab: int, position: int = 0) -> None:
        self.position = position
        self._vocab = vocab
        self._blocks = -(-vocab // _WORDS)
        # A generator increments its counter before the first block: counter 0 yields block 1.
        start = position * self._blocks
        counter = np.array([start & _MASK, start >> 64, 0, 0], dtype=np.uint64)
        self._generators = [
            np.random.Philox(key=np.array([seed & _MASK, stream & _MASK], dtype=np.uint64), counter=counter)
            for stream in streams
        ]

    def words(self, count: int) -> Words:
        """Raw random words of the next `count` positions, uint32 ``[count, batch, vocab]``."""
        words = np.empty((count, len(self._generators), self._vocab), dtype=np.uint32)
        for row, generator in enumerate(self._generators):
            raw = np.asarray(generator.random_raw(count * self._blocks * 4), dtype="<u8")
            words[:, row] = raw.view("<u4").reshape(count, self._blocks * _WORDS)[:, : self._vocab]
        self.position += count
        return words

    def gumbel(self, count: int) -> Noise:
        """Standard Gumbel noise of the next `count` positions, float32 ``[count, batch, vocab]``.

        ``argmax(logits + gumbel)`` is a draw from ``softmax(logits)`` (Gumbel 1954; the "Gumbel-max
        trick"). Computed as -log(-log(u)) in float64 with u = (word + 0.5) / 2**32, then rounded, so
        that no platform's float32 logarithm can change a text.
        """
        words = self.words(count)
        noise = np.empty(words.shape, dtype=np.float32)
        given, wanted = words.reshape(-1), noise.reshape(-1)
        scratch = np.empty(min(given.size, _PASS), dtype=np.float64)
        for start in range(0, given.size, _PASS):
            uniform = scratch[: given.size - start]
            uniform[:] = given[start : start + _PASS]
            uniform += 0.5
            uniform *= 2.0**-32
            np.log(uniform, out=uniform)
            np.negative(uniform, out=uniform)
            np.log(uniform, out=uniform)
            np.negative(uniform, out=uniform)
            wanted[start : start + _PASS] = uniform
        return noise

    def first_tokens(self) -> npt.NDArray[np.int64]:
        """A uniformly random character for each stream, int64 ``[batch]``; it takes one position.

        The choice is the argmax over V words, which is uniform over the vocabulary.
        """
        chosen: npt.NDArray[np.int64] = self.words(1)[0].argmax(axis=-1)
        return chosen


def words(seed: int, stream: int, position: int, count: int, width: int) -> Words:
    """Raw random words for `count` positions from `position` on, uint32 ``[count, width]``.

    Args:
        seed: key of the generator; any integer, taken modulo 2**64.
        stream: which text of a batch, >= 0.
        position: first character's index within the text, >= 0.
        count: number of positions.
        width: words per position.
    """
    return NoiseSource(seed, (stream,), width, position).words(count)[:, 0]


def gumbel(seed: int, streams: Sequence[int], position: int, count: int, vocab: int) -> Noise:
    """Standard Gumbel noise by address, float32 ``[count, batch, vocab]``; see `NoiseSource.gumbel`.

    Args:
        seed: key of the generator.
        streams: one stream number per row of the batch.
        position: index of the first character.
        count: number of characters.
        vocab: vocabulary size V.
    """
    return NoiseSource(seed, streams, vocab, position).gumbel(count)


def first_tokens(seed: int, streams: Sequence[int], vocab: int) -> npt.NDArray[np.int64]:
    """A uniformly random first character for each stream, int64 ``[batch]``.

    Position 0 of each stream is spent on it; see `NoiseSource.first_tokens`.
    """
    return NoiseSource(seed, streams, vocab).first_tokens()
