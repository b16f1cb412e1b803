"""The `p2 bench` commands: measure, and put two reports side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ..contract.errors import UsageError
from ..contract.precisions import TABLE
from ..render.terminal import console, needing, say
from .shared import AsJson, Command

RUN = "run"


class Bench(TyperGroup):
    """A group whose command may be left out: ``p2 bench MODEL`` is ``p2 bench run MODEL``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front that was left out."""
        named = bool(args) and args[0] in self.commands
        return super().parse_args(ctx, args if named else [RUN, *args])


class Run(Command):
    """The command that may be left out: its help is that of ``p2 bench``, and names the other commands."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Leave the command's own name out."""
        formatter.write_usage(ctx.parent.command_path, " ".join(self.collect_usage_pieces(ctx)))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The group's other commands."""
        others = ((name, command) for name, command in ctx.parent.command.commands.items() if name != RUN)
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.get_short_help_str(64)) for name, command in others])


app = typer.Typer(cls=Bench, rich_markup_mode=None)


@app.callback()
def _root() -> None:
    """Measure p2 beside everything else that runs such models; compare two reports."""


@app.command(RUN, cls=Run)
def run(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Checkpoints or run folders; with none, and no --shape, artifacts/charlm, or if it is not"
            " there a small model that is trained first.",
            show_default=False,
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CELL,LAYERS,EMBEDDING,HIDDEN",
            help="A model with random weights, such as lstm,2,256,512; can be given more than once.",
            rich_help_panel="What is measured",
        ),
    ] = None,
    contenders: Annotated[
        str | None,
        typer.Option(
            metavar="KEY,KEY,...",
            help="Only these, and p2-float32, that they are compared with; module:Class names a plug-in."
            " [default: all]",
            rich_help_panel="What is measured",
        ),
    ] = None,
    precisions: Annotated[
        str | None,
        typer.Option(
            metavar="P,P,...",
            help=f"Only contenders of these: {', '.join(TABLE)}. [default: all]",
            rich_help_panel="What is measured",
        ),
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(
            help="A UTF-8 text that the model was not trained on, for the quality; if not given, what the"
            " training held out.",
            rich_help_panel="What is measured",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Fewer rounds, batches and characters: two or three minutes on two idle cores.",
            rich_help_panel="How",
        ),
    ] = False,
    batches: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Texts side by side. [default: powers of two from 1 to 256; with --quick 1,8,64]",
            rich_help_panel="How",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Processor threads of every contender; each chooses its own if not given.",
            rich_help_panel="How",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The report; .html and .md go beside it, an earlier one into <report>.old-1, -2, ..."
            " [default: artifacts/bench/report.json]",
            rich_help_panel="Report",
        ),
    ] = None,
) -> None:
    """Measure p2 and its peers on the same weights."""
    with needing("train"):
        from ..bench import options, run

        asked = options.parse(
            models or [],
            shape or [],
            quick=quick,
            contenders=contenders,
            precisions=precisions,
            threads=threads,
            batches=batches,
            text=text,
            out=out or options.OUT,
        )
        files = run.run(asked, console())
    say(f"report: {', '.join(map(str, files))}")


@app.command(cls=Command)
def compare(
    before: Annotated[Path, typer.Argument(metavar="A", help="A report, .json.", show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="B", help="Another one.", show_default=False)],
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Write Markdown instead of a table for the terminal.")
    ] = False,
) -> None:
    """What changed between two reports, and what only the noise of the machine did."""
    from ..bench import compare as comparison
    from ..bench.reading import load

    a, b = load(before), load(after)
    if markdown:
        print(comparison.to_markdown(a, b), end="")
    else:
        comparison.show(a, b, console())


@app.command(cls=Command)
def render(
    reports: Annotated[
        list[Path], typer.Argument(metavar="REPORT", help="Finished reports, .json.", show_default=False)
    ],
) -> None:
    """Write the page, tables and picture of finished reports again, with nothing measured."""
    with needing("train"):
        from ..bench import rendering
        from ..bench.reading import load

        for report in reports:
            say(f"report: {', '.join(map(str, rendering.write(load(report), report)))}")


@app.command(cls=Command)
def profile(
    engine: Annotated[
        str, typer.Argument(metavar="ENGINE", help="A .onnx file, found as `p2 generate` finds it.")
    ] = "charlm.onnx",
    batch: Annotated[int, typer.Option(help="Texts side by side.")] = 1,
    threads: Annotated[
        int | None, typer.Option(help="Processor threads; what the engine measures as best if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show where a step's time goes in ONNX Runtime, operator by operator."""
    import json

    from ..bench import profile as profiling

    if threads is not None and not 1 <= threads <= 256:
        raise UsageError(f"--threads must be 1 to 256, not {threads}")
    result = profiling.profile(engine, batch, threads)
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        profiling.show(result, console())
