"""The `p2 eval` command."""

from __future__ import annotations

from typing import Annotated

import typer

from ..render.terminal import console, say
from .shared import AsJson, Backend, Column, Encoding, EncodingErrors, EngineThreads


def eval_(
    engines: Annotated[
        list[str],
        typer.Argument(
            help="Checkpoint folders, .onnx or .plan files; the others are compared with the first.",
        ),
    ],
    text: Annotated[
        str,
        typer.Argument(help="A file, a folder, a pattern in quotes, or - for standard input."),
    ],
    window: Annotated[
        int | None,
        typer.Option(
            help="Begin at a zero state again after so many characters. [default: never]",
            rich_help_panel="Text",
        ),
    ] = None,
    on_unknown: Annotated[
        str,
        typer.Option(help="Characters that a model does not know: error or skip.", rich_help_panel="Text"),
    ] = "error",
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    column: Column = None,
    backend: Backend = None,
    threads: EngineThreads = None,
    as_json: AsJson = False,
) -> None:
    """Say how well engines predict a text: bits per character, and where they come from."""
    from .. import api

    found = api.evaluate(
        engines,
        text,
        window=window,
        on_unknown=on_unknown,
        encoding=encoding,
        encoding_errors=encoding_errors or "strict",
        column=column,
        backend=backend,
        threads=threads,
        quiet=False,
    )
    if as_json:
        import json

        print(json.dumps(found.to_dict(), indent=2))
        return
    from ..evaluation.report import tables

    for table in tables(found):
        console().print(table)
    for note in found.notes:
        say(note)
