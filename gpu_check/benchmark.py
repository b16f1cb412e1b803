"""One size of the benchmark: p2's engines on this GPU and everything else that runs there, in turns.

It is `p2 bench`'s race, with the GPU's copy rate before each turn, and its targets.
"""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from statistics import median
from typing import Any

from ..bench import gpu_targets
from ..bench.contender import Model
from ..bench.copying import Copying
from ..bench.models import Prepared, prepare_peers
from ..bench.options import QUICK, Effort, shape_name
from ..bench.plugins import Entrant, find
from ..bench.race import Race
from ..contract.card import Card
from ..contract.plan import FLAVOURS, sidecar_path
from ..render.progress import Progress
from .models import MOST, Files

# A GPU's clock settles within a second; what the turns are for is other work on the machine.
EFFORT = dataclasses.replace(QUICK, rounds=3, turn_seconds=0.5, batches=(1, 8, 64, MOST), batch_rounds=2)


def bench(
    files: Files,
    card: Card,
    contenders: tuple[str, ...],
    precisions: tuple[str, ...],
    device: str,
    effort: Effort = EFFORT,
) -> dict[str, Any]:
    """Race contenders on one model; see `bench.document.Entry` and `Target` for the figures.

    Args:
        files: of the model, whose step graphs are there.
        card: the model.
        contenders: keys of the benchmark's contenders.
        precisions: of the step graphs that are there.
        device: ``cuda`` or ``cpu``: whose copy rate is measured.
        effort: how long and how often.
    """
    steps = {precision: files.step(precision) for precision in precisions}
    for precision, step in steps.items():
        _lay_plans_beside(files, step, precision)
    model = Model(shape_name(card), card, files.checkpoint, steps)
    prepare_peers(model)
    with Progress() as progress, Copying(device) as copying:
        prepared = Prepared(model, None, "the weights are random")
        race = Race(prepared, effort, None, progress, {device: copying.read})
        entries = race.run([Entrant(key, find(key)) for key in contenders])
    copies = race.bandwidths.get(device)
    return {
        "copies": [{"bytes_per_second": median(copies)} if copies else {"problem": "not measured"}],
        "entries": entries,
        "notes": race.notes,
        "targets": gpu_targets.for_gpu(card.hidden, entries),
    }


def _lay_plans_beside(files: Files, step: Path, precision: str) -> None:
    """A contender looks for its plan beside the step, as `p2 export` lays it."""
    for flavour in FLAVOURS:
        if not files.plan(flavour, precision).exists():
            continue
        for single in (False, True):
            plan = files.plan(flavour, precision, single)
            target = step.with_name(plan.name)
            shutil.copyfile(plan, target)
            shutil.copyfile(sidecar_path(plan), sidecar_path(target))
        return
