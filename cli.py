"""The `p2` command: one thin function per task. Each reads its options, calls one thing, prints.

Heavy libraries are imported inside the functions that need them, so that `p2 --help` and the
first character of `p2 generate` come at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .commands import bench as cli_bench
from .commands import export as cli_export
from .commands import gpu_check as cli_gpu
from .commands import practical as cli_practical
from .commands.export import DEFAULT_RUN
from .commands.practical import EncodingErrors
from .contract.errors import P2Error, ToleranceExceeded, UsageError
from .contract.shell import printable
from .render.terminal import (
    OutputLost,
    console,
    flush_stdout,
    needing,
    prepare_streams,
    refuse_empty,
    say,
    stdout_is_the_result,
)
from .runtime.backends import backend_help
from .version import __version__

Backend = Annotated[
    str | None,
    typer.Option(help=backend_help()),
]

app = typer.Typer(
    name="p2",
    help="Train recurrent character models, deploy them to ONNX Runtime and TensorRT, sample in the engine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: it is ready in half the time
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"p2 {__version__}")
        raise typer.Exit()


@app.callback()
def _root(
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Train recurrent character models, deploy them, sample in the engine."""


@app.command()
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
    cell: Annotated[str | None, typer.Option(help="rnn, lstm or gru. [default: lstm]")] = None,
    gru_reset: Annotated[
        str | None,
        typer.Option(help="A GRU's reset acts after or before the recurrent product. [default: after]"),
    ] = None,
    layers: Annotated[int | None, typer.Option(help="Recurrent layers. [default: 2]")] = None,
    embedding: Annotated[int | None, typer.Option(help="Width of the embedding. [default: 64]")] = None,
    hidden: Annotated[int | None, typer.Option(help="Width of each layer's state. [default: 256]")] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Share of outputs dropped between layers. [default: 0.0]")
    ] = None,
    seq_len: Annotated[int | None, typer.Option(help="Characters per window. [default: 64]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows per update. [default: 64]")] = None,
    lr: Annotated[float | None, typer.Option(help="Adam's first learning rate. [default: 0.008]")] = None,
    lr_decay: Annotated[
        float | None,
        typer.Option(help="Factor on the learning rate per 1,000 updates, applied smoothly. [default: 0.1]"),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Updates in all. [default: 1000]")] = None,
    clip: Annotated[
        float | None, typer.Option(help="Largest gradient norm; 0 does not clip. [default: 1.0]")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Decides initial weights, windows and dropout. [default: 0]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto (a GPU if there is one), cpu or cuda. [default: auto]")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="float32, bfloat16 (mixed), or auto: bfloat16 where it is native. [default: auto]"),
    ] = None,
    val_fraction: Annotated[
        float | None, typer.Option(help="Share of the text's tail held out; 0 is none. [default: 0.1]")
    ] = None,
    val_every: Annotated[
        int | None, typer.Option(help="Updates between two validations. [default: 200]")
    ] = None,
    keep_at_accuracy: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="Keep a checkpoint when the running training accuracy first reaches each, e.g. 0.65,0.75.",
        ),
    ] = None,
    stateful: Annotated[
        bool, typer.Option("--stateful", help="Carry the state across consecutive windows.")
    ] = False,
    encoding: Annotated[str | None, typer.Option(help="Encoding of the texts. [default: UTF-8]")] = None,
    encoding_errors: EncodingErrors = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: PyTorch's choice]")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The run folder; a run that is there moves to <folder>.old-1, -2, ... once the new one has a"
            " checkpoint. [default: artifacts/charlm]"
        ),
    ] = None,
    init_from: Annotated[
        Path | None, typer.Option(help="Start from the weights and the vocabulary of this checkpoint.")
    ] = None,
    vocab_from: Annotated[
        Path | None,
        typer.Option(
            help="Let the model know the characters of this text or checkpoint too, to be tuned on it later."
        ),
    ] = None,
    on_unknown: Annotated[
        str | None,
        typer.Option(
            help="Characters that the checkpoint of --init-from does not know: error, or skip leaves them"
            " out. [default: error]"
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in --out exactly as if it had not stopped; --steps may be raised.",
        ),
    ] = False,
) -> None:
    """Train a character model on a text; Ctrl-C saves, --resume goes on."""
    from .trainer.options import parse_accuracies

    named = {
        "cell": cell,
        "gru_reset": gru_reset,
        "layers": layers,
        "embedding": embedding,
        "hidden": hidden,
        "dropout": dropout,
        "seq_len": seq_len,
        "batch_size": batch_size,
        "lr": lr,
        "lr_decay": lr_decay,
        "steps": steps,
        "clip": clip,
        "seed": seed,
        "device": device,
        "precision": precision,
        "val_fraction": val_fraction,
        "val_every": val_every,
        "keep_at_accuracy": None if keep_at_accuracy is None else parse_accuracies(keep_at_accuracy),
        "stateful": stateful or None,
        "encoding": encoding,
        "encoding_errors": encoding_errors,
        "threads": threads,
        "out": out,
        "init_from": init_from,
        "vocab_from": vocab_from,
        "on_unknown": on_unknown,
    }
    given = {name: value for name, value in named.items() if value is not None}
    with needing("train"):
        from .trainer import display, loop

        result = (loop.resume if resume else loop.begin)(given, texts or [], display.for_stdout())
    for line in result.summary():
        say(line)
    if result.interrupted:
        raise typer.Exit(130)


app.command()(cli_export.export)


@app.command()
def generate(
    engine: Annotated[
        str,
        typer.Option(
            help="A .onnx or .plan file, or a checkpoint folder;"
            " a bare name is looked for here, then in artifacts/."
        ),
    ] = "charlm.onnx",
    prompt: Annotated[
        str, typer.Option(help="Text to continue; with none, the first character is random.")
    ] = "",
    prompt_file: Annotated[
        Path | None,
        typer.Option(
            help="Read the prompt from a file (- is standard input; its last line break is dropped)."
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Continue every line of a UTF-8 file (- is standard input), an empty one from a random"
            " character; writes --jsonl.",
        ),
    ] = None,
    length: Annotated[int, typer.Option(help="Characters to write.")] = 500,
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed writes the same text on every float engine; random if not given."),
    ] = None,
    num_samples: Annotated[
        int, typer.Option(help="Texts to write for each prompt, each with its own noise.")
    ] = 1,
    first_stream: Annotated[
        int,
        typer.Option(help="Noise stream of the first text; text T of a job, alone, has --first-stream T."),
    ] = 0,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Divides the logits: below 1 is safer, above 1 wilder, 0 is --greedy."
            " Default 1. Excludes --tau."
        ),
    ] = None,
    tau: Annotated[
        float | None,
        typer.Option(help="Multiplies the logits: tau 2 is temperature 0.5. Excludes --temperature."),
    ] = None,
    greedy: Annotated[bool, typer.Option("--greedy", help="Always the most probable character.")] = False,
    top_k: Annotated[int, typer.Option(help="Only the k most probable characters; 0 is off.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Only the fewest characters that together reach probability p; 1 is off.")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Only characters at least this share as probable as the best; 0 is off.")
    ] = 0.0,
    stop: Annotated[
        list[str] | None, typer.Option(help="End before this text; can be given more than once.")
    ] = None,
    on_unknown: Annotated[
        str, typer.Option(help="Prompt characters that the model does not know: error or skip.")
    ] = "error",
    stream: Annotated[
        bool,
        typer.Option(
            "--stream/--no-stream",
            help="Show text as it is written; several samples always when done.",
        ),
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON object with settings and samples.")
    ] = False,
    jsonl: Annotated[
        bool,
        typer.Option(
            "--jsonl",
            help="Write a line of JSON as soon as a text is done: prompt_index, sample, stream, seed,"
            " prompt, text, stopped.",
        ),
    ] = False,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads; measured once and remembered if not given.")
    ] = None,
    backend: Backend = None,
) -> None:
    """Write text with an engine."""
    stdout_is_the_result()
    if threads is not None and not 1 <= threads <= 256:
        raise UsageError(f"threads must be 1 to 256, not {threads}")
    if prompt and prompt_file:
        raise UsageError("give --prompt or --prompt-file, not both")
    if prompts is not None and (prompt or prompt_file or as_json):
        raise UsageError("--prompts writes JSON Lines: leave --prompt, --prompt-file and --json out")
    if jsonl and as_json:
        raise UsageError("give --json or --jsonl, not both")
    from .runtime import generate as generator
    from .runtime import printing
    from .runtime.prompts import read_prompt

    request = generator.Request(
        prompt=read_prompt(prompt_file) if prompt_file else prompt,
        length=length,
        seed=generator.random_seed() if seed is None else seed,
        num_samples=num_samples,
        first_stream=first_stream,
        sampling=generator.sampling_of(temperature, tau, greedy, top_k, top_p, min_p),
        stop=tuple(stop or ()),
        on_unknown=on_unknown,
    )
    from .runtime.opening import open_engine

    opened = open_engine(engine, threads, backend)
    lines = jsonl or prompts is not None
    if on_unknown == "skip" and prompts is None:
        printing.say_skipped(opened, request.prompt)
    if seed is None and not (as_json or lines or request.sampling.greedy):
        print(f"seed {request.seed}", file=sys.stderr)
    if lines:
        printing.print_lines(opened, request, sys.stdout, prompts)
    elif as_json:
        printing.print_json(opened, request, sys.stdout)
    elif stream and num_samples == 1:
        printing.print_stream(opened, request, sys.stdout)
    else:
        printing.print_whole(opened, request, sys.stdout)


@app.command()
def parity(
    engines: Annotated[
        list[str] | None,
        typer.Argument(help="Engine files; with none, every .onnx and .plan in the checkpoint's folder."),
    ] = None,
    checkpoint: Annotated[
        Path, typer.Option(help="The reference: a checkpoint, or a training run's folder.")
    ] = DEFAULT_RUN,
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
    backend: Backend = None,
) -> None:
    """Prove that engines say the same as eager PyTorch; exit code 1 if one does not."""
    with needing("train"):
        from .parity import report as parity_report
        from .render.stages import Stages

        with Stages() as stages:
            outcome = parity_report.run_parity(
                engines or [],
                checkpoint,
                steps=steps,
                characters=characters,
                seed=seed,
                text=text,
                json_path=json_path,
                backend=backend,
                on_unknown=on_unknown,
                stages=stages,
            )
    console().print(parity_report.table(outcome.results, outcome.skipped))
    for line in [*(f"not run: {reason}" for reason in outcome.skipped.values()), *outcome.notes]:
        say(line)
    if outcome.files:
        say(f"report: {', picture: '.join(map(str, outcome.files))}")
    failed = [f"{result.path}: {what}" for result in outcome.results for what in result.failures]
    if failed:
        raise ToleranceExceeded("out of tolerance: " + "; ".join(failed))


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="A checkpoint folder, a .onnx or a .plan.")] = "charlm.onnx",
    layers: Annotated[
        bool, typer.Option("--layers", help="Of a .plan: what the GPU runs for one step, by the build log.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write everything as JSON.")] = False,
) -> None:
    """Say what a file holds: card, parameters, bytes a step reads, layers, plan header."""
    from .commands import inspection

    found = inspection.describe(file)
    if as_json:
        import json

        print(json.dumps(found, indent=2))
    else:
        inspection.show(found, console(), kernels=layers)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Write everything as JSON.")] = False,
) -> None:
    """Say what is installed, which engines can be built and run here, and what would change that."""
    from .runtime import doctor as checkup

    found = checkup.diagnose()
    if as_json:
        import json

        print(json.dumps(found.to_dict(), indent=2))
    else:
        checkup.show(found, console())


@app.command()
def demo() -> None:
    """Everything once, on the text that Python carries, in about two minutes."""
    with needing("train"):
        from .commands import demonstration

        passed = demonstration.run(console())
    if not passed:
        raise ToleranceExceeded("an engine is out of tolerance")


app.add_typer(cli_bench.app, name="bench")
app.add_typer(cli_practical.app, name="practical")


app.command("gpu-check")(cli_gpu.gpu_check)


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code.

    0: done. 1: it failed, and one sentence on stderr says why. 2: the command was called wrongly.
    130: interrupted. A `P2Error`, or the system refusing the output, is an answer; any other
    exception is a bug and keeps its traceback.

    A reader of the output that leaves (``| head``) is no failure. Output that cannot be written is one,
    once everything else is done: it never stops work whose result is a file.
    """
    prepare_streams()
    code = _answer(argv)
    lost = flush_stdout()
    if lost:
        print(f"p2: cannot write the output: {lost}", file=sys.stderr)
    return code or int(lost is not None)


def _answer(argv: list[str] | None) -> int:
    """Run the command; say on stderr what is not a result."""
    try:
        return _call(argv)
    except P2Error as error:
        print(
            f"p2: {'usage: ' if isinstance(error, UsageError) else ''}{printable(str(error))}",
            *(f"  {printable(note)}" for note in getattr(error, "__notes__", ())),
            sep="\n",
            file=sys.stderr,
        )
        return error.exit_code
    except KeyboardInterrupt:
        print("p2: interrupted", file=sys.stderr)
        return 130
    except OutputLost:
        return 0  # what is to be said of it is said in `main`
    except OSError as error:
        from .contract.files import explain

        what = f"cannot use {error.filename}" if error.filename else "the system refuses"
        print(f"p2: {printable(what)}: {explain(error)}", file=sys.stderr)
        return 1


def _call(argv: list[str] | None) -> int:
    """Run the command and return what it asked to exit with."""
    refuse_empty(sys.argv[1:] if argv is None else argv)
    try:
        app(args=argv, prog_name="p2", standalone_mode=True)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
