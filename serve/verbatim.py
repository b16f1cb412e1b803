"""Which characters of a text stand in another one word for word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contract.files import read_text

# An agreement of so many characters is no accident (the practical has the same).
LEAST = 30

_Hashes = npt.NDArray[np.uint64]


class Verbatim:
    """A training text, kept as the sorted hashes of all its pieces of `LEAST` characters: 8 bytes each.

    Args:
        texts: any strings.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._known = np.unique(np.concatenate([np.zeros(0, np.uint64), *map(_hashes, texts)]))

    @classmethod
    def of(cls, files: Sequence[Path]) -> Verbatim:
        """The texts of UTF-8 files.

        Raises:
            P2Error: one cannot be read, or is not UTF-8.
        """
        return cls([read_text(file) for file in files])

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Runs of characters, (start, end), that lie in a piece of `LEAST` which stands in the texts."""
        found = _hashes(text)
        at = np.searchsorted(self._known, found)
        known = at < len(self._known)
        known[known] = self._known[at[known]] == found[known]
        inside = np.zeros(len(text) + 1, np.int64)
        np.add.at(inside, np.flatnonzero(known), 1)
        np.add.at(inside, np.flatnonzero(known) + LEAST, -1)
        edges = np.flatnonzero(np.diff(np.cumsum(inside) > 0, prepend=False))
        return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]


def _hashes(text: str) -> _Hashes:
    """Of each piece of `LEAST` characters, uint64 ``[len(text) - LEAST + 1]``: two pieces share none."""
    count = len(text) - LEAST + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint64)
    with np.errstate(over="ignore"):
        points = _mixed(points + np.uint64(1))
        found = np.zeros(count, np.uint64)
        for offset in range(LEAST):
            found *= np.uint64(0x9E3779B97F4A7C15)
            found += points[offset : offset + count]
        return _mixed(found)


def _mixed(numbers: _Hashes) -> _Hashes:
    """The finish of SplitMix64 (Steele, Lea, Flood, 2014): every bit of a number reaches every other."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))
