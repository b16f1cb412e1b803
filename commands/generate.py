"""The `p2 generate` command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..contract.errors import UsageError
from ..render.terminal import stdout_is_the_result
from .shared import Backend, EngineThreads


def generate(
    engine: Annotated[
        str,
        typer.Option(
            help="A .onnx or .plan file, or a checkpoint folder;"
            " a bare name is looked for here, then in artifacts/.",
            rich_help_panel="Engine",
        ),
    ] = "charlm.onnx",
    backend: Backend = None,
    threads: EngineThreads = None,
    prompt: Annotated[
        str,
        typer.Option(
            help="Text to continue; with none, the first character is random.", rich_help_panel="Prompt"
        ),
    ] = "",
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            help="Read the prompt from a file (- is standard input; its last line break is dropped).",
            rich_help_panel="Prompt",
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Continue every line of a UTF-8 file (- is standard input), an empty one from a random"
            " character; writes --jsonl.",
            rich_help_panel="Prompt",
        ),
    ] = None,
    on_unknown: Annotated[
        str,
        typer.Option(
            help="Prompt characters that the model does not know: error or skip.", rich_help_panel="Prompt"
        ),
    ] = "error",
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Divides the logits: below 1 is safer, above 1 wilder, 0 is --greedy."
            " Default 1. Excludes --tau.",
            rich_help_panel="Choice",
        ),
    ] = None,
    tau: Annotated[
        float | None,
        typer.Option(
            help="Multiplies the logits: tau 2 is temperature 0.5. Excludes --temperature.",
            rich_help_panel="Choice",
        ),
    ] = None,
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Always the most probable character.", rich_help_panel="Choice")
    ] = False,
    top_k: Annotated[
        int, typer.Option(help="Only the k most probable characters; 0 is off.", rich_help_panel="Choice")
    ] = 0,
    top_p: Annotated[
        float,
        typer.Option(
            help="Only the fewest characters that together reach probability p; 1 is off.",
            rich_help_panel="Choice",
        ),
    ] = 1.0,
    min_p: Annotated[
        float,
        typer.Option(
            help="Only characters at least this share as probable as the best; 0 is off.",
            rich_help_panel="Choice",
        ),
    ] = 0.0,
    seed: Annotated[
        int | None,
        typer.Option(
            help="The same seed writes the same text on every float engine; random if not given.",
            rich_help_panel="Choice",
        ),
    ] = None,
    length: Annotated[int, typer.Option(help="Characters to write.", rich_help_panel="Output")] = 500,
    stop: Annotated[
        list[str] | None,
        typer.Option(help="End before this text; can be given more than once.", rich_help_panel="Output"),
    ] = None,
    num_samples: Annotated[
        int,
        typer.Option(
            help="Texts to write for each prompt, each with its own noise.", rich_help_panel="Output"
        ),
    ] = 1,
    first_stream: Annotated[
        int,
        typer.Option(
            help="Noise stream of the first text; text T of a job, alone, has --first-stream T.",
            rich_help_panel="Output",
        ),
    ] = 0,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream/--no-stream",
            help="Show text as it is written; several samples always when done.",
            rich_help_panel="Output",
        ),
    ] = True,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Write one JSON object with settings and samples.", rich_help_panel="Output"
        ),
    ] = False,
    jsonl: Annotated[
        bool,
        typer.Option(
            "--jsonl",
            help="Write a line of JSON as soon as a text is done: prompt_index, sample, stream, seed,"
            " prompt, text, stopped.",
            rich_help_panel="Output",
        ),
    ] = False,
) -> None:
    """Write text with an engine."""
    stdout_is_the_result()
    if prompt and prompt_file:
        raise UsageError("give --prompt or --prompt-file, not both")
    if prompts is not None and (prompt or prompt_file or as_json):
        raise UsageError("--prompts writes JSON Lines: leave --prompt, --prompt-file and --json out")
    if jsonl and as_json:
        raise UsageError("give --json or --jsonl, not both")
    from .. import api
    from ..runtime import printing
    from ..runtime.prompts import read_prompt

    request = api.request(
        read_prompt(prompt_file) if prompt_file else prompt,
        length=length,
        seed=seed,
        num_samples=num_samples,
        first_stream=first_stream,
        temperature=temperature,
        tau=tau,
        greedy=greedy,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        stop=stop or (),
        on_unknown=on_unknown,
    )
    opened = api.load(engine, backend=backend, threads=threads).engine
    lines = jsonl or prompts is not None
    if on_unknown == "skip" and prompts is None:
        printing.say_skipped(opened, request.prompt)
    if seed is None and not (as_json or lines or request.sampling.greedy):
        print(f"seed {request.seed}", file=sys.stderr)
    if lines:
        printing.print_lines(opened, request, sys.stdout, prompts)
    elif as_json:
        printing.print_json(opened, request, sys.stdout)
    elif stream and num_samples == 1:
        printing.print_stream(opened, request, sys.stdout)
    else:
        printing.print_whole(opened, request, sys.stdout)
