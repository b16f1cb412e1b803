"""The `p2 inspect` command."""

from __future__ import annotations

from typing import Annotated

import typer

from ..render.terminal import console
from .shared import AsJson


def inspect(
    file: Annotated[str, typer.Argument(help="A checkpoint folder, a .onnx or a .plan.")] = "charlm.onnx",
    layers: Annotated[
        bool, typer.Option("--layers", help="Of a .plan: what the GPU runs for one step, by the build log.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a file holds: card, parameters, bytes a step reads, layers, plan header."""
    from . import inspection

    found = inspection.describe(file)
    if as_json:
        import json

        print(json.dumps(found, indent=2))
    else:
        inspection.show(found, console(), kernels=layers)
