"""Text out of an engine, as it is written, in constant memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..spec.codec import Codec
from ..spec.engine import Engine
from ..spec.errors import UsageError
from ..spec.sampling import Sampling
from .decoder import Decoder

# Pieces should reach the person several times a second, and be long enough to cost nothing.
PIECE_SECONDS = 0.05
PIECE_CHARACTERS = 1024

MAX_SAMPLES = 1 << 16  # they are written side by side, each with a state of its own


@dataclass(frozen=True)
class Request:
    """What to write.

    Attributes:
        prompt: text to continue; empty starts from a random character.
        length: characters to write after the prompt, >= 0.
        seed: the same seed gives the same text, on every backend.
        num_samples: texts to write, each with its own noise, >= 1.
        sampling: how characters are chosen.
        stop: a text ends before the one of these strings that is complete first.
        on_unknown: ``error`` or ``skip`` prompt characters that the model does not know.

    Raises:
        UsageError: a value is out of range.
    """

    prompt: str = ""
    length: int = 500
    seed: int = 0
    num_samples: int = 1
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    on_unknown: str = "error"

    def __post_init__(self) -> None:
        if self.length < 0:
            raise UsageError(f"length must be 0 or more, not {self.length}")
        if not 1 <= self.num_samples <= MAX_SAMPLES:
            raise UsageError(f"num-samples must be 1 to {MAX_SAMPLES:,}, not {self.num_samples}")
        if "" in self.stop:
            raise UsageError("a stop string must not be empty")


def generate(engine: Engine, request: Request) -> Iterator[list[str]]:
    """Write text and hand it out piece by piece.

    Args:
        engine: any backend.
        request: what to write.

    Yields:
        the new characters of each sample; an empty string for one that has nothing new or has
        reached a stop string.

    Raises:
        UnknownCharacter: the prompt holds a character that the model does not know.
    """
    codec = Codec(engine.card.vocabulary)
    prompt = codec.encode(request.prompt, request.on_unknown)
    decoder = Decoder(engine, request.sampling, request.seed, range(request.num_samples))
    if len(prompt):
        decoder.prompt(np.tile(prompt, (request.num_samples, 1)))
    cutters = [Cutter(request.stop) for _ in range(request.num_samples)]
    left, size = request.length, 1
    while left > 0 and not all(cutter.stopped for cutter in cutters):
        size = min(size, left)
        started = time.perf_counter()
        tokens = decoder.write(size)
        took = time.perf_counter() - started
        left -= size
        yield [cutter.push(codec.decode(row)) for cutter, row in zip(cutters, tokens, strict=True)]
        if took < PIECE_SECONDS / 2:
            size = min(2 * size, PIECE_CHARACTERS)
        elif took > 2 * PIECE_SECONDS:
            size = max(1, size // 2)
    yield [cutter.finish() for cutter in cutters]


class Cutter:
    """Ends a stream of text at the first stop string, without showing a part of it.

    Text that might be the beginning of a stop string is held back until it is decided.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """Take new text; return what may be shown."""
        if self.stopped or not self._stops:
            return "" if self.stopped else piece
        text = self._held + piece
        # The stop string that is complete first ends the text, so that the pieces do not matter.
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)[1]]
        keep = max(
            (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0
        )
        cut = len(text) - keep
        self._held = text[cut:]
        return text[:cut]

    def finish(self) -> str:
        """The text held back, once nothing can follow."""
        held, self._held = self._held, ""
        return held
