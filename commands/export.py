"""The `p2 export` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..contract.errors import UsageError
from ..render.terminal import needing, say

DEFAULT_RUN = Path("artifacts/charlm")


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, or a training run's folder.")
    ] = DEFAULT_RUN,
    fp16: Annotated[
        bool, typer.Option("--fp16", help="16-bit floats: the same as --precision float16.")
    ] = False,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="16-bit floats of float32's range: --precision bfloat16.")
    ] = False,
    fp8: Annotated[
        bool, typer.Option("--fp8", help="8-bit float weights: the same as --precision float8.")
    ] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="8-bit weights: the same as --precision int8.")
    ] = False,
    int4: Annotated[
        bool, typer.Option("--int4", help="4-bit weights: the same as --precision int4.")
    ] = False,
    precision: Annotated[
        str | None, typer.Option(help="float32 (the default), float16, bfloat16, float8, int8 or int4.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="auto, none, tensorrt or tensorrt-rtx: which builder makes the .plan.")
    ] = "auto",
    opset: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="ONNX operator set, for an older runtime: 13 to 21, the default; float8 from 19 up, int4 in"
            " 21 alone.",
        ),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            help="Batch sizes the .plan serves: min,opt,max, by default 1,8,64; 1 is for one text alone, on"
            " the fewest kernels.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="smXX,...",
            help="What a TensorRT-RTX .plan is for, e.g. sm89,sm120; by default portable.",
        ),
    ] = None,
    version_compatible: Annotated[
        bool,
        typer.Option("--version-compatible", help="TensorRT: later versions run the .plan as well."),
    ] = False,
    hardware_compatible: Annotated[
        bool,
        typer.Option(
            "--hardware-compatible", help="TensorRT: GPUs from compute capability 8.0 up run the .plan."
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The .onnx file to write; the .plan goes beside it. What is there of another precision or"
            " checkpoint is kept, as NAME.PRECISION.onnx."
        ),
    ] = None,
) -> None:
    """Turn a checkpoint into charlm.onnx, and charlm.plan where TensorRT is installed."""
    flags = {"float16": fp16, "bfloat16": bf16, "float8": fp8, "int8": int8, "int4": int4}
    given = [name for name, on in flags.items() if on]
    given += [precision] if precision else []
    if len(given) > 1:
        raise UsageError("give one of --fp16, --bf16, --fp8, --int8, --int4, --precision")
    for_a_plan = {
        "--batch": batch is not None,
        "--target": target is not None,
        "--version-compatible": version_compatible,
        "--hardware-compatible": hardware_compatible,
    }
    useless = [name for name, on in for_a_plan.items() if on]
    if engine == "none" and useless:
        raise UsageError(f"{', '.join(useless)}: for a .plan, and --engine none builds none")
    with needing("train"):
        from ..export.exporter import export_checkpoint, parse_batch
        from ..export.targets import parse_targets
        from ..render.stages import Stages

        with Stages() as stages:
            made = export_checkpoint(
                checkpoint,
                precision=given[0] if given else "float32",
                opset=opset,
                out=out,
                engine=engine,
                batch=parse_batch(batch) if batch is not None else (1, 8, 64),
                targets=parse_targets(target) if target is not None else (),
                version_compatible=version_compatible,
                hardware_compatible=hardware_compatible,
                say=say,
                stage=stages.say,
                progress=stages.progress,
            )
    if made.plan is None:
        say(made.plan_note)
    from ..contract.shell import command
    from ..runtime.locate import name_for
    from ..runtime.tensorrt.opening import runs_here

    best = made.plan if made.plan and runs_here(made.plan) else made.onnx
    print(f"next: {command('p2', 'generate', '--engine', name_for(best))}")
