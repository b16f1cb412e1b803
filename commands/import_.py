"""The `p2 import` command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..render.terminal import console, needing, say, titled


def import_(
    source: Annotated[
        Path, typer.Argument(help="PyTorch state_dict (.pt, .safetensors), .onnx, .keras or .h5.")
    ],
    vocab: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The characters in the model's order: .json (a list, or an object from characters to numbers"
            " or back), or a text of them.",
            rich_help_panel="Vocabulary",
        ),
    ] = None,
    vocab_from: Annotated[
        Path | None,
        typer.Option(
            metavar="TEXT",
            help="The training text, where the order is that of its sorted characters.",
            rich_help_panel="Vocabulary",
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON: which tensor is what, for names that are not torch.nn's.",
            rich_help_panel="Tensors",
        ),
    ] = None,
    print_mapping: Annotated[
        bool,
        typer.Option(
            "--print-mapping",
            help="Write the first draft of a --mapping, and nothing else.",
            rich_help_panel="Tensors",
        ),
    ] = False,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The checkpoint: a new folder.", rich_help_panel="Result"),
    ] = Path("artifacts/imported"),
) -> None:
    """Make a checkpoint of a model trained elsewhere, and prove that it says the same."""
    if print_mapping:
        with needing("train"):
            from ..importing.draft import draft

            print(json.dumps(draft(source), indent=2))
        return
    from .. import api
    from ..contract.shell import command, printable

    made = api.import_model(source, out=out, vocab=vocab, vocab_from=vocab_from, mapping=mapping)
    table = titled(printable(f"{source} -> {made.folder}"), ("tensor", "shape", "here"), words=3)
    for row in made.rows:
        table.add_row(*map(printable, (row.name, " x ".join(map(str, row.shape)), row.role)))
    console().print(table, markup=False)
    for note in made.notes:
        say(note)
    say(f"the largest difference from {made.judge} over {made.steps} steps: {made.difference:.3g}")
    print(f"next: {command('p2', 'export', made.folder)}")
