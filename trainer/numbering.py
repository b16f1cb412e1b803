"""A text becomes tokens while it is read, before its vocabulary is known."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.codec import Codec

Tokens = npt.NDArray[np.unsignedinteger[Any]]


def smallest(vocabulary: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The type that holds all tokens of so many characters."""
    return np.min_scalar_type(max(vocabulary - 1, 0))


class Numbering:
    """Numbers the characters of a text in the order in which they first come."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._numbers = np.zeros(256, np.uint32)  # by code point: 1 + number, 0 for one that has not come yet
        self._characters: list[str] = []

    def add(self, text: str) -> Tokens:
        """The numbers of the next characters (one or more), in the smallest type that holds all so far."""
        data = text.encode("utf-32-le")
        self._sha256.update(text.encode())
        points = np.frombuffer(data, "<u4")
        most = int(points.max())
        if most >= len(self._numbers):
            self._numbers = np.pad(self._numbers, (0, most + 1 - len(self._numbers)))
        numbers = self._numbers[points]
        if not numbers.all():
            for point in np.unique(points[numbers == 0]).tolist():
                self._characters.append(chr(point))
                self._numbers[point] = len(self._characters)
            numbers = self._numbers[points]
        tokens: Tokens = (numbers - 1).astype(smallest(len(self._characters)))
        return tokens

    @property
    def vocabulary(self) -> str:
        """The characters that came, in ascending order."""
        return "".join(sorted(self._characters))

    @property
    def sha256(self) -> str:
        """SHA-256 of the text in UTF-8, in hexadecimal."""
        return self._sha256.hexdigest()

    def places(self) -> Tokens:
        """The place in `vocabulary` of each number, in the smallest type that holds them."""
        vocabulary = self.vocabulary
        places = Codec(vocabulary).encode("".join(self._characters)) if vocabulary else np.zeros(0, np.int64)
        fitting: Tokens = places.astype(smallest(len(vocabulary)))
        return fitting
