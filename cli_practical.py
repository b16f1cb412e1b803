"""The `p2 practical` commands: the experiments of the report that p2 reproduces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .reports.terminal import console, needing

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the JSON and its figures. [default: artifacts/practical]"),
]


@app.callback()
def _root() -> None:
    """Reproduce the experiments of the practical: toy problem, gradients, generated text, one report."""


@app.command("baum-sweet")
def baum_sweet(
    quick: Annotated[
        bool, typer.Option("--quick", help="At most three minutes on two cores: one seed, fewer trainings.")
    ] = False,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Trainings of each kind; long sequences have one. [default: 3; with --quick 1]",
            show_default=False,
        ),
    ] = None,
    embedding: Annotated[int, typer.Option(help="Width of a symbol.")] = 10,
    hidden: Annotated[int, typer.Option(help="Width of the state.")] = 256,
    gain: Annotated[float, typer.Option(help="Factor of the initial weights.")] = 1.0,
    fan: Annotated[
        str, typer.Option(help="What the initial weights are scaled by: the numbers that go in or out.")
    ] = "out",
    updates: Annotated[
        int | None,
        typer.Option(help="At most, of one training. [default: 3000; with --quick 900]", show_default=False),
    ] = None,
    out: Out = None,
) -> None:
    """Train LSTM, GRU and RNN on the Baum-Sweet problem: convergence, balanced classes, long sequences.

    Finished trainings are kept: the same command goes on where it was stopped.
    """
    with needing("train"):
        from .reports.practical import baum_sweet as experiment
        from .reports.practical.document import FOLDER, read
        from .reports.practical.toy_settings import ToySettings

        settings = ToySettings.of(quick, seeds, embedding, hidden, gain, fan, updates)
        path = experiment.run(settings, out or FOLDER)
        experiment.show(read(path)["results"], console())
    print(f"document: {path}")


@app.command()
def gradients(
    magnitude: Annotated[int, typer.Option("--magnitude", "-T", help="T; a sequence has 4 T steps.")] = 10,
    hidden: Annotated[int, typer.Option(help="Width of the state.")] = 256,
    embedding: Annotated[int, typer.Option(help="Width of a symbol.")] = 10,
    lr: Annotated[float, typer.Option(help="Learning rate of the training.")] = 1e-3,
    updates: Annotated[int, typer.Option(help="At most, of one training.")] = 600,
    sequences: Annotated[int, typer.Option(help="Sequences that the norms are measured on.")] = 256,
    out: Out = None,
) -> None:
    """Measure how far the gradient reaches in RNN, LSTM and GRU; check the formulas of questions 1.1 and"
    " 1.2."""
    with needing("train"):
        from .reports.practical import gradients as experiment
        from .reports.practical.document import FOLDER, read

        settings = experiment.GradientSettings(
            magnitude=magnitude,
            hidden=hidden,
            embedding=embedding,
            lr=lr,
            updates=updates,
            sequences=sequences,
        )
        path = experiment.run(settings, out or FOLDER)
        for claim in read(path)["claims"]:
            print(f"{claim['where']}: {claim['verdict']}. {claim['measured']}")
    print(f"document: {path}")
