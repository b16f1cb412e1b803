"""The models that are checked: random weights, the same everywhere, as a checkpoint and as step graphs.

Weights of about the size that training gives decide as trained ones do, need no text, and are there in
a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bench.models import random_model
from ..bench.options import VOCABULARY
from ..contract.card import Card
from ..contract.engine import Engine

LAYERS = 2
EMBEDDING = 64
MOST = 512  # texts of a plan, as the race has
SINGLE = "-single"  # in the name of a plan for one text


@dataclass(frozen=True)
class Files:
    """Where the files of one model lie.

    Attributes:
        folder: of all of them.
    """

    folder: Path

    @property
    def checkpoint(self) -> Path:
        """The checkpoint's folder."""
        return self.folder / "checkpoint"

    def step(self, precision: str) -> Path:
        """The step graph."""
        return self.folder / f"charlm-{precision}.onnx"

    def plan(self, flavour: str, precision: str, single: bool = False) -> Path:
        """A TensorRT's plan of it, for batches or for a single text."""
        return self.folder / flavour / f"charlm-{precision}{SINGLE if single else ''}.plan"

    def reference(self) -> Engine:
        """Eager PyTorch on the processor, which all others are compared with."""
        from ..trainer.eager import open_checkpoint

        return open_checkpoint(self.checkpoint)


def card_of(cell: str, reset: str, hidden: int) -> Card:
    """The card of a model that is checked."""
    return Card(cell, LAYERS, EMBEDDING, hidden, VOCABULARY, reset)


def make(files: Files, card: Card, precisions: tuple[str, ...]) -> dict[str, Any]:
    """Write the checkpoint and a step graph for each precision; returns their sizes in bytes.

    Raises:
        P2Error: a file cannot be written.
    """
    steps = random_model(card, precisions, files.folder).steps
    return {"bytes": {precision: path.stat().st_size for precision, path in steps.items()}}


def build(files: Files, flavour: str, precision: str) -> dict[str, Any]:
    """Build the plans of a step graph; returns what their headers say.

    Raises:
        P2Error: the library is missing or refuses the graph.
    """
    from ..export.builder import build_plan
    from ..runtime.step_file import open_step

    step = files.step(precision)
    card, found = open_step(step).card, {}
    # The two may be different graphs: products of matrices, and sums (`export.forms`).
    for single, batch in ((False, (1, 8, MOST)), (True, (1, 1, 1))):
        plan = files.plan(flavour, precision, single)
        plan.parent.mkdir(parents=True, exist_ok=True)
        header = build_plan(step, card, plan, engine=flavour, batch=batch)
        found[plan.name] = {"plan": str(header), "bytes": plan.stat().st_size}
    return found
