"""The `p2 serve` command."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ..contract.errors import UsageError
from ..render.terminal import needing
from .shared import Backend, EngineThreads


def serve(
    engines: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]ENGINE...",
            help="What to serve: a .onnx or .plan file, or a checkpoint folder; charlm.onnx if none is given."
            " Clients know it by NAME, or the file's name without its ending.",
        ),
    ] = None,
    backend: Backend = None,
    threads: EngineThreads = None,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; 0.0.0.0 lets other machines in.", rich_help_panel="Connections"
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="0 takes a free one.", rich_help_panel="Connections")
    ] = 8000,
    api_key: Annotated[
        list[str] | None,
        typer.Option(
            help="Who calls must bear this key; can be given more than once, or in P2_API_KEYS with commas"
            " between them.",
            rich_help_panel="Connections",
        ),
    ] = None,
    cors: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN",
            help="Pages of this origin may call, * is any; can be given more than once.",
            rich_help_panel="Connections",
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Answer to this name, too, * is any; can be given more than once. A server that only this"
            " machine reaches answers to localhost and its address; others to any name if none is given.",
            rich_help_panel="Connections",
        ),
    ] = None,
    max_streams: Annotated[
        int, typer.Option(help="Texts written side by side, of each model.", rich_help_panel="Limits")
    ] = 256,
    queue: Annotated[
        int, typer.Option(help="Texts that may wait; one more gets 429.", rich_help_panel="Limits")
    ] = 1024,
    max_prompt: Annotated[
        int, typer.Option(help="Characters of a prompt.", rich_help_panel="Limits")
    ] = 65536,
    max_length: Annotated[
        int, typer.Option(help="Characters written for a prompt.", rich_help_panel="Limits")
    ] = 65536,
    grace: Annotated[
        float,
        typer.Option(
            help="Seconds in which running texts may finish after SIGTERM or Ctrl-C.",
            rich_help_panel="Limits",
        ),
    ] = 30.0,
    text: Annotated[
        list[Path] | None,
        typer.Option(
            help="The training text: the page marks what stands in it word for word; can be given more than"
            " once.",
            rich_help_panel="Page",
        ),
    ] = None,
) -> None:
    """Serve models over HTTP: OpenAI's completions, and a page to play with."""
    with needing("serve"):
        from ..serve import serving
        from ..serve.app import create_app
        from ..serve.hosts import is_loopback
        from ..serve.settings import Settings
        from ..serve.verbatim import Verbatim
    from .. import api

    named = _named(engines or ["charlm.onnx"])
    keys = [*(api_key or ()), *filter(None, os.environ.get("P2_API_KEYS", "").split(","))]
    settings = Settings(
        max_streams=max_streams,
        queue=queue,
        max_prompt=max_prompt,
        max_length=max_length,
        grace=grace,
        keys=tuple(keys),
        origins=tuple(cors or ()),
        hosts=tuple(allow_host or ()),
    )
    listening = serving.listen(host, port)
    with listening:
        if not settings.hosts and is_loopback(listening.getsockname()[0]):
            settings = replace(settings, hosts=("localhost",))
        source = Verbatim.of(text) if text else None
        models = {
            name: api.load(file, backend=backend, threads=threads).engine for name, file in named.items()
        }
        for name, engine in models.items():
            print(f"{name}: {engine.name}", file=sys.stderr)
        print(f"{serving.url(listening)} (Ctrl-C ends it)", file=sys.stderr, flush=True)
        serving.run(create_app(models, settings, source=source), listening)


def _named(given: list[str]) -> dict[str, str]:
    """Engines by the names that clients know them by.

    Raises:
        UsageError: two have the same.
    """
    found: dict[str, str] = {}
    for one in given:
        name, equals, file = one.partition("=")
        if not equals or not name:
            name, file = Path(one).name.removesuffix(".onnx").removesuffix(".plan"), one
        if name in found:
            raise UsageError(
                f"{found[name]} and {file} would both be called {name}: name one of them, as in other={file}"
            )
        found[name] = file
    return found
