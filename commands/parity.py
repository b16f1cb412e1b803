"""The `p2 parity` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..contract.errors import ToleranceExceeded
from ..render.terminal import console, say
from ..runtime.backends import backend_help
from .shared import RUN_FOLDER


def parity(
    engines: Annotated[
        list[str] | None,
        typer.Argument(help="Engine files; with none, every .onnx and .plan in the checkpoint's folder."),
    ] = None,
    checkpoint: Annotated[
        Path, typer.Option(help="The reference: a checkpoint, or a training run's folder.")
    ] = RUN_FOLDER,
    steps: Annotated[int, typer.Option(help="Teacher-forced recurrent steps.")] = 1000,
    characters: Annotated[int, typer.Option(help="Characters sampled at each of tau 0.5, 1 and 2.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the text and of the sampling.")] = 0,
    text: Annotated[
        Path | None, typer.Option(help="Read this UTF-8 text instead of one that the model writes.")
    ] = None,
    on_unknown: Annotated[
        str, typer.Option(help="Characters of --text that the model does not know: error or skip.")
    ] = "error",
    json_path: Annotated[
        Path | None,
        typer.Option("--json", help="The report; parity.json in the checkpoint's folder if not given."),
    ] = None,
    backend: Annotated[str | None, typer.Option(help=backend_help())] = None,
) -> None:
    """Prove that engines say the same as eager PyTorch; exit code 1 if one does not."""
    from .. import api

    outcome = api.parity(
        engines or (),
        checkpoint,
        steps=steps,
        characters=characters,
        seed=seed,
        text=text,
        json=json_path,
        backend=backend,
        on_unknown=on_unknown,
        quiet=False,
    )
    from ..parity.report import table

    console().print(table(outcome.results, outcome.skipped))
    for line in [*(f"not run: {reason}" for reason in outcome.skipped.values()), *outcome.notes]:
        say(line)
    if outcome.files:
        say(f"report: {', picture: '.join(map(str, outcome.files))}")
    failed = [f"{result.path}: {what}" for result in outcome.results for what in result.failures]
    if failed:
        raise ToleranceExceeded("out of tolerance: " + "; ".join(failed))
