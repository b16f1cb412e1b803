"""The `p2 gpu-check` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..contract.errors import ToleranceExceeded
from ..gpu_check.options import GROUPS
from ..render.terminal import needing, say


def gpu_check(
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the report, <name of the GPU>.json and .md, and of the models; an earlier report"
            " goes into <name of the GPU>.json.old-1, -2, ...",
        ),
    ] = Path("artifacts/gpu"),
    only: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS,WORDS,...",
            help="Only checks with all words of one of these in their name, such as 'parity lstm', soak or"
            " benchmark; and what they need. Pieces meant for five minutes each on an H100, the later ones"
            f" with --resume: {'; '.join(GROUPS)}.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the report that is there: add to it what is asked for and has not passed yet.",
        ),
    ] = False,
    rehearse: Annotated[
        bool, typer.Option("--rehearse", help="Run the same checks over engines on the processor.")
    ] = False,
    hidden: Annotated[int, typer.Option(help="Width of the models that are checked.")] = 256,
    bench_hidden: Annotated[
        str, typer.Option(metavar="N,N,...", help="Widths of the models that are raced; none: no benchmark.")
    ] = "128,512,1024,2048,4096",
    characters: Annotated[int, typer.Option(help="Written in one go, with the memory watched.")] = 100_000,
    render: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="JSON", help="Run nothing: write the .md of a finished report again; can be repeated."
        ),
    ] = None,
) -> None:
    """Every check that needs an NVIDIA GPU, in one go; exit code 1 if one that could run failed."""
    if render:
        from ..gpu_check import run

        for path in render:
            say(f"report: {run.render(path)}")
        return
    with needing("train"):
        from ..gpu_check import options, run

        asked = options.parse(only, rehearse, hidden, bench_hidden, characters)
        target, problem = run.run(asked, out, resume, lambda line: print(line, flush=True))
    say(f"report: {target}, {target.with_suffix('.md')}")
    if problem:
        raise ToleranceExceeded(f"{problem}: see {target.with_suffix('.md')}")
