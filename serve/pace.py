"""How much is done between two borders of chunks: about the same time, however fast the engine is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Texts join, leave and reach their readers so often.
CHUNK_SECONDS = 0.025

# Of one text between two borders.
MOST_CHARACTERS = 512

# What a border costs, as a share of the steps of a chunk.
BORDER_SHARE = 1 / 16


class Pace:
    """What an engine does in a second, by the size of its batch."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}  # of a step, by size class

    def took(self, batch: int, steps: int, seconds: float) -> None:
        """A call with so many steps of a batch has taken so long."""
        size, each = batch.bit_length(), seconds / steps
        self._seconds[size] = (self._seconds.get(size, each) + each) / 2

    def steps(self, batch: int) -> int:
        """As many as take about `CHUNK_SECONDS`, 1 to `MOST_CHARACTERS`; of a size not yet seen one step."""
        seconds = self._seconds.get(batch.bit_length())
        if seconds is None:
            return 1
        return int(max(1, min(MOST_CHARACTERS, CHUNK_SECONDS / max(seconds, 1e-9))))


def chunk(left: Sequence[int], most: int) -> int:
    """Steps of the next chunk.

    A text that ends within a chunk leaves its row idle until the border, and a border costs something too:
    the best of the numbers at which a text ends, or `most`.

    Args:
        left: characters that each text still needs, >= 1.
        most: steps that take as long as a chunk should.
    """
    wanted = np.minimum(np.array(left), most)
    ends = np.unique(wanted)
    useful = np.minimum(ends[:, None], wanted[None]).sum(axis=1)
    return int(ends[np.argmax(useful / (ends + most * BORDER_SHARE))])
