"""The `p2 practical` commands: the experiments of the report that p2 reproduces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..practical.document import FOLDER
from ..render.terminal import console, needing, say
from .shared import Command, Device, Encoding, EncodingErrors, LearningRate, Precision, Threads

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

OUT_HELP = (
    "Folder of the JSON, its figures and report.html; those of an earlier run go into"
    " <experiment>.json.old-1, -2, ..."
)
Out = Annotated[Path, typer.Option("--out", "-o", help=OUT_HELP)]
SymbolWidth = Annotated[int, typer.Option(help="Width of a symbol.")]
StateWidth = Annotated[int, typer.Option(help="Width of the state.")]


@app.callback()
def _root() -> None:
    """Reproduce the experiments of the practical: toy problem, gradients, generated text, one report."""


@app.command("baum-sweet", cls=Command)
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
    embedding: SymbolWidth = 10,
    hidden: StateWidth = 256,
    gain: Annotated[float, typer.Option(help="Factor of the initial weights.")] = 1.0,
    fan: Annotated[
        str, typer.Option(help="What the initial weights are scaled by: the numbers that go in or out.")
    ] = "out",
    updates: Annotated[
        int | None,
        typer.Option(help="At most, of one training. [default: 3000; with --quick 900]", show_default=False),
    ] = None,
    out: Out = FOLDER,
) -> None:
    """Train LSTM, GRU and RNN on the Baum-Sweet problem: convergence, balanced classes, long sequences.

    Finished trainings are kept: the same command goes on where it was stopped.
    """
    with needing("train"):
        from ..practical import page
        from ..practical.document import read
        from ..practical.toy import experiment
        from ..practical.toy.settings import ToySettings

        settings = ToySettings.of(quick, seeds, embedding, hidden, gain, fan, updates)
        path = experiment.run(settings, out)
        experiment.show(read(path)["results"], console())
        report = page.write(out)
    say(f"report: {path}, {report}")


@app.command(cls=Command)
def gradients(
    magnitude: Annotated[int, typer.Option("--magnitude", "-T", help="T; a sequence has 4 T steps.")] = 10,
    hidden: StateWidth = 256,
    embedding: SymbolWidth = 10,
    lr: Annotated[float, typer.Option(help="Learning rate of the training.")] = 1e-3,
    updates: Annotated[int, typer.Option(help="At most, of one training.")] = 600,
    sequences: Annotated[int, typer.Option(help="Sequences that the norms are measured on.")] = 256,
    out: Out = FOLDER,
) -> None:
    """Measure how far the gradient reaches in RNN, LSTM and GRU; check the formulas of 1.1 and 1.2."""
    with needing("train"):
        from ..practical import page
        from ..practical.document import read
        from ..practical.gradients import experiment

        settings = experiment.GradientSettings(
            magnitude=magnitude,
            hidden=hidden,
            embedding=embedding,
            lr=lr,
            updates=updates,
            sequences=sequences,
        )
        path = experiment.run(settings, out)
        for claim in read(path)["claims"]:
            print(f"{claim['where']}: {claim['verdict']}. {claim['measured']}")
        report = page.write(out)
    say(f"report: {path}, {report}")


@app.command(cls=Command)
def text(
    book: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BOOK",
            help="Files, folders, patterns, or - for standard input; may be left out with --resume.",
            show_default=False,
        ),
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Width of each layer's state. [default: 384]", rich_help_panel="Model")
    ] = None,
    embedding: Annotated[
        int | None, typer.Option(help="Width of the embedding. [default: 192]", rich_help_panel="Model")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="LSTM layers. [default: 2]", rich_help_panel="Model")
    ] = None,
    characters: Annotated[
        int | None,
        typer.Option(
            help="Train on so many characters from the book's beginning; 0 is all. [default: 160,000]",
            rich_help_panel="Text",
        ),
    ] = None,
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    steps: Annotated[
        int | None, typer.Option(help="Updates in all. [default: 6500]", rich_help_panel="Learning")
    ] = None,
    lr: LearningRate = None,
    lr_decay: Annotated[
        float | None,
        typer.Option(
            help="Factor on the learning rate per 1,000 updates, applied smoothly. [default: 0.62]",
            rich_help_panel="Learning",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Windows per update. [default: 128]", rich_help_panel="Learning")
    ] = None,
    accuracies: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Running training accuracies at which texts are written. [default: 0.65,0.75,0.84]",
            rich_help_panel="Learning",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Decides weights, windows and samples. [default: 0]", rich_help_panel="Learning"),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(
            help="What the greedy completions begin with. [default: the book's first words]",
            rich_help_panel="Writing",
        ),
    ] = None,
    length: Annotated[
        int, typer.Option(help="Characters of a greedy text.", rich_help_panel="Writing")
    ] = 2000,
    sample_length: Annotated[
        int, typer.Option(help="Characters of a sampled or completed text.", rich_help_panel="Writing")
    ] = 1000,
    samples: Annotated[
        int, typer.Option(help="Texts for each tau, and prompts out of the book.", rich_help_panel="Writing")
    ] = 64,
    backend: Annotated[
        str | None,
        typer.Option(help="What runs the exported engines, as for `p2 generate`.", rich_help_panel="Writing"),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A few minutes: hidden 192, 40,000 characters of the book.", rich_help_panel="Run"
        ),
    ] = False,
    seed_scale: Annotated[
        bool,
        typer.Option(
            "--seed-scale",
            help="The report's size, for a GPU: embedding 2048, hidden 4096, 10,000 updates at a fixed"
            " learning rate of 0.001.",
            rich_help_panel="Run",
        ),
    ] = False,
    device: Device = None,
    precision: Precision = None,
    threads: Threads = None,
    out: Annotated[Path, typer.Option("--out", "-o", help=OUT_HELP, rich_help_panel="Run")] = FOLDER,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in --out; if it is done, write and analyse again.",
            rich_help_panel="Run",
        ),
    ] = False,
) -> None:
    """Over-fit a book, write from it at three accuracies through the exported engine, analyse the texts."""
    named: dict[str, object] = {
        "hidden": hidden,
        "embedding": embedding,
        "layers": layers,
        "steps": steps,
        "lr": lr,
        "lr_decay": lr_decay,
        "batch_size": batch_size,
        "seed": seed,
        "device": device,
        "precision": precision,
        "threads": threads,
        "encoding": encoding,
        "encoding_errors": encoding_errors,
    }
    with needing("train"):
        from ..practical.text import options, run
        from ..trainer.options import parse_accuracies

        if accuracies is not None:
            named["keep_at_accuracy"] = parse_accuracies(accuracies)
        asked = options.parse(
            {name: value for name, value in named.items() if value is not None},
            {
                "prompt": prompt,
                "length": length,
                "sample_length": sample_length,
                "samples": samples,
                "backend": backend,
            },
            quick=quick,
            seed_scale=seed_scale,
            characters=characters,
            folder=out,
            resume=resume,
        )
        files = run.run(asked, book or [], console())
    say(f"report: {', '.join(map(str, files))}")


@app.command(cls=Command)
def report(
    out: Out = FOLDER,
) -> None:
    """One page of every experiment whose document is there: claims beside measurements, then the sections.

    Claims are judged and figures drawn again from the documents' results, also of the folders inside.
    """
    with needing("train"):
        from ..practical import again, page

        for path in page.documents_in(out):
            again.renew(path)
        say(f"report: {page.write(out)}")
