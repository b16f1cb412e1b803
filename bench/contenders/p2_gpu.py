"""p2 on a GPU, as `p2 generate` runs it."""

from __future__ import annotations

import functools
from pathlib import Path

from ...contract.card import Card
from ...contract.errors import UsageError
from ...contract.plan import FLAVOURS
from ...contract.shell import install
from ...runtime import cuda_core, nvidia
from ...runtime.backends import BACKENDS, Backend
from ...runtime.opening import open_file
from ..contender import Model
from .availability import no_gpu
from .engine_running import EngineRunning


def key_for(backend: Backend, precision: str) -> str:
    """The contender's key: whichever of the two libraries a plan is for, it is p2's plan."""
    if backend.kind == "plan":
        return f"p2-tensorrt-{precision}"
    return f"p2-{backend.key}" if len(backend.precisions) == 1 else f"p2-{backend.key}-{precision}"


@functools.cache
def _why_not(key: str) -> str | None:
    return BACKENDS[key].why_not() or None  # it may open a session in a process of its own


class P2Gpu:
    """A checkpoint or an exported step on a backend of the runtime's table.

    Args:
        backend: one on a GPU, not of plans.
        precision: of the weights.
    """

    group = "p2"
    device = "cuda"

    def __init__(self, backend: Backend, precision: str) -> None:
        self.key = key_for(backend, precision)
        self.title = f"p2 {precision} ({backend.title})"
        self.precision = precision
        self._backend = backend

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        return no_gpu() or _why_not(self._backend.key)

    def load(self, model: Model, threads: int | None) -> EngineRunning:  # noqa: ARG002 - the protocol's signature
        """See `Contender.load`. One thread enqueues the work.

        Raises:
            UsageError: there is no step graph in this precision.
            P2Error: as `runtime.opening.open_file`.
        """
        path = model.checkpoint if self._backend.kind == "checkpoint" else model.steps.get(self.precision)
        if path is None:
            raise UsageError(f"{model.name} has no step graph in {self.precision}")
        return EngineRunning(open_file(path, self._backend), 1)


class P2TensorRT:
    """A TensorRT plan beside the exported step, as `p2 generate` runs it.

    Args:
        precision: of the step.
    """

    group = "p2"
    device = "cuda"

    def __init__(self, precision: str) -> None:
        self.key = f"p2-tensorrt-{precision}"
        self.title = f"p2 {precision} (TensorRT)"
        self.precision = precision

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        reason = no_gpu()
        if reason is None and not any(map(nvidia.installed, FLAVOURS.values())):
            return f"neither TensorRT nor TensorRT-RTX is installed: {install('gpu')}"
        return reason or cuda_core.missing() or None

    def plan_of(self, step: Path) -> Path:
        """Where the plan of a step is."""
        return step.with_suffix(".plan")

    def load(self, model: Model, threads: int | None) -> EngineRunning:  # noqa: ARG002 - the protocol's signature
        """See `Contender.load`. Plans have no choice of threads: one enqueues the work.

        Raises:
            UsageError: there is no plan beside the step.
            P2Error: as `runtime.tensorrt.engine.open_plan`.
        """
        from ...runtime.tensorrt.engine import open_plan

        step = model.steps.get(self.precision)
        if step is None or not self.plan_of(step).exists():
            raise UsageError(f"{model.name} has no plan in {self.precision} beside its step")
        return EngineRunning(open_plan(self.plan_of(step)), 1)
