"""The `p2` command: it registers the commands, each a file under `commands/`, and answers for how they end.

Heavy libraries are imported inside the functions that need them, so that `p2 --help` and the
first character of `p2 generate` come at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .commands import (
    bench,
    demo,
    doctor,
    eval_,
    export,
    generate,
    gpu_check,
    import_,
    inspect,
    parity,
    practical,
    serve,
    tokenize,
    train,
)
from .commands.shared import Command
from .contract.errors import P2Error, UsageError
from .contract.shell import printable
from .render.terminal import OutputLost, flush_stdout, prepare_streams, refuse_empty
from .version import __version__

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


app.command(cls=Command)(train.train)
app.command(cls=Command)(tokenize.tokenize)
app.command("import", cls=Command)(import_.import_)
app.command(cls=export.Export)(export.export)
app.command(cls=Command)(generate.generate)
app.command(cls=Command)(serve.serve)
app.command("eval", cls=Command)(eval_.eval_)
app.command(cls=Command)(parity.parity)
app.command(cls=Command)(inspect.inspect)
app.command(cls=Command)(doctor.doctor)
app.command(cls=Command)(demo.demo)
app.command(cls=Command)(gpu_check.gpu_check)
app.add_typer(bench.app, name="bench")
app.add_typer(practical.app, name="practical")


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
