"""Text to tokens and back: a token is a character's index in the sorted vocabulary."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from .errors import UsageError

Tokens = npt.NDArray[np.int64]

_UTF32 = "utf-32-le"


class UnknownCharacter(UsageError):
    """A text holds a character that the model has never seen."""


def vocabulary_of(text: str) -> str:
    """The distinct characters of `text` in ascending code-point order."""
    return "".join(sorted(set(text)))


def describe(character: str) -> str:
    """A character as a person recognises it: ``'é' (U+00E9 LATIN SMALL LETTER E WITH ACUTE)``."""
    name = unicodedata.name(character, "")
    return f"{character!r} (U+{ord(character):04X}{' ' + name if name else ''})"


class Codec:
    """Encodes and decodes with one vocabulary."""

    def __init__(self, vocabulary: str) -> None:
        self.vocabulary = vocabulary
        self._points = _code_points(vocabulary)

    def encode(self, text: str, on_unknown: str = "error", start: int = 0) -> Tokens:
        """Tokens of `text`, int64 ``[len(text)]``.

        Args:
            text: any string.
            on_unknown: ``error`` refuses a character outside the vocabulary, ``skip`` leaves it out.
            start: position of the first character, where `text` is a part of a whole.

        Raises:
            UnknownCharacter: names the first such character and its position.
        """
        points = _code_points(text)
        tokens = np.searchsorted(self._points, points).astype(np.int64)
        np.minimum(tokens, len(self._points) - 1, out=tokens)
        known = self._points[tokens] == points
        if not known.all():
            if on_unknown != "skip":
                position = int(np.argmin(known))
                raise UnknownCharacter(
                    f"the model does not know the character {describe(text[position])} at position"
                    f" {start + position}; its vocabulary has {len(self.vocabulary)} characters"
                    " (--on-unknown skip leaves such characters out)"
                )
            tokens = tokens[known]
        return tokens

    def decode(self, tokens: Iterable[int] | Tokens) -> str:
        """The text of `tokens` (any sequence of integers in ``[0, V)``)."""
        indices = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens), dtype=np.int64)
        return self._points[indices].tobytes().decode(_UTF32, "surrogatepass")


def _code_points(text: str) -> npt.NDArray[np.uint32]:
    return np.frombuffer(text.encode(_UTF32, "surrogatepass"), dtype="<u4")
