"""p2 on a GPU without a plan, as `p2 generate --backend` runs it."""

from __future__ import annotations

from ...contract.card import Card
from ...contract.errors import UsageError
from ...runtime.onnxruntime.providers import PROVIDERS
from ..contender import Model
from .availability import no_gpu, no_onnxruntime, no_torch
from .engine_running import EngineRunning


class P2OnnxGpu:
    """The exported step, bound on the device.

    Args:
        backend: a key of `runtime.onnxruntime.providers.PROVIDERS`.
        precision: of the step.
    """

    group = "p2"
    device = "cuda"

    def __init__(self, backend: str, precision: str) -> None:
        self.key = f"p2-{backend}-{precision}"
        self.title = f"p2 {precision} (ONNX Runtime, {PROVIDERS[backend].title})"
        self.precision = precision
        self._backend = backend

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`. Whether the provider loads, `load` finds out."""
        return no_gpu() or no_onnxruntime("gpu")

    def load(self, model: Model, threads: int | None) -> EngineRunning:  # noqa: ARG002 - the protocol's signature
        """See `Contender.load`. One thread enqueues the work.

        Raises:
            UsageError: there is no step graph in this precision.
            P2Error: as `runtime.onnxruntime.gpu.open_onnx_gpu`.
        """
        from ...runtime.onnxruntime.gpu import open_onnx_gpu

        step = model.steps.get(self.precision)
        if step is None:
            raise UsageError(f"{model.name} has no step graph in {self.precision}")
        return EngineRunning(open_onnx_gpu(step, self._backend), 1)


class P2CudaGraph:
    """A checkpoint as PyTorch CUDA graphs."""

    key = "p2-cuda-graph"
    title = "p2 float32 (PyTorch CUDA graphs)"
    precision = "float32"
    group = "p2"
    device = "cuda"

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        return no_gpu() or no_torch()

    def load(self, model: Model, threads: int | None) -> EngineRunning:  # noqa: ARG002 - the protocol's signature
        """See `Contender.load`. One thread enqueues the work.

        Raises:
            P2Error: as `export.cuda_graph.open_cuda_graph`.
        """
        from ...export.cuda_graph import open_cuda_graph

        return EngineRunning(open_cuda_graph(model.checkpoint), 1)
