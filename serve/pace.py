"""How much is done between two borders of chunks: about the same time, however fast the engine is."""

from __future__ import annotations

from collections.abc import Sequence

# Texts join, leave and reach their readers so often; with many texts more seldom, as a border takes its time
# for each of them.
CHUNK_SECONDS, CHUNK_SECONDS_EACH, LONGEST_CHUNK_SECONDS = 0.025, 0.0008, 0.1

# Of one text between two borders.
MOST_CHARACTERS = 512

# What a border costs, as a share of the steps of a chunk.
BORDER_SHARE = 1 / 16


class Pace:
    """What an engine does in a second, by the size of its batch."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}  # of a step, by size class
        self._last: dict[int, tuple[int, float]] = {}  # steps of the last call, and the seconds of all

    def took(self, batch: int, steps: int, seconds: float) -> None:
        """A call with so many steps of a batch has taken so long."""
        size, each = batch.bit_length(), seconds / steps
        self._seconds[size] = (self._seconds.get(size, each) + each) / 2
        self._last[size] = steps, seconds

    def steps(self, batch: int) -> int:
        """As many as a chunk should have, 1 to `MOST_CHARACTERS`; of a size not yet seen one step."""
        seconds = self._seconds.get(batch.bit_length())
        if seconds is None:
            return 1
        wanted = min(max(CHUNK_SECONDS, CHUNK_SECONDS_EACH * batch), LONGEST_CHUNK_SECONDS)
        found = wanted / max(seconds, 1e-9)
        before, took = self._last[batch.bit_length()]
        if took < wanted:  # what a call costs by itself, which is much on a busy machine, more steps share
            found = max(found, before + max(1, before // 8))
        return int(max(1, min(MOST_CHARACTERS, found)))


def chunk(left: Sequence[int], most: int) -> int:
    """Steps of the next chunk.

    A text that ends within a chunk leaves its row idle until the border, and a border costs something too:
    the best of the numbers at which a text ends, or `most`.

    Args:
        left: characters that each text still needs, of its prompt and of its length, >= 1.
        most: steps that take as long as a chunk should.
    """
    best, steps, useful, before = 0.0, 1, 0, 0
    wanted = sorted(min(one, most) for one in left)
    for number, end in enumerate(wanted):  # each of the first `number` has ended, the others go on
        useful += (end - before) * (len(wanted) - number)
        before = end
        share = useful / (end + most * BORDER_SHARE)
        if share > best:
            best, steps = share, end
    return steps
