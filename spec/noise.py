"""The noise stream: random numbers by address, so every backend can use the same ones.

Philox is a counter-based generator (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as
easy as 1, 2, 3", SC'11): the number at any address is computed directly, without the ones before
it. The address here is (seed, stream, position), where a stream is one text of a batch and a
position is the index of a character within it. Hence the same seed gives the same text for
every backend, every batch size, and whether it is written in one go or resumed half-way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Noise = npt.NDArray[np.float32]

_WORDS = 8  # 32-bit words in one block of Philox-4x64
_MASK = (1 << 64) - 1


def words(seed: int, stream: int, position: int, count: int, width: int) -> npt.NDArray[np.uint32]:
    """Raw random words for `count` positions from `position` on, uint32 ``[count, width]``.

    Args:
        seed: key of the generator; any integer, taken modulo 2**64.
        stream: which text of a batch, >= 0.
        position: first character's index within the text, >= 0.
        count: number of positions.
        width: words per position.
    """
    blocks = -(-width // _WORDS)
    key = np.array([seed & _MASK, stream & _MASK], dtype=np.uint64)
    # The bit generator increments its counter before the first block: counter 0 yields block 1.
    start = position * blocks
    counter = np.array([start & _MASK, start >> 64, 0, 0], dtype=np.uint64)
    generator = np.random.Philox(key=key, counter=counter)
    raw = np.asarray(generator.random_raw(count * blocks * 4), dtype="<u8")
    return raw.view("<u4").reshape(count, blocks * _WORDS)[:, :width]


def gumbel(seed: int, streams: Sequence[int], position: int, count: int, vocab: int) -> Noise:
    """Standard Gumbel noise, float32 ``[count, batch, vocab]``.

    ``argmax(logits + gumbel)`` is a draw from ``softmax(logits)`` (Gumbel 1954; the "Gumbel-max
    trick"). Computed as -log(-log(u)) in float64 with u = (word + 0.5) / 2**32, then rounded, so
    that no platform's float32 logarithm can change a text.

    Args:
        seed: key of the generator.
        streams: one stream number per row of the batch.
        position: index of the first character.
        count: number of characters.
        vocab: vocabulary size V.
    """
    noise = np.empty((count, len(streams), vocab), dtype=np.float32)
    for row, stream in enumerate(streams):
        uniform = words(seed, stream, position, count, vocab).astype(np.float64)
        uniform += 0.5
        uniform *= 2.0**-32
        np.log(uniform, out=uniform)
        np.negative(uniform, out=uniform)
        np.log(uniform, out=uniform)
        np.negative(uniform, out=uniform)
        noise[:, row] = uniform
    return noise


def first_tokens(seed: int, streams: Sequence[int], vocab: int) -> npt.NDArray[np.int64]:
    """A uniformly random first character for each stream, int64 ``[batch]``.

    Position 0 of each stream is spent on it. The choice is the argmax over V words, which is
    uniform over the vocabulary.
    """
    return np.array([int(np.argmax(words(seed, s, 0, 1, vocab)[0])) for s in streams], dtype=np.int64)
