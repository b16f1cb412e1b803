"""Show generated text: streamed, whole, or as JSON."""

from __future__ import annotations

import json
from typing import Any, TextIO

from ..spec.codec import Codec
from ..spec.engine import Engine
from .generate import Request, generate


def print_stream(engine: Engine, request: Request, out: TextIO) -> None:
    """Write the prompt, then the text as it comes, in constant memory; one sample."""
    Codec(engine.card.vocabulary).encode(request.prompt, request.on_unknown)  # refused before it is shown
    out.write(request.prompt)
    last = request.prompt[-1:]
    for (piece,) in generate(engine, request):
        if piece:
            out.write(piece)
            out.flush()
            last = piece[-1]
    if last != "\n":
        out.write("\n")
    out.flush()


def write_samples(engine: Engine, request: Request) -> list[str]:
    """All samples, whole, without the prompt."""
    pieces: list[list[str]] = [[] for _ in range(request.num_samples)]
    for row in generate(engine, request):
        for sample, piece in zip(pieces, row, strict=True):
            sample.append(piece)
    return ["".join(sample) for sample in pieces]


def print_whole(engine: Engine, request: Request, out: TextIO) -> None:
    """Write every sample whole, under a numbered rule if there is more than one."""
    for index, text in enumerate(write_samples(engine, request)):
        if request.num_samples > 1:
            out.write(f"{'' if index == 0 else chr(10)}--- sample {index + 1} of {request.num_samples} ---\n")
        whole = request.prompt + text
        out.write(whole if whole.endswith("\n") else whole + "\n")
    out.flush()


def print_json(engine: Engine, request: Request, out: TextIO) -> None:
    """Write one JSON object with the settings and all samples."""
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
        "samples": [{"stream": i, "text": text} for i, text in enumerate(write_samples(engine, request))],
    }
    # Escapes only: readable JSON on any terminal, whatever its encoding.
    json.dump(answer, out, indent=2)
    out.write("\n")
    out.flush()
