"""The `p2 train` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..render.terminal import say
from ..trainer.presets import about as about_presets
from .shared import Column, Device, Encoding, EncodingErrors, LearningRate, Precision, Threads


def train(
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT",
            help="Files, folders, patterns, or - for standard input; with none, the documentation inside"
            " Python (about 465,000 characters).",
            show_default=False,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help=f"Defaults for a purpose; options that are named win. {about_presets()} [default: demo]",
            rich_help_panel="Preset",
        ),
    ] = None,
    cell: Annotated[
        str | None, typer.Option(help="rnn, lstm or gru. [default: lstm]", rich_help_panel="Model")
    ] = None,
    gru_reset: Annotated[
        str | None,
        typer.Option(
            help="A GRU's reset acts after or before the recurrent product. [default: after]",
            rich_help_panel="Model",
        ),
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="Recurrent layers. [default: 2]", rich_help_panel="Model")
    ] = None,
    embedding: Annotated[
        int | None, typer.Option(help="Width of the embedding. [default: 64]", rich_help_panel="Model")
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Width of each layer's state. [default: 256]", rich_help_panel="Model")
    ] = None,
    tied: Annotated[
        bool,
        typer.Option(
            "--tied",
            help="One matrix for the embedding and the output layer; --embedding must be --hidden.",
            rich_help_panel="Model",
        ),
    ] = False,
    encoding: Encoding = None,
    encoding_errors: EncodingErrors = None,
    column: Column = None,
    vocab_from: Annotated[
        Path | None,
        typer.Option(
            help="Let the model know the characters of this text or checkpoint too, to be tuned on it later.",
            rich_help_panel="Text",
        ),
    ] = None,
    on_unknown: Annotated[
        str | None,
        typer.Option(
            help="Characters that the checkpoint of --init-from does not know: error, or skip leaves them"
            " out. [default: error]",
            rich_help_panel="Text",
        ),
    ] = None,
    val_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of the text's tail held out; 0 is none. [default: 0.1]", rich_help_panel="Text"
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Updates in all. [default: 1000]", rich_help_panel="Learning")
    ] = None,
    lr: LearningRate = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Windows computed at once. [default: 64]", rich_help_panel="Learning")
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(
            help="Batches per update: as one larger batch, in the memory of one. [default: 1]",
            rich_help_panel="Learning",
        ),
    ] = None,
    seq_len: Annotated[
        int | None, typer.Option(help="Characters per window. [default: 64]", rich_help_panel="Learning")
    ] = None,
    stateful: Annotated[
        bool,
        typer.Option(
            "--stateful", help="Carry the state across consecutive windows.", rich_help_panel="Learning"
        ),
    ] = False,
    clip: Annotated[
        float | None,
        typer.Option(
            help="Largest gradient norm; 0 does not clip. [default: 1.0]", rich_help_panel="Learning"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            help="Decides initial weights, windows and what is dropped. [default: 0]",
            rich_help_panel="Learning",
        ),
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(
            help="The learning rate falls smoothly (exponential), along half a cosine to the last update, in"
            " steps, or at every validation that is not the best (plateau). [default: exponential]",
            rich_help_panel="Schedule",
        ),
    ] = None,
    lr_decay: Annotated[
        float | None,
        typer.Option(
            help="Factor on the learning rate: each time, or over the whole cosine. [default: 0.1]",
            rich_help_panel="Schedule",
        ),
    ] = None,
    decay_every: Annotated[
        int | None,
        typer.Option(
            help="Updates for that factor, exponential and step. [default: 1000]",
            rich_help_panel="Schedule",
        ),
    ] = None,
    warmup: Annotated[
        int | None,
        typer.Option(
            help="Updates in which the learning rate first rises; 0 is none. [default: 0]",
            rich_help_panel="Schedule",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            help="End after so many validations in a row without a better one; 0 never. [default: 0]",
            rich_help_panel="Schedule",
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            help="Share of outputs dropped between layers. [default: 0.0]", rich_help_panel="Regularisation"
        ),
    ] = None,
    output_dropout: Annotated[
        float | None,
        typer.Option(
            help="The same before the output layer. [default: 0.0]", rich_help_panel="Regularisation"
        ),
    ] = None,
    embedding_dropout: Annotated[
        float | None,
        typer.Option(
            help="Share of the characters dropped, whole, in each window. [default: 0.0]",
            rich_help_panel="Regularisation",
        ),
    ] = None,
    recurrent_dropout: Annotated[
        float | None,
        typer.Option(
            help="Share of the state dropped, the same in a whole window; slow. [default: 0.0]",
            rich_help_panel="Regularisation",
        ),
    ] = None,
    weight_drop: Annotated[
        float | None,
        typer.Option(
            help="Share of the recurrent weights dropped, others in every batch. [default: 0.0]",
            rich_help_panel="Regularisation",
        ),
    ] = None,
    variational: Annotated[
        bool,
        typer.Option(
            "--variational",
            help="Let --dropout and --output-dropout drop the same units in a whole window.",
            rich_help_panel="Regularisation",
        ),
    ] = False,
    weight_decay: Annotated[
        float | None,
        typer.Option(
            help="AdamW's; neither biases nor the embedding decay. [default: 0.0]",
            rich_help_panel="Regularisation",
        ),
    ] = None,
    ema: Annotated[
        float | None,
        typer.Option(
            help="Validate and keep a moving average of the weights with this decay, such as 0.999; 0 is off."
            " [default: 0.0]",
            rich_help_panel="Regularisation",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The run folder; a run that is there moves to <folder>.old-1, -2, ... once the new one has a"
            " checkpoint. [default: artifacts/charlm]",
            rich_help_panel="Run",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in --out exactly as if it had not stopped; --steps may be raised.",
            rich_help_panel="Run",
        ),
    ] = False,
    init_from: Annotated[
        Path | None,
        typer.Option(
            help="Start from the weights and the vocabulary of this checkpoint.", rich_help_panel="Run"
        ),
    ] = None,
    val_every: Annotated[
        int | None,
        typer.Option(help="Updates between two validations. [default: 200]", rich_help_panel="Run"),
    ] = None,
    keep_at_accuracy: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Keep a checkpoint when the running training accuracy first reaches each, e.g. 0.65,0.75.",
            rich_help_panel="Run",
        ),
    ] = None,
    device: Device = None,
    precision: Precision = None,
    threads: Threads = None,
) -> None:
    """Train a character model on a text; Ctrl-C saves, --resume goes on."""
    from .. import api
    from ..trainer.ranks import launched

    result = api.train(
        texts or (),
        resume=resume,
        quiet=False,
        preset=preset,
        cell=cell,
        gru_reset=gru_reset,
        layers=layers,
        embedding=embedding,
        hidden=hidden,
        tied=tied or None,
        encoding=encoding,
        encoding_errors=encoding_errors,
        column=column,
        vocab_from=vocab_from,
        on_unknown=on_unknown,
        val_fraction=val_fraction,
        steps=steps,
        lr=lr,
        batch_size=batch_size,
        accumulate=accumulate,
        seq_len=seq_len,
        stateful=stateful or None,
        clip=clip,
        seed=seed,
        schedule=schedule,
        lr_decay=lr_decay,
        decay_every=decay_every,
        warmup=warmup,
        patience=patience,
        dropout=dropout,
        output_dropout=output_dropout,
        embedding_dropout=embedding_dropout,
        recurrent_dropout=recurrent_dropout,
        weight_drop=weight_drop,
        variational=variational or None,
        weight_decay=weight_decay,
        ema=ema,
        out=out,
        init_from=init_from,
        val_every=val_every,
        keep_at_accuracy=keep_at_accuracy,
        device=device,
        precision=precision,
        threads=threads,
    )
    if launched()[0]:
        return  # the first process says it
    for line in result.summary():
        say(line)
    if result.interrupted:
        raise typer.Exit(130)
