"""A loaded model as Python has it: write, score, keep a state. `p2.load` gives one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.agreement import log_softmax
from ..contract.card import Card
from ..contract.codec import Codec
from ..contract.engine import Engine, predictions
from ..contract.errors import UsageError
from ..contract.sampling import Sampling
from .decoder import Decoder
from .generate import Request, generate, random_seed, sampling_of
from .streams import Text, write_texts

# Characters read at a time where predictions are kept: 32 MiB of logits for a vocabulary of 2,000.
_PIECE = 4096


def request(
    prompt: str = "",
    *,
    length: int = 500,
    seed: int | None = None,
    num_samples: int = 1,
    first_stream: int = 0,
    temperature: float | None = None,
    tau: float | None = None,
    greedy: bool = False,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    stop: Iterable[str] = (),
    on_unknown: str = "error",
) -> Request:
    """What to write, in the words of ``p2 generate``'s options.

    Args:
        prompt: text to continue; empty starts from a random character.
        length: characters to write.
        seed: the same seed writes the same text; None draws one.
        num_samples: texts for each prompt, each with noise of its own.
        first_stream: noise stream of the first text.
        temperature: divides the logits; at most one of this, `tau` and `greedy` may be given.
        tau: multiplies the logits.
        greedy: always the most probable character.
        top_k: only the k most probable characters; 0 is off.
        top_p: only the fewest characters that together reach this probability; 1 is off.
        min_p: only characters at least this share as probable as the best; 0 is off.
        stop: the text ends before the first of these.
        on_unknown: ``error`` or ``skip`` characters of the prompt that the model does not know.

    Raises:
        UsageError: a value is out of its range.
    """
    return Request(
        prompt=prompt,
        length=length,
        seed=random_seed() if seed is None else seed,
        num_samples=num_samples,
        first_stream=first_stream,
        sampling=sampling_of(temperature, tau, greedy, top_k, top_p, min_p),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        on_unknown=on_unknown,
    )


class Model:
    """A loaded model. It may be used as a context manager, which closes it.

    Attributes:
        engine: the backend behind it (`contract.engine.Engine`).
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._codec = Codec(engine.card.vocabulary)

    @property
    def card(self) -> Card:
        """What the model is: cell, sizes, vocabulary, precision, hashes."""
        return self.engine.card

    def __repr__(self) -> str:
        card = self.card
        sizes = f"{card.cell} {card.layers} x {card.hidden}, {card.vocab} characters"
        return f"<p2.Model {sizes}, {self.engine.name}>"

    def generate(self, prompt: str = "", **settings: Any) -> str:
        """The text that follows `prompt` (without it); settings as `request` takes them, for one text."""
        return "".join(self.stream(prompt, **settings))

    def stream(self, prompt: str = "", **settings: Any) -> Iterator[str]:
        """The same piece by piece, as it is written, in constant memory."""
        wanted = request(prompt, **settings)
        if wanted.num_samples != 1:
            raise UsageError("generate and stream write one text: texts() writes several")
        return (piece for piece in generate(self.engine, wanted) if piece)

    def texts(self, prompts: Iterable[str] = ("",), **settings: Any) -> Iterator[Text]:
        """``num_samples`` texts for every prompt, in order, each as soon as its group is done.

        Prompts are read as they are needed; each `Text` has `prompt_index`, `sample`, `stream`, `prompt`,
        `text` and `stopped`, and does not depend on the texts beside it.
        """
        if isinstance(prompts, str):
            raise UsageError("texts() takes a list of prompts; for one prompt there is generate()")
        return write_texts(self.engine, request(**settings), prompts)

    def logprobs(self, text: str, *, on_unknown: str = "error") -> npt.NDArray[np.float32]:
        """Natural logarithms of the probability of each character but the first, float32 ``[length - 1]``.

        Number i is that of ``text[i + 1]`` after ``text[: i + 1]``, from a zero state.

        Raises:
            UnknownCharacter: the text holds a character that the model does not know.
        """
        tokens = self._codec.encode(text, on_unknown)
        found = [np.zeros(0, np.float32)]
        state = self.engine.zero_state(1)
        for start in range(0, len(tokens) - 1, _PIECE):
            piece = tokens[start : start + _PIECE + 1]
            logits = predictions(self.engine, piece[None, :-1], state)
            known = log_softmax(logits[0])[np.arange(len(piece) - 1), piece[1:]]
            found.append(known.astype(np.float32))
        return np.concatenate(found)

    def bits_per_character(self, text: str, *, on_unknown: str = "error") -> float:
        """The mean of ``-log2 p`` over all characters but the first.

        Raises:
            UsageError: there are fewer than two characters.
            UnknownCharacter: the text holds a character that the model does not know.
        """
        found = self.logprobs(text, on_unknown=on_unknown)
        if not len(found):
            raise UsageError("bits per character need a text of two characters or more")
        return float(-found.mean(dtype=np.float64) / np.log(2))

    def state(self, text: str = "", *, seed: int = 0, stream: int = 0, **sampling: Any) -> State:
        """A text in progress, after reading `text`; sampling settings as `request` takes them."""
        wanted = request(seed=seed, first_stream=stream, **sampling)
        made = State(self.engine, self._codec, wanted.sampling, wanted.seed, wanted.first_stream)
        if text:
            made.read(text)
        return made

    def close(self) -> None:
        """Give back what the engine holds."""
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class State:
    """A text in progress: it reads, predicts, writes, and can be taken up again elsewhere.

    What it writes does not depend on how the writing is cut into calls.
    """

    def __init__(self, engine: Engine, codec: Codec, sampling: Sampling, seed: int, stream: int) -> None:
        self._codec = codec
        self._decoder = Decoder(engine, sampling, seed, [stream])

    def read(self, text: str, *, on_unknown: str = "error") -> None:
        """Read known text.

        Raises:
            UnknownCharacter: the text holds a character that the model does not know.
        """
        tokens = self._codec.encode(text, on_unknown)
        if len(tokens):
            self._decoder.prompt(tokens[None])

    def write(self, length: int) -> str:
        """The next `length` characters."""
        return self._codec.decode(self._decoder.write(length)[0])

    def logprobs(self) -> npt.NDArray[np.float32]:
        """Natural logarithms of the next character's probabilities, float32 ``[vocab]``; nothing is advanced.

        Raises:
            UsageError: nothing has been read or written yet.
        """
        return log_softmax(self._decoder.predict()[0]).astype(np.float32)

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on from here: plain numpy arrays, that any backend of the model takes."""
        return self._decoder.snapshot()

    def restore(self, snapshot: Mapping[str, Any]) -> State:
        """Go on from a snapshot, with this one's seed and settings; returns itself.

        Raises:
            P2Error: the snapshot is not of a model of this shape.
        """
        self._decoder.restore(dict(snapshot))
        return self
