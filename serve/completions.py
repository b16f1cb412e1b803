"""OpenAI's text completions: what a request may hold, what it means here, and the form of the answers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np

from ..contract.codec import Codec, Tokens, UnknownCharacter
from ..contract.errors import UsageError
from ..contract.sampling import Sampling
from ..contract.schema import Within, problem
from ..runtime.generate import random_seed, sampling_of
from .errors import ApiError
from .inbox import Inbox
from .settings import Settings
from .text import Piece, Scored, Text

MOST_PROMPTS = 2048
MOST_CHOICES = 128  # for each prompt
MOST_TOKEN = (1 << 21) - 1

_Token = Annotated[int, Within(0, MOST_TOKEN)]
_TokenList = Annotated[list[_Token], Within(1)]
_Stop = Annotated[str, Within(1, 256)]
_Positive = 1e-6


@dataclass(frozen=True)
class StreamOptions:
    """How a stream ends: with or without a chunk that counts."""

    include_usage: bool | None = None


@dataclass(frozen=True)
class Body:
    """The fields of a request; null is as good as not there.

    `tau`, `top_k`, `min_p`, `greedy` and `on_unknown` are p2's own. The last five are OpenAI's, and taken
    with the value that changes nothing.
    """

    model: str | None = None
    prompt: (
        str
        | Annotated[list[str], Within(1, MOST_PROMPTS)]
        | _TokenList
        | Annotated[list[_TokenList], Within(1, MOST_PROMPTS)]
        | None
    ) = None
    max_tokens: Annotated[int, Within(0, 1 << 30)] | None = None
    temperature: Annotated[float, Within(0, 1e6)] | None = None
    top_p: Annotated[float, Within(_Positive, 1)] | None = None
    n: Annotated[int, Within(1, MOST_CHOICES)] | None = None
    stop: _Stop | Annotated[list[_Stop], Within(0, 16)] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Within(0, 20)] | None = None
    user: Annotated[str, Within(0, 256)] | None = None
    tau: Annotated[float, Within(1e-6, 1e6)] | None = None
    top_k: Annotated[int, Within(0, 1 << 21)] | None = None
    min_p: Annotated[float, Within(0, 1 - _Positive)] | None = None
    greedy: bool | None = None
    on_unknown: Literal["error", "skip"] | None = None
    best_of: Annotated[int, Within(1, 1)] | None = None
    suffix: Annotated[str, Within(0, 0)] | None = None
    presence_penalty: Annotated[float, Within(0, 0)] | None = None
    frequency_penalty: Annotated[float, Within(0, 0)] | None = None
    logit_bias: Annotated[dict[str, Any], Within(0, 0)] | None = None


@dataclass(frozen=True)
class Verbatims:
    """A text of which is asked what stands in the training text."""

    text: str


NOT_SUPPORTED = ("best_of", "suffix", "presence_penalty", "frequency_penalty", "logit_bias")


def read_body(value: Any) -> Body:
    """The fields of a request.

    Raises:
        ApiError: 400, it is not as `Body` says.
    """
    found = problem(value, Body)
    if found.startswith("it "):
        found = f"the request{found[2:]}"
    if found:
        param = found.removeprefix("the length of ").split(" ")[0].split(".")[0].split("[")[0]
        if param in NOT_SUPPORTED:
            raise ApiError(400, f"{param} is not supported: leave it out", param=param)
        raise ApiError(400, found, param=param if param in Body.__dataclass_fields__ else None)
    options = value.get("stream_options")
    return Body(**value | {"stream_options": None if options is None else StreamOptions(**options)})


@dataclass(frozen=True)
class Order:
    """What a request means.

    Attributes:
        model: name of the model.
        texts: prompt by prompt, `n` for each: number t has stream t of the noise, as in ``p2 generate``.
        prompt_characters: of all prompts, each counted once.
        seed: the one given, or drawn.
        stream, usage: whether the answer is a stream, and whether that ends with the counts.
    """

    model: str
    texts: list[Text]
    prompt_characters: int
    seed: int
    stream: bool
    usage: bool
    created: int = field(default_factory=lambda: int(time.time()))


def order(body: Body, model: str, codec: Codec, settings: Settings, inbox: Inbox) -> Order:
    """What a request means, to one model.

    Raises:
        ApiError: 400, a value cannot be meant; the sentence says which.
    """
    length = 16 if body.max_tokens is None else body.max_tokens
    if length > settings.max_length:
        raise ApiError(
            400, f"max_tokens must be at most {settings.max_length} here, not {length}", param="max_tokens"
        )
    if body.stream_options is not None and not body.stream:
        raise ApiError(400, "stream_options is for streams only", param="stream_options")
    prompts = _prompts(body, codec, settings)
    count = body.n or 1
    texts, most = len(prompts) * count, settings.max_streams + settings.queue
    if texts > most:
        raise ApiError(
            400,
            f"one request asks for at most {most} texts here, not {texts}",
            param="prompt" if count == 1 else "n",
        )
    seed = random_seed() if body.seed is None else body.seed
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    sampling = _sampling(body)
    return Order(
        model=model,
        texts=[
            Text(
                prompt=tokens,
                length=length,
                seed=seed,
                stream=number,
                sampling=sampling,
                stop=stop,
                scores=body.logprobs,
                echo=bool(body.echo),
                index=number,
                inbox=inbox,
            )
            for number, tokens in enumerate(tokens for tokens in prompts for _ in range(count))
        ],
        prompt_characters=sum(map(len, prompts)),
        seed=seed,
        stream=bool(body.stream),
        usage=bool(body.stream_options and body.stream_options.include_usage),
    )


def _sampling(body: Body) -> Sampling:
    try:
        return sampling_of(
            body.temperature,
            body.tau,
            bool(body.greedy),
            body.top_k or 0,
            1.0 if body.top_p is None else body.top_p,
            body.min_p or 0.0,
        )
    except UsageError as error:
        if sum((body.temperature is not None, body.tau is not None, bool(body.greedy))) > 1:
            raise ApiError(
                400, "give one of temperature, tau, greedy: tau is 1 / temperature, greedy is temperature 0"
            ) from error
        raise ApiError(400, str(error)) from error


def _prompts(body: Body, codec: Codec, settings: Settings) -> list[Tokens]:
    given: Any = "" if body.prompt is None else body.prompt
    several = isinstance(given, list) and not isinstance(given[0], int)
    prompts = given if several else [given]
    return [
        _prompt(
            one,
            codec,
            body.on_unknown or "error",
            settings.max_prompt,
            f"prompt[{at}]" if several else "prompt",
        )
        for at, one in enumerate(prompts)
    ]


def _prompt(given: str | Sequence[int], codec: Codec, on_unknown: str, most: int, where: str) -> Tokens:
    """Tokens of a prompt, int64 ``[length]``."""
    if len(given) > most:
        raise ApiError(
            400,
            f"{where} may have at most {most} characters here, and has {len(given)}",
            param="prompt",
            code="context_length_exceeded",
        )
    if isinstance(given, str):
        try:
            return codec.encode(given, on_unknown)
        except UnknownCharacter as error:
            said = str(error).split(" (--on-unknown")[0]
            raise ApiError(
                400, f'{where}: {said} (on_unknown "skip" leaves such characters out)', param="prompt"
            ) from error
    tokens = np.array(given, np.int64)
    unknown = np.flatnonzero(tokens >= len(codec.vocabulary))
    if len(unknown):
        at = int(unknown[0])
        raise ApiError(
            400,
            f"{where}: the token {given[at]} at position {at} is none of the model's, which are"
            f" 0 to {len(codec.vocabulary) - 1}",
            param="prompt",
        )
    return tokens


@dataclass
class Choice:
    """What has come of one text so far."""

    text: Text
    shown: list[str] = field(default_factory=list)
    scores: list[Scored] = field(default_factory=list)
    end: str | None = None
    flushed: int = 0  # characters
    written: int = 0  # characters, without the prompt where it is echoed

    def __post_init__(self) -> None:
        if self.text.echo:
            self.written = -len(self.text.prompt)

    def add(self, piece: Piece) -> None:
        """Take one more piece."""
        self.shown.append(piece.shown)
        self.scores += piece.scores
        self.end = piece.end or None
        self.written += len(piece.shown)

    def flush(self) -> dict[str, Any]:
        """The form of what has been added since the last time."""
        shown, scores = "".join(self.shown), self.scores
        # Offsets count from the beginning of the prompt, whether it is echoed or not.
        start = self.flushed + (0 if self.text.echo else len(self.text.prompt))
        self.shown, self.scores = [], []
        self.flushed += len(shown)
        logprobs = None
        if self.text.scores is not None:
            logprobs = {
                "tokens": [one.character for one in scores],
                "token_logprobs": [one.logprob for one in scores],
                "top_logprobs": [one.tops for one in scores],
                "text_offset": list(range(start, start + len(scores))),
            }
        return {"text": shown, "index": self.text.index, "finish_reason": self.end, "logprobs": logprobs}


def answer(order: Order, identity: str, choices: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The completion object, or a chunk of a stream, which has the same form."""
    return {
        "id": f"cmpl-{identity}",
        "object": "text_completion",
        "created": order.created,
        "model": order.model,
        "seed": order.seed,
        "choices": list(choices),
        **more,
    }


def usage(order: Order, written: int) -> dict[str, int]:
    """The counts: a token is a character."""
    return {
        "prompt_tokens": order.prompt_characters,
        "completion_tokens": written,
        "total_tokens": order.prompt_characters + written,
    }
