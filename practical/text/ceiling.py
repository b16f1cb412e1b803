"""How well anything could predict a book's characters from windows that begin with a zero state."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...contract.codec import Codec, vocabulary_of


def best_accuracy(text: str, length: int) -> npt.NDArray[np.float64]:
    """Accuracy of the best predictor by position in a window, float64 ``[length]``.

    After k characters of a window at a uniformly random offset, nothing tells apart two places of the text
    whose last k characters are the same. The best that can be said is the character that follows most often:
    the mean over all places of (occurrences of that character / occurrences of the k characters).
    The plain mean over the positions is what no model, however large, can exceed on such windows.

    Args:
        text: at least ``length + 1`` characters.
        length: characters of a window.
    """
    tokens = Codec(vocabulary := vocabulary_of(text)).encode(text)
    result = np.empty(length)
    # same[i] numbers the string of `size` characters that ends at i: equal numbers, equal strings.
    same = tokens.copy()
    for size in range(1, length + 1):
        contexts, following = same[size - 1 : -1], tokens[size:]
        pairs, counts = np.unique(contexts * len(vocabulary) + following, return_counts=True)
        groups = pairs // len(vocabulary)
        starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1]])
        result[size - 1] = np.maximum.reduceat(counts, starts).sum() / len(following)
        longer = same[size:] * len(vocabulary) + tokens[: len(tokens) - size]
        same[size:] = np.unique(longer, return_inverse=True)[1]
    return result
