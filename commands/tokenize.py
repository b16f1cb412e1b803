"""The `p2 tokenize` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..render.terminal import say
from .shared import Column, Encoding, EncodingErrors


def tokenize(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXT", help="Files, folders, patterns, or - for standard input, as p2 train."
        ),
    ],
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    column: Column = None,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The token file.", rich_help_panel="Result"),
    ] = Path("artifacts/text.tokens"),
) -> None:
    """Make a text of any size a file that p2 train maps into memory."""
    from .. import api
    from ..contract.shell import command

    made = api.tokenize(
        texts,
        out,
        encoding=encoding,
        encoding_errors=encoding_errors or "strict",
        column=column,
        quiet=False,
    )
    for note in made.notes:
        say(note)
    say(made.describe())
    print(f"next: {command('p2', 'train', made.path)}")
