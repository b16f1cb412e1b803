"""`p2 practical baum-sweet`: the toy problem of the report, and what it left open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from ...contract.files import make_folder
from ...render.progress import Progress
from ...render.terminal import titled
from ..again import finish
from ..document import FOLDER, alone, make_room
from .results import Results, results_of
from .runs import Runs, run_all, seconds_of
from .settings import NAMES, ToySettings

if TYPE_CHECKING:
    from rich.console import Console

EXPERIMENT: Final = "baum-sweet"
WORKERS = 2


def run(settings: ToySettings, folder: Path = FOLDER, workers: int = WORKERS) -> Path:
    """Train what is missing, and write the document with its figures.

    Finished trainings are kept under ``folder/baum-sweet``: stopped or killed, the same call goes on. The
    document of other trainings is kept as well, see `document.make_room`.

    Args:
        settings: what to train.
        folder: where the document goes.
        workers: processes, of one thread each.

    Returns:
        The document.

    Raises:
        P2Error: a training failed, or a file cannot be written.
    """
    with alone(folder, EXPERIMENT):
        return _run(settings, folder, workers)


def _run(settings: ToySettings, folder: Path, workers: int) -> Path:
    make_folder(folder)
    runs = Runs(folder / EXPERIMENT, settings.plan())
    with Progress() as progress:
        try:
            run_all(runs, workers, progress)
        except KeyboardInterrupt:
            kept = len(runs.plan) - len(runs.missing)
            progress.say(f"{kept} of {len(runs.plan)} trainings are kept; the same command goes on")
            raise
        records = runs.records()
        results = results_of(records)
        if room := make_room(folder, EXPERIMENT, results):
            progress.say(room)
    finish(
        folder,
        EXPERIMENT,
        mode="quick" if settings.quick else "full",
        seconds=seconds_of(records),
        settings={**settings.to_dict(), "workers": workers},
        results=results,
    )
    return folder / f"{EXPERIMENT}.json"


def show(results: Results, console: Console) -> None:
    """Print every kind of training with its convergence."""
    heads = ("cell", "T", "samples", "initial weights", "converged after", "accuracy at the end")
    table = titled("Updates until the 21-step mean accuracy is 0.99", heads, len(heads))
    for group in results["groups"]:
        table.add_row(
            NAMES[group["cell"]],
            str(group["magnitude"]),
            group["sampling"],
            f"embedding {group['embedding']}, gain {group['gain']:.2f}, fan {group['fan']}",
            ", ".join(str(c) if c else "not" for c in group["converged"]),
            f"{group['final_accuracy']['mean']:.3f}",
        )
    console.print(table)
