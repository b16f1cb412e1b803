"""p2 on the processor, in each precision: as `p2 generate` runs it, and its loop inside ONNX Runtime."""

from __future__ import annotations

from ...contract.card import Card
from ...contract.errors import UsageError
from ...runtime import native
from ...runtime.backends import ONNXRUNTIME
from ...runtime.opening import open_step_engine
from ..contender import Model
from .availability import no_onnxruntime
from .engine_running import EngineRunning


class P2Onnx:
    """The exported step as `p2 generate` runs it on the processor.

    Args:
        precision: of the step that is loaded.
    """

    group = "p2"
    device = "cpu"
    backend: str | None = None

    def __init__(self, precision: str) -> None:
        self.key = f"p2-{precision}"
        self.title = f"p2 {precision}"
        self.precision = precision

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        return None if native.available() else no_onnxruntime()

    def load(self, model: Model, threads: int | None) -> EngineRunning:
        """See `Contender.load`.

        Raises:
            UsageError: the model was not exported in this precision.
            P2Error: as `runtime.opening.open_step_engine`.
        """
        if self.precision not in model.steps:
            raise UsageError(f"{model.name} was not exported in {self.precision}")
        engine = open_step_engine(model.steps[self.precision], threads, self.backend)
        return EngineRunning(engine, engine.threads)


class P2OnnxRuntime(P2Onnx):
    """p2's decode loop inside ONNX Runtime, where the compiled decoder would run it otherwise."""

    group = "variant"
    backend = ONNXRUNTIME

    def __init__(self, precision: str) -> None:
        super().__init__(precision)
        self.key = f"p2-onnxruntime-{precision}"
        self.title = f"p2 {precision}, its loop inside ONNX Runtime"

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        if not native.available():
            return "p2 itself runs its loop inside ONNX Runtime here"
        return no_onnxruntime()
