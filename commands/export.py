"""The `p2 export` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..contract.card import PRECISIONS
from ..contract.errors import UsageError
from ..contract.precisions import TABLE
from ..render.terminal import say
from .shared import RUN_FOLDER, Command

# The short forms that were options before; --fp16 is one still.
_FORMER = {f"--{name}": one.key for one in TABLE.values() for name in (one.key, *one.aliases)}

_LATE = [f"{one.key} from {one.opset} up" for one in TABLE.values() if one.opset > 13]


class Export(Command):
    """The command, which says what became of options that it had."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options.

        Raises:
            UsageError: one is a short form of before.
        """
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # typer's own, whose name differs from version to version
            name = getattr(error, "option_name", None)
            if name not in _FORMER:
                raise
            raise UsageError(f"give --precision {_FORMER[name]}: there is no {name}") from None


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, or a training run's folder.")
    ] = RUN_FOLDER,
    fp16: Annotated[
        bool,
        typer.Option("--fp16", help="16-bit floats: short for --precision float16.", rich_help_panel="Graph"),
    ] = False,
    precision: Annotated[
        str | None,
        typer.Option(
            help=f"{PRECISIONS[0]} (the default), {', '.join(PRECISIONS[1:-1])} or {PRECISIONS[-1]}.",
            rich_help_panel="Graph",
        ),
    ] = None,
    opset: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help=f"ONNX operator set, for an older runtime: 13 to 21, the default; {', '.join(_LATE)}.",
            rich_help_panel="Graph",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The .onnx file to write; the .plan goes beside it. What is there of another precision or"
            " checkpoint is kept, as NAME.PRECISION.onnx.",
            rich_help_panel="Graph",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="auto, none, tensorrt or tensorrt-rtx: which builder makes the .plan.",
            rich_help_panel="Plan",
        ),
    ] = "auto",
    batch: Annotated[
        str | None,
        typer.Option(
            help="Batch sizes the .plan serves: min,opt,max, by default 1,8,64; 1 is for one text alone, in"
            " the form that is faster there.",
            rich_help_panel="Plan",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="smXX,...",
            help="What a TensorRT-RTX .plan is for, e.g. sm89,sm120; by default portable.",
            rich_help_panel="Plan",
        ),
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option(
            "--version-compatible",
            help="TensorRT: later versions run the .plan as well.",
            rich_help_panel="Plan",
        ),
    ] = False,
    hardware_compatible: Annotated[
        bool,
        typer.Option(
            "--hardware-compatible",
            help="TensorRT: GPUs from compute capability 8.0 up run the .plan.",
            rich_help_panel="Plan",
        ),
    ] = False,
    triton: Annotated[
        Path | None,
        typer.Option(
            metavar="REPO",
            help="Put the models into this Triton model repository as well: the step with its state kept by"
            " the server, and a model of texts.",
            rich_help_panel="Triton",
        ),
    ] = None,
    web: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Put a page into this folder that writes with the model in any browser, without a server.",
            rich_help_panel="Web",
        ),
    ] = None,
    ort_web: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH",
            help="Its onnxruntime-web: the file of npm pack, or a folder; by default npm is asked, once.",
            rich_help_panel="Web",
        ),
    ] = None,
) -> None:
    """Turn a checkpoint into charlm.onnx, and charlm.plan where TensorRT is installed."""
    if fp16 and precision is not None:
        raise UsageError("give --fp16 or --precision, not both")
    from .. import api
    from ..contract.shell import command
    from ..runtime.locate import name_for
    from ..runtime.tensorrt.plan_file import runs_here

    made = api.export(
        checkpoint,
        quiet=False,
        precision="float16" if fp16 else precision,
        opset=opset,
        out=out,
        engine=engine,
        batch=batch,
        target=target,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        triton=triton,
        web=web,
        ort_web=ort_web,
    )
    if made.plan is None:
        say(made.plan_note)
    if made.web is not None:
        print(f"next: {command('python', '-m', 'http.server', '--directory', made.web)}")
        return
    best = made.plan if made.plan and runs_here(made.plan) else made.onnx
    print(f"next: {command('p2', 'generate', '--engine', name_for(best))}")
