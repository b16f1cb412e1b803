"""Text out of an engine, as it is written, in constant memory."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..contract.codec import Codec, Tokens
from ..contract.engine import Engine
from ..contract.errors import UsageError
from ..contract.sampling import Sampling
from .decoder import Decoder

# Pieces should reach the person several times a second, and be long enough to cost nothing.
PIECE_SECONDS = 0.05
PIECE_CHARACTERS = 1024

MAX_SAMPLES = 1_000_000
MAX_STREAM = 1 << 63  # the noise's key takes a stream modulo 2**64: below this none comes twice


@dataclass(frozen=True)
class Request:
    """What to write.

    Attributes:
        prompt: text to continue; empty starts from a random character.
        length: characters to write after the prompt, >= 0.
        seed: the same seed gives the same text, on every backend.
        num_samples: texts to write for each prompt, each with its own noise, 1 to `MAX_SAMPLES`.
        first_stream: stream of the noise for the first text, 0 to `MAX_STREAM`; each further text
            takes the next one.
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
    first_stream: int = 0
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    on_unknown: str = "error"

    def __post_init__(self) -> None:
        if self.length < 0:
            raise UsageError(f"length must be 0 or more, not {self.length}")
        if not 1 <= self.num_samples <= MAX_SAMPLES:
            raise UsageError(f"num-samples must be 1 to {MAX_SAMPLES:,}, not {self.num_samples}")
        if not 0 <= self.first_stream <= MAX_STREAM:
            raise UsageError(f"first-stream must be 0 to {MAX_STREAM:,}, not {self.first_stream}")
        if "" in self.stop:
            raise UsageError("a stop string must not be empty")
        if self.on_unknown not in ("error", "skip"):
            raise UsageError(f"on-unknown takes error or skip, not {self.on_unknown!r}")


def sampling_of(
    temperature: float | None, tau: float | None, greedy: bool, top_k: int, top_p: float, min_p: float
) -> Sampling:
    """The settings that a person's options mean; temperature 1 if none of the first three is given.

    Raises:
        UsageError: more than one of the first three is given, or a value is out of range.
    """
    if sum((temperature is not None, tau is not None, greedy)) > 1:
        raise UsageError(
            "give one of --temperature, --tau, --greedy: tau is 1 / temperature, greedy is temperature 0"
        )
    if tau is not None:
        return Sampling.from_tau(tau, top_k, top_p, min_p)
    return Sampling(0.0 if greedy else 1.0 if temperature is None else temperature, top_k, top_p, min_p)


def random_seed() -> int:
    """A seed for who names none, below 2**32."""
    return secrets.randbelow(1 << 32)


def generate(engine: Engine, request: Request) -> Iterator[str]:
    """Write the first text of a request and hand it out piece by piece.

    Args:
        engine: any backend.
        request: what to write; `runtime.streams.write_texts` writes more than one text.

    Yields:
        the new characters; an empty string while none can be shown.

    Raises:
        UnknownCharacter: the prompt holds a character that the model does not know.
    """
    codec = Codec(engine.card.vocabulary)
    prompt = codec.encode(request.prompt, request.on_unknown)
    decoder = Decoder(engine, request.sampling, request.seed, [request.first_stream])
    if len(prompt):
        decoder.begin([prompt])
    cutter, writer, left = Cutter(request.stop), PieceWriter(), request.length
    while left > 0 and not cutter.stopped:
        tokens = writer.write(decoder, left)
        left -= tokens.shape[1]
        yield cutter.push(codec.decode(tokens[0]))
    yield cutter.finish()


class PieceWriter:
    """Writes pieces of about `PIECE_SECONDS`, however fast the engine is; the first is one character."""

    def __init__(self) -> None:
        self._size = 1

    def write(self, decoder: Decoder, most: int) -> Tokens:
        """The next piece of every stream, int64 ``[batch, length]``, 1 <= length <= `most`."""
        size = min(self._size, most)
        started = time.perf_counter()
        try:
            return decoder.write(size)
        finally:
            took = time.perf_counter() - started
            if took > 2 * PIECE_SECONDS:
                self._size = max(1, size // 2)
            elif took < PIECE_SECONDS / 2 and size == self._size:
                self._size = min(2 * size, PIECE_CHARACTERS)


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
