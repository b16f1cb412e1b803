"""Every check that needs an NVIDIA GPU, in one go, on models made here in a minute.

For each cell, precision and TensorRT that is installed: build the plan, put it through the
parity suite on the GPU, and time it. What cannot run is recorded with its reason. The result is one
JSON file named after the GPU.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..spec import nvidia
from ..spec.card import PRECISIONS
from ..spec.errors import BackendMissing, P2Error
from ..spec.files import write_json
from ..spec.plan import FLAVOURS

if TYPE_CHECKING:
    from rich.console import Console

    from .parity import Reference

FOLDER = Path("artifacts/gpu")
MODELS = (("rnn", "after"), ("lstm", "after"), ("gru", "after"), ("gru", "before"))
TRAINING_STEPS = 60
HIDDEN = 256
STEPS = 1000
CHARACTERS = 2000


@dataclass(frozen=True)
class Check:
    """One plan on one GPU.

    Attributes:
        cell: of the model.
        precision: of its weights.
        flavour: which TensorRT built the plan.
        outcome: ``parity``, ``out of tolerance`` or ``refused``.
        detail: the reason, if it is not parity.
        parity: the whole comparison, or None if it did not run.
        characters_per_second: batch 1, sampling included, or None.
    """

    cell: str
    precision: str
    flavour: str
    outcome: str
    detail: str = ""
    parity: dict[str, Any] | None = None
    characters_per_second: float | None = None


def run(console: Console, folder: Path = FOLDER) -> tuple[Path, bool]:
    """Run every check and write the report.

    Returns:
        the report's path, and whether at least one plan ran and none was out of tolerance.

    Raises:
        BackendMissing: there is no GPU, or no TensorRT.
    """
    from ..runtime.doctor import diagnose
    from .machine import machine

    gpus = nvidia.gpus()
    if not gpus.devices:
        raise BackendMissing(f"the GPU checks need an NVIDIA GPU: {gpus.problem} here")
    flavours = [flavour.name for flavour in FLAVOURS.values() if nvidia.installed(flavour)]
    if not flavours:
        raise BackendMissing("the GPU checks need TensorRT: pip install 'p2[gpu]' or 'p2[rtx]'")
    checks: list[Check] = []
    name = re.sub(r"[^a-z0-9]+", "-", gpus.devices[0].name.lower()).strip("-")
    target = folder / f"{name}.json"
    report = {"machine": machine(), "doctor": diagnose().to_dict()}
    for cell, reset in MODELS:
        title = cell if reset == "after" else f"{cell}, reset {reset}"
        run_folder = folder / "models" / f"{cell}-{reset}"
        reference = _reference(run_folder, cell, reset, console)
        for flavour in flavours:
            for precision in PRECISIONS:
                check = _check(run_folder, reference, title, precision, flavour)
                checks.append(check)
                console.print(f"{title} {precision} {flavour}: {check.outcome} {check.detail}", markup=False)
                # After each one, so that a crash of the driver loses nothing.
                write_json(target, report | {"checks": [asdict(c) for c in checks], "passed": passed(checks)})
    return target, passed(checks)


def passed(checks: list[Check]) -> bool:
    """Whether at least one plan ran and none was out of tolerance."""
    outcomes = {check.outcome for check in checks}
    return "parity" in outcomes and "out of tolerance" not in outcomes


def _reference(folder: Path, cell: str, reset: str, console: Console) -> Reference:
    """A model trained for a few seconds, and what eager PyTorch says of it."""
    from ..trainer import corpus, display, loop
    from ..trainer.eager import open_checkpoint
    from ..trainer.options import TrainOptions
    from .parity import Reference

    console.print(f"training a small {cell}")
    options = TrainOptions(
        cell=cell, gru_reset=reset, hidden=HIDDEN, steps=TRAINING_STEPS, out=folder, device="cpu"
    )
    if loop.train(options, corpus.load([]), display.Silent()).interrupted:
        raise KeyboardInterrupt
    return Reference(open_checkpoint(folder), STEPS, CHARACTERS, seed=0)


def _check(folder: Path, reference: Reference, cell: str, precision: str, flavour: str) -> Check:
    from ..export.exporter import export_checkpoint
    from ..runtime.tensorrt import open_plan
    from .speed import measure

    try:
        path = folder / f"{flavour}-{precision}.onnx"
        made = export_checkpoint(folder, precision=precision, out=path, engine=flavour)
        assert made.plan is not None
        engine = open_plan(made.plan)
        try:
            result = reference.compare(engine, str(made.plan))
            speed = measure([engine])[0]
        finally:
            engine.close()
    except P2Error as error:
        return Check(cell, precision, flavour, "refused", str(error))
    outcome = "out of tolerance" if result.failures else "parity"
    return Check(
        cell,
        precision,
        flavour,
        outcome,
        "; ".join(result.failures),
        result.to_dict(),
        speed.characters_per_second,
    )
