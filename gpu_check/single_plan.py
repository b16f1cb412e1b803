"""Contenders for `p2 bench`'s race: plans for one text, beside those for batches.

The form of their products is the one that `export.forms` finds faster for one text; what that is worth is
what the race is to show. Addresses: ``p2.gpu_check.single_plan:float32``.
"""

from __future__ import annotations

from pathlib import Path

from ..bench.contenders.p2_gpu import P2TensorRT
from .models import SINGLE


class SinglePlan(P2TensorRT):
    """A plan of `p2 export --batch 1`. Batches are not for it: the race notes that and goes on."""

    def __init__(self, precision: str) -> None:
        super().__init__(precision)
        self.key = f"p2-tensorrt-single-{precision}"
        self.title = f"p2 {precision} (TensorRT, plan for one text)"

    def plan_of(self, step: Path) -> Path:
        """Where the plan of a step is."""
        return step.with_name(f"{step.stem}{SINGLE}.plan")


float32, float16, int8, int4 = map(SinglePlan, ("float32", "float16", "int8", "int4"))
