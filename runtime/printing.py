"""Show generated text: streamed, whole, as one JSON object, or as JSON Lines.

Every way takes constant memory: texts are written out in order, as soon as they are done.
"""

from __future__ import annotations

import json
import sys
import textwrap
from typing import Any, TextIO

from ..contract.codec import Codec
from ..contract.engine import Engine
from ..contract.errors import NotFinite
from .character_count import CharacterCount
from .generate import Request, generate
from .prompts import Prompts
from .streams import Text, write_texts


class Skipped:
    """Counts what ``--on-unknown skip`` leaves out of prompts, and says so on stderr."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._prompts = self._characters = self._touched = self._emptied = 0

    def add(self, prompt: str) -> None:
        """A prompt as it was given."""
        left = len(self._codec.encode(prompt, "skip"))
        self._prompts += 1
        self._characters += len(prompt) - left
        self._touched += left < len(prompt)
        self._emptied += bool(prompt) and not left

    def say(self) -> None:
        """One line, if anything was left out."""
        if not self._touched:
            return
        plural = "s" if self._characters > 1 else ""
        what = f"skipped {self._characters:,} character{plural} that the model does not know"
        if self._prompts > 1:
            what += f", in {self._touched:,} of {self._prompts:,} prompts"
        if self._emptied:
            which = f"{self._emptied:,} of them" if self._prompts > 1 else "the prompt"
            what += f"; nothing is left of {which}: a random character begins the text"
        print(f"p2: {what}", file=sys.stderr, flush=True)


def say_skipped(engine: Engine, prompt: str) -> None:
    """Say on stderr what the model does not know of a prompt."""
    skipped = Skipped(Codec(engine.card.vocabulary))
    skipped.add(prompt)
    skipped.say()


def print_stream(engine: Engine, request: Request, out: TextIO) -> None:
    """Write the prompt, then the text as it comes; one sample."""
    Codec(engine.card.vocabulary).encode(request.prompt, request.on_unknown)  # refused before it is shown
    out.write(request.prompt)
    last = request.prompt[-1:]
    for piece in generate(engine, request):
        if piece:
            out.write(piece)
            out.flush()
            last = piece[-1]
    if last != "\n":
        out.write("\n")
    out.flush()


def write_samples(engine: Engine, request: Request) -> list[str]:
    """All samples, whole, without the prompt."""
    return [text.text for text in write_texts(engine, request)]


def print_whole(engine: Engine, request: Request, out: TextIO) -> None:
    """Write every sample whole, under a numbered rule if there is more than one."""
    with CharacterCount(request.num_samples * request.length, out) as progress:
        for text in write_texts(engine, request, advance=progress.advance):
            if request.num_samples > 1:
                gap = "\n" if text.sample else ""
                out.write(f"{gap}--- sample {text.sample + 1} of {request.num_samples} ---\n")
            whole = text.prompt + text.text
            out.write(whole if whole.endswith("\n") else whole + "\n")
            out.flush()


def print_json(engine: Engine, request: Request, out: TextIO) -> None:
    """Write one JSON object with the settings and all samples.

    Escapes only: readable JSON on any terminal, whatever its encoding.
    """
    Codec(engine.card.vocabulary).encode(request.prompt, request.on_unknown)  # refused before half is written
    sampling = request.sampling
    answer: dict[str, Any] = {
        "engine": engine.name,
        "checkpoint_sha256": engine.card.checkpoint_sha256,
        "seed": request.seed,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "prompt": request.prompt,
        "samples": [],
    }
    problem: NotFinite | None = None
    with CharacterCount(request.num_samples * request.length, out) as progress:
        out.write(json.dumps(answer, indent=2).removesuffix("]\n}"))
        try:
            for text in write_texts(engine, request, advance=progress.advance):
                sample = json.dumps({"stream": text.stream, "text": text.text, **_error(text)}, indent=2)
                out.write(("," if text.sample else "") + "\n" + textwrap.indent(sample, " " * 4))
        except NotFinite as error:
            problem = error  # all samples are there
        out.write("\n  ]\n}\n")
    out.flush()
    if problem is not None:
        raise problem


def print_lines(engine: Engine, request: Request, out: TextIO, source: str | None = None) -> None:
    """Write JSON Lines: one object for each text, in the order of the prompts, then of the samples.

    The keys: ``prompt_index`` and ``sample``, both from 0; ``stream`` and ``seed``, which write the
    same text again; ``prompt``; ``text``, what follows the prompt; ``stopped``, whether a stop string
    ended it; ``error`` only where the model computed NaN. Escapes only, as in `print_json`.

    Args:
        engine: any backend.
        request: what to write.
        out: where to.
        source: a file with a prompt on each line, in place of the request's own; ``-`` is stdin.

    Raises:
        UnknownCharacter: a prompt holds a character that the model does not know.
        P2Error: the prompts cannot be read.
    """
    codec = Codec(engine.card.vocabulary)
    count: int | None = 1
    prompts = None if source is None else Prompts(source)
    if prompts is not None:
        count = prompts.check(codec, request.on_unknown)
    total = None if count is None else count * request.num_samples * request.length
    waits = prompts.waits if prompts else lambda: False
    skipped = Skipped(codec)
    with CharacterCount(total, out) as progress:
        for text in write_texts(engine, request, prompts, progress.advance, waits):
            if not text.sample:
                skipped.add(text.prompt)
            line = {
                "prompt_index": text.prompt_index,
                "sample": text.sample,
                "stream": text.stream,
                "seed": request.seed,
                "prompt": text.prompt,
                "text": text.text,
                "stopped": text.stopped,
                **_error(text),
            }
            out.write(json.dumps(line) + "\n")
            out.flush()
    if prompts is not None:
        skipped.say()


def _error(text: Text) -> dict[str, str]:
    return {"error": text.error} if text.error else {}
