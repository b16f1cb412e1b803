"""The one protocol that every backend implements, and that everything else knows.

The generator, the parity suite, the server and the benchmarks see only this. An engine knows
tokens, never text; it owns no random numbers; its state is opaque to callers, except that a
snapshot of it is plain numpy arrays under the contract's names (``h_00``, ``c_00``, ...), so a
state saved by one backend can be restored into another. Every engine checks what it is handed first
(`contract.arguments`): a `UsageError` says what does not fit, and the state is as it was.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from .card import Card
from .codec import Tokens
from .errors import UsageError
from .noise import Address
from .sampling import Floats, Sampling

State = Any
Snapshot = dict[str, Floats]


@runtime_checkable
class Engine(Protocol):
    """One loaded model, ready to run.

    Attributes:
        card: what the model is.
        name: the backend in a few words, e.g. ``onnxruntime float16 (CPU)``.
    """

    card: Card
    name: str

    def zero_state(self, batch: int) -> State:
        """A state of zeros for `batch` independent streams."""
        ...

    def feed(self, state: State, tokens: Tokens, *, logits: bool = False) -> Floats | None:
        """Advance `state` over known tokens.

        Args:
            state: advanced in place.
            tokens: int64 ``[batch, length]``, length >= 0.
            logits: whether to return the prediction after each token.

        Returns:
            float32 ``[batch, length, vocab]`` if `logits`, else None.
        """
        ...

    def decode(self, state: State, last: Tokens, noise: Floats, sampling: Sampling) -> Tokens:
        """Write `count` characters per stream: feed a token, choose the next, feed it, ...

        Args:
            state: advanced in place over `last` and all new tokens but the final one.
            last: int64 ``[batch]``, the newest tokens, not yet fed.
            noise: float32 ``[count, batch, vocab]``, already scaled by the temperature
                (`sampling.scale_noise`).
            sampling: the settings.

        Returns:
            The new tokens, int64 ``[batch, count]``; the last column has not been fed.
        """
        ...

    def snapshot(self, state: State) -> Snapshot:
        """A copy of `state`: float32 ``[batch, hidden]`` per name of `Card.state_names`."""
        ...

    def restore(self, snapshot: Snapshot) -> State:
        """A state equal to a snapshot, of this or another backend."""
        ...

    def close(self) -> None:
        """Give back what the engine holds; it cannot be used afterwards."""
        ...


@runtime_checkable
class DrawingEngine(Engine, Protocol):
    """An engine that can make the noise itself, where it needs it: that costs less than handing it over."""

    def draw(self, state: State, last: Tokens, address: Address, count: int, sampling: Sampling) -> Tokens:
        """What `decode` writes with the noise of these addresses (`noise.gumbel`), times the temperature.

        Args:
            state: advanced in place over `last` and all new tokens but the final one.
            last: int64 ``[batch]``, the newest tokens, not yet fed.
            address: where the noise begins.
            count: characters for each stream.
            sampling: the settings.

        Returns:
            The new tokens, int64 ``[batch, count]``; the last column has not been fed.
        """
        ...


class Draw(NamedTuple):
    """How one text of a mixed batch goes on.

    Attributes:
        seed: key of its noise; any integer, taken modulo 2**64.
        stream: its stream >= 0, taken modulo 2**64.
        position: index of the next character, 0 to 2**64 - 1.
        sampling: how its characters are chosen.
    """

    seed: int
    stream: int
    position: int
    sampling: Sampling


@runtime_checkable
class MixedEngine(DrawingEngine, Protocol):
    """An engine that writes texts of different seeds, positions and settings side by side.

    `runtime.mixed.draw_each` does the same with any engine.
    """

    def draw_each(self, state: State, last: Tokens, draws: Sequence[Draw], count: int) -> Tokens:
        """What `draw` writes for each text alone.

        Args:
            state: advanced in place over `last` and all new tokens but the final one.
            last: int64 ``[batch]``, the newest tokens, not yet fed.
            draws: one for each text.
            count: characters for each text.

        Returns:
            The new tokens, int64 ``[batch, count]``; the last column has not been fed.
        """
        ...


@runtime_checkable
class PromptedEngine(MixedEngine, Protocol):
    """An engine that reads prompts in the same steps in which it writes other texts."""

    def write_each(
        self, state: State, last: Tokens, known: Sequence[Tokens], draws: Sequence[Draw], count: int
    ) -> Tokens:
        """What `draw_each` writes, each text after tokens that are known.

        Args:
            state: advanced in place over `last` and all following tokens but the final one.
            last: int64 ``[batch]``, not yet fed.
            known: of each text int64 ``[length]``, 0 to `count` tokens that follow `last`.
            draws: one for each text, of the first token after those.
            count: tokens for each text, the known ones included.

        Returns:
            The tokens, int64 ``[batch, count]``, known ones first; the last column has not been fed.
        """
        ...


def predictions(engine: Engine, tokens: Tokens, state: State = None) -> Floats:
    """The prediction after each token of known text, float32 ``[batch, length, vocab]``.

    Args:
        engine: any backend.
        tokens: int64 ``[batch, length]``.
        state: advanced in place; None begins with zeros.
    """
    logits = engine.feed(engine.zero_state(len(tokens)) if state is None else state, tokens, logits=True)
    assert logits is not None
    return logits


def largest_batch(engine: Engine, most: int) -> int:
    """How many texts an engine takes at once, at most `most`: a plan may be built for fewer, or for one."""
    for batch in range(most, 1, -1):
        with contextlib.suppress(UsageError):
            engine.zero_state(batch)
            return batch
    return 1
