"""The contenders for a machine with an NVIDIA GPU."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ...contract.card import Card
from ...contract.codec import Tokens
from ...contract.errors import BackendMissing
from ..contender import Model
from .availability import no_gpu, no_onnxruntime, no_torch
from .ort_operator import OperatorRunning
from .torch_cell import folded_cell
from .torch_modules import ModulesRunning, no_modules, use_threads

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ...export.step import Advance
    from ...trainer.cells import States

    # Makes something that repeats what a function does to its buffers, without its Python.
    Capture = Callable[[Callable[[], None]], Callable[[], None]]

GRAPH_STEPS = 32  # characters per captured graph: launching it costs as much as a few kernels


class CudaEager:
    """The modules on the GPU (cuDNN), which the host waits for once per call."""

    key = "cuda-eager"
    title = "nn modules, eager PyTorch"
    precision = "float32"
    group = "peer"
    device = "cuda"

    def missing(self, card: Card) -> str | None:
        """See `Contender.missing`."""
        return no_gpu() or no_torch() or no_modules(card)

    def load(self, model: Model, threads: int | None) -> ModulesRunning:
        """See `Contender.load`.

        Raises:
            P2Error: PyTorch does not reach the GPU, or the checkpoint cannot be read.
        """
        prepare_cuda()
        return ModulesRunning(model, use_threads(threads), "cuda")


class CudaGraph:
    """The folded step with its choice, many steps captured as one CUDA graph."""

    key = "cuda-graph"
    title = f"functional cell, CUDA graph of {GRAPH_STEPS} steps"
    precision = "float32"
    group = "peer"
    device = "cuda"

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        return no_gpu() or no_torch()

    def load(self, model: Model, threads: int | None) -> GraphRunning:
        """See `Contender.load`. Captures for one text.

        Raises:
            P2Error: PyTorch does not reach the GPU, or the checkpoint cannot be read.
        """
        prepare_cuda()
        threads = use_threads(threads)
        return GraphRunning(model.card, threads, folded_cell(model, "cuda"), "cuda", captured)


class OrtCuda:
    """The exported operator graph on ONNX Runtime's CUDA provider."""

    key = "ort-cuda"
    title = "ONNX Runtime CUDA, recurrent operator, loop in Python"
    precision = "float32"
    group = "peer"
    device = "cuda"

    def missing(self, card: Card) -> str | None:
        """See `Contender.missing`."""
        if not card.form.is_fused:
            return f"cuDNN's {card.form.title} resets after the recurrent product, and this model's before it"
        return no_gpu() or no_onnxruntime("gpu")

    def load(self, model: Model, threads: int | None) -> OperatorRunning:
        """See `Contender.load`.

        Raises:
            BackendMissing: ONNX Runtime does not run the whole graph on the GPU.
        """
        return OperatorRunning(model, threads or 1, "CUDAExecutionProvider", {"use_tf32": "0"})


class GraphRunning:
    """`contender.Running` over captured graphs: state, choice and characters stay on the device.

    There is one set of buffers, so `follow` ends the text that was being written.

    Args:
        card: the model.
        threads: processor threads that PyTorch uses.
        advance: the step on `device`.
        device: where the buffers are.
        capture: how a function on buffers becomes a graph.
    """

    def __init__(self, card: Card, threads: int, advance: Advance, device: str, capture: Capture) -> None:
        import torch

        self.card = card
        self.threads = threads
        self._advance = advance
        self._device = torch.device(device)
        self._capture = capture
        self._generator = torch.Generator(self._device)
        self._buffers: _Buffers | None = None
        self.start(1, 0)

    def start(self, batch: int, seed: int) -> None:
        """See `Running.start`. Another batch than the last one's is captured for first."""
        import torch

        self._generator.manual_seed(seed)
        first = torch.randint(self.card.vocab, (batch,), generator=self._generator, device=self._device)
        self._open(batch).reset(first)

    def write(self, count: int) -> Tokens:
        """See `Running.write`."""
        return self._write(count)

    def follow(self, first: Tokens, noise: npt.NDArray[np.float32]) -> Tokens:
        """See `Running.follow`."""
        import torch

        self._open(len(first)).reset(torch.from_numpy(first).to(self._device))
        return self._write(len(noise), torch.from_numpy(noise).to(self._device))

    def read(self, tokens: Tokens) -> None:
        """See `Running.read`. Step by step, not captured."""
        import torch

        with torch.inference_mode():
            states = _zeros(self.card, len(tokens), self._device)
            for token in torch.from_numpy(np.ascontiguousarray(tokens.T)).to(self._device):
                _, states = self._advance(token, states)
            states[0].cpu()  # the host waits

    def logits(self, tokens: Tokens) -> npt.NDArray[np.float32]:
        """See `Running.logits`."""
        import torch

        predicted = []
        with torch.inference_mode():
            states = _zeros(self.card, len(tokens), self._device)
            for token in torch.from_numpy(np.ascontiguousarray(tokens.T)).to(self._device):
                logits, states = self._advance(token, states)
                predicted.append(logits)
            result: npt.NDArray[np.float32] = torch.stack(predicted, dim=1).cpu().numpy()
        return result

    def close(self) -> None:
        """See `Running.close`."""
        self._buffers = None
        del self._advance

    def _open(self, batch: int) -> _Buffers:
        if self._buffers is None or len(self._buffers.token) != batch:
            self._buffers = None  # its memory goes back first
            self._buffers = _Buffers(self.card, self._advance, batch, self._device, self._capture)
        return self._buffers

    def _write(self, count: int, noise: Tensor | None = None) -> Tokens:
        """Write from where the buffers are, with noise ``[count, batch, vocab]`` or drawing it."""
        import torch

        buffers, done = self._buffers, 0
        assert buffers is not None
        pieces = [buffers.written[:0]]
        with torch.inference_mode():
            while done < count:
                steps = GRAPH_STEPS if count - done >= GRAPH_STEPS else 1
                if noise is None:
                    buffers.noise[:steps].exponential_(generator=self._generator).log_().neg_()
                else:
                    buffers.noise[:steps] = noise[done : done + steps]
                buffers.replay[steps]()
                pieces.append(buffers.written[:steps].clone())
                done += steps
            return np.ascontiguousarray(torch.cat(pieces).cpu().numpy().T)


class _Buffers:
    """What the graphs of one batch size read and write.

    Attributes:
        token: int64 ``[batch]``, the newest.
        noise: float32 ``[GRAPH_STEPS, batch, vocab]``.
        written: int64 ``[GRAPH_STEPS, batch]``.
        replay: runs so many steps: 1 or `GRAPH_STEPS`.
    """

    def __init__(
        self, card: Card, advance: Advance, batch: int, device: torch.device, capture: Capture
    ) -> None:
        import torch

        with torch.inference_mode():
            self.token = torch.zeros(batch, dtype=torch.int64, device=device)
            self.noise = torch.zeros(GRAPH_STEPS, batch, card.vocab, device=device)
            self.written = torch.zeros(GRAPH_STEPS, batch, dtype=torch.int64, device=device)
            self._states = _zeros(card, batch, device)
            self._advance = advance
            self.replay = {steps: capture(functools.partial(self._run, steps)) for steps in (1, GRAPH_STEPS)}

    def reset(self, first: Tensor) -> None:
        """Zero state, and the tokens ``[batch]`` to begin with."""
        import torch

        with torch.inference_mode():
            self.token.copy_(first)
            for state in self._states:
                state.zero_()

    def _run(self, steps: int) -> None:
        token, states = self.token, self._states
        for index in range(steps):
            logits, states = self._advance(token, states)
            token = (logits + self.noise[index]).argmax(dim=1)
            self.written[index] = token
        self.token.copy_(token)
        for old, new in zip(self._states, states, strict=True):
            old.copy_(new)


def _zeros(card: Card, batch: int, device: torch.device) -> States:
    import torch

    return tuple(torch.zeros(batch, card.hidden, device=device) for _ in card.state_names)


def prepare_cuda() -> None:
    """See that PyTorch reaches the GPU, and computes in float32 where that is asked for."""
    import torch

    if not torch.cuda.is_available():
        raise BackendMissing("this PyTorch was built without CUDA, or does not fit the driver")
    # cuDNN's recurrent layers would otherwise round their inputs to TF32, with 10 bits of mantissa.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def captured(body: Callable[[], None]) -> Callable[[], None]:
    """A function's kernels as a CUDA graph; libraries set themselves up before, not while it is captured."""
    import torch

    for _ in range(3):
        body()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        body()
    replay: Callable[[], None] = graph.replay
    return replay
