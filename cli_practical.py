"""The `p2 practical` commands: the experiments of the report that p2 reproduces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .reports.terminal import console, needing

FOLDER = Path("artifacts/practical")

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """Reproduce the experiments of the practical: toy problem, gradients, generated text, one report."""


@app.command()
def text(
    book: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="BOOK",
            help="Files, folders, patterns, or - for standard input; may be left out with --resume.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="A few minutes: hidden 192, 40,000 characters of the book."),
    ] = False,
    seed_scale: Annotated[
        bool,
        typer.Option(
            "--seed-scale",
            help="The report's size, for a GPU: embedding 2048, hidden 4096, 10,000 updates at a fixed"
            " learning rate of 0.001.",
        ),
    ] = False,
    hidden: Annotated[int | None, typer.Option(help="Width of each layer's state. [default: 384]")] = None,
    embedding: Annotated[int | None, typer.Option(help="Width of the embedding. [default: 192]")] = None,
    layers: Annotated[int | None, typer.Option(help="LSTM layers. [default: 2]")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates in all. [default: 6500]")] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's first learning rate. [default: 0.008]")] = None,
    lr_decay: Annotated[
        float | None,
        typer.Option(help="Factor on the learning rate per 1,000 updates, applied smoothly. [default: 0.62]"),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows per update. [default: 128]")] = None,
    characters: Annotated[
        int | None,
        typer.Option(
            help="Train on so many characters from the book's beginning; 0 is all. [default: 160,000]"
        ),
    ] = None,
    accuracies: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Running training accuracies at which texts are written. [default: 0.65,0.75,0.84]",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides weights, windows and samples. [default: 0]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Of the training: auto, cpu or cuda.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the training: float32, bfloat16 or auto. [default: auto]")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads of the training.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Encoding of the book. [default: UTF-8]")] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="What the greedy completions begin with. [default: the book's first words]"),
    ] = None,
    length: Annotated[int, typer.Option(help="Characters of a greedy text.")] = 2000,
    sample_length: Annotated[int, typer.Option(help="Characters of a sampled or completed text.")] = 1000,
    samples: Annotated[int, typer.Option(help="Texts for each tau, and prompts out of the book.")] = 64,
    backend: Annotated[
        str | None, typer.Option(help="What runs the exported engines, as for `p2 generate`.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where text.json, its pictures and report.html go.")] = FOLDER,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out; if it is done, write and analyse again."),
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
    }
    with needing("train"):
        from .reports.practical.text import options, run
        from .trainer.options import parse_accuracies

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
    print(f"report: {', '.join(map(str, files))}")


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="Where the experiments' documents are.")] = FOLDER,
) -> None:
    """One page of every experiment whose document is there: claims beside measurements, then the sections."""
    from .reports.practical import page

    print(f"report: {page.write(out)}")
