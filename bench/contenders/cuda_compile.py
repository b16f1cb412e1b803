"""PyTorch's compiler on the GPU: the folded step under torch.compile, many steps as one CUDA graph."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...contract.card import Card
from ..contender import Model
from .availability import no_gpu, no_torch, not_installed
from .cuda import GRAPH_STEPS, GraphRunning, captured, prepare_cuda
from .torch_cell import COMPILED_BATCHES, folded_cell
from .torch_modules import use_threads

if TYPE_CHECKING:
    from ...export.step import Advance


class CudaCompile:
    """The same as `CudaGraph`, with the element-wise operations of the step fused by the compiler."""

    key = "cuda-compile"
    title = f"functional cell, torch.compile, CUDA graph of {GRAPH_STEPS} steps"
    precision = "float32"
    group = "peer"
    device = "cuda"

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        return no_gpu() or no_torch() or not_installed("triton", "Triton, torch.compile's backend,", "train")

    def load(self, model: Model, threads: int | None) -> GraphRunning:
        """See `Contender.load`. Compiles and captures for one text.

        Raises:
            P2Error: PyTorch does not reach the GPU, or the checkpoint cannot be read.
        """
        prepare_cuda()
        advance = compiled(folded_cell(model, "cuda"))
        return GraphRunning(model.card, use_threads(threads), advance, "cuda", captured)


def compiled(advance: Advance) -> Advance:
    """The step under torch.compile in its default mode, for fixed shapes."""
    import torch
    import torch._dynamo

    # Beyond its limit PyTorch would run the rest of the batch sizes eagerly without a word.
    torch._dynamo.config.recompile_limit = COMPILED_BATCHES
    found: Advance = torch.compile(advance, dynamic=False)
    return found
