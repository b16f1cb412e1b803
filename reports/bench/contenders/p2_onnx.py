"""p2 on ONNX Runtime, in each precision."""

from __future__ import annotations

from ....spec.card import Card
from ....spec.errors import UsageError
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

    def __init__(self, precision: str) -> None:
        self.key = f"p2-{precision}"
        self.title = f"p2 {precision} (ONNX Runtime)"
        self.precision = precision

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        return no_onnxruntime()

    def load(self, model: Model, threads: int | None) -> EngineRunning:
        """See `Contender.load`.

        Raises:
            UsageError: the model was not exported in this precision.
            P2Error: as `runtime.onnx_engine.open_onnx`.
        """
        from ....runtime.onnx_engine import open_onnx

        if self.precision not in model.steps:
            raise UsageError(f"{model.name} was not exported in {self.precision}")
        engine = open_onnx(model.steps[self.precision], threads)
        return EngineRunning(engine, engine.threads)
