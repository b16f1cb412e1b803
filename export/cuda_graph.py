"""A checkpoint on an NVIDIA GPU without TensorRT: the exported step as a PyTorch CUDA graph.

The module that export traces (`step.Step`) is captured instead, many steps at a time, with the choice of
each character behind it: state, token and characters stay on the device, and the host launches once for
`STEPS` characters. For GPUs that have no TensorRT, and the one to beat for those that have.

    p2 generate --engine artifacts/charlm --backend cuda-graph
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..contract.arguments import check_batch, check_decode, check_tokens
from ..contract.card import Card
from ..contract.choice import filter_row
from ..contract.codec import Tokens
from ..contract.engine import Snapshot
from ..contract.errors import BackendMissing, P2Error
from ..contract.finite import check_computed, top_state
from ..contract.sampling import Floats, Sampling
from ..runtime import nvidia
from ..trainer import checkpoint
from ..trainer.model import State
from ..trainer.tensor_state import TensorState, TensorStates, batch_of
from .fold import fold
from .step import Step

# Characters per launch: a launch costs the host about as much as a few kernels.
STEPS = 64

_FEED_NUMBERS = 1 << 24  # logits that wait on the device: bounds the memory of a long prompt

Body = Callable[[], None]
Capture = Callable[[Body], Body]


class CudaGraphEngine(TensorStates):
    """`contract.engine.Engine` over PyTorch CUDA graphs, in float32.

    Args:
        card: the model.
        step: its step, on the device.
        name: the device, for people.
        capture: makes a function repeat what another does to its buffers, without running it now.
    """

    def __init__(self, card: Card, step: Step, name: str, capture: Capture) -> None:
        self.card = card
        self.name = f"PyTorch CUDA graphs ({name})"
        self._loaded: Step | None = step
        self._device = step.get_parameter("w_out").device
        self._capture = capture
        self._loop: _Loop | None = None

    def zero_state(self, batch: int) -> TensorState:
        """See `Engine.zero_state`.

        Raises:
            P2Error: the GPU is out of memory.
        """
        batch = check_batch(batch)
        with _memory():
            return TensorState(_zeros(self.card, batch, self._device))

    @torch.inference_mode()
    def feed(self, state: TensorState, tokens: Tokens, *, logits: bool = False) -> Floats | None:
        """See `Engine.feed`. Step by step, not captured.

        Raises:
            UsageError: a token lies outside the vocabulary.
            P2Error: the GPU is out of memory.
        """
        batch = batch_of(self.card, state)
        length = check_tokens(self.card, tokens, batch).shape[1]
        outputs = np.empty((batch, length, self.card.vocab), np.float32) if logits else None
        chunk = max(1, _FEED_NUMBERS // (batch * self.card.vocab))
        with _memory():
            for start in range(0, length, chunk):
                columns = np.ascontiguousarray(tokens[:, start : start + chunk].T)
                predicted = []
                for token in torch.from_numpy(columns).to(self._device):
                    now, *new = self._step(token, *state.tensors.values())
                    state.tensors = dict(zip(state.tensors, new, strict=True))
                    if logits:
                        predicted.append(now)
                if outputs is not None:
                    outputs[:, start : start + chunk] = torch.stack(predicted, dim=1).cpu().numpy()
            self._check(state, outputs)
        return outputs

    @torch.inference_mode()
    def decode(self, state: TensorState, last: Tokens, noise: Floats, sampling: Sampling) -> Tokens:
        """See `Engine.decode`. The first call for a batch size captures its graphs.

        Raises:
            UsageError: a token lies outside the vocabulary.
            P2Error: the GPU is out of memory.
        """
        batch = batch_of(self.card, state)
        check_decode(self.card, batch, last, noise, sampling)
        if len(noise) == 0:
            return np.empty((batch, 0), np.int64)
        with _memory():
            if self._loop is None or self._loop.batch != batch:
                self._loop = None  # its memory goes back first
                self._loop = _Loop(self.card, self._step, batch, self._device, self._capture)
            written, state.tensors = self._loop.write(state.tensors, last, noise, sampling)
            tokens = np.ascontiguousarray(written.cpu().numpy().T)
            self._check(state, tokens)
            return tokens

    def restore(self, snapshot: Snapshot) -> TensorState:
        """See `Engine.restore`.

        Raises:
            ContractError: the snapshot is not of a model of this shape.
            P2Error: the GPU is out of memory.
        """
        with _memory():
            return super().restore(snapshot)

    def close(self) -> None:
        """See `Engine.close`."""
        self._loop = None
        self._loaded = None

    def _check(self, state: TensorState, result: Any) -> None:
        check_computed(self.card, state.tensors[top_state(self.card)].cpu().numpy(), self.name, result)

    @property
    def _step(self) -> Step:
        if self._loaded is None:
            raise RuntimeError("the engine is closed")
        return self._loaded


class _Loop:
    """What the graphs of one batch size read and write: a graph keeps the addresses it was captured with."""

    def __init__(self, card: Card, step: Step, batch: int, device: torch.device, capture: Capture) -> None:
        self.batch = batch
        self._step = step
        self._capture = capture
        self._token = torch.zeros(batch, dtype=torch.int64, device=device)
        self._noise = torch.zeros(STEPS, batch, card.vocab, device=device)
        self._written = torch.zeros(STEPS, batch, dtype=torch.int64, device=device)
        self._filters = torch.ones(batch, 4, device=device)
        self._states = _zeros(card, batch, device)
        self._graphs: dict[tuple[int, bool], Body] = {}

    def write(self, states: State, last: Tokens, noise: Floats, sampling: Sampling) -> tuple[Tensor, State]:
        """The new tokens, int64 ``[count, batch]`` on the device, and the new states."""
        count, filters = len(noise), sampling.filters
        sizes = [STEPS] * (count // STEPS) + [1] * (count % STEPS)
        for steps in set(sizes):
            self._prepare(steps, filters)  # it uses the buffers, so before they are filled
        for name, buffer in self._states.items():
            buffer.copy_(states[name])
        self._token.copy_(torch.from_numpy(np.ascontiguousarray(last, np.int64)))
        self._filters.copy_(torch.from_numpy(filter_row(sampling, noise.shape[2])))
        pieces, done = [], 0
        for steps in sizes:
            self._noise[:steps].copy_(torch.from_numpy(np.ascontiguousarray(noise[done : done + steps])))
            self._graphs[steps, filters]()
            pieces.append(self._written[:steps].clone())
            done += steps
        return torch.cat(pieces), {name: buffer.clone() for name, buffer in self._states.items()}

    def _prepare(self, steps: int, filters: bool) -> None:
        """Capture so many steps, and make sure that this ran none of them."""
        if (steps, filters) in self._graphs:
            return

        def body() -> None:
            self._run(steps, filters)

        body()  # libraries set themselves up now: they may not while it is captured
        buffers = (self._token, self._written, *self._states.values())
        before = [buffer.clone() for buffer in buffers]
        graph = self._capture(body)
        pairs = zip(buffers, before, strict=True)
        if not all(torch.allclose(*pair, rtol=0, atol=0, equal_nan=True) for pair in pairs):
            raise P2Error(
                "recording the CUDA graph has run the step and changed the state, so no text of it could be"
                " trusted: update PyTorch or the NVIDIA driver, or run without --backend cuda-graph"
            )
        self._graphs[steps, filters] = graph

    def _run(self, steps: int, filters: bool) -> None:
        token, states = self._token, tuple(self._states.values())
        for index in range(steps):
            logits, *new = self._step(token, *states)  # new tensors: nothing is read after it is written
            states = tuple(new)
            if filters:
                logits = _filtered(logits, self._filters)
            token = (logits + self._noise[index]).argmax(dim=1)
            self._written[index].copy_(token)
        self._token.copy_(token)
        for buffer, state in zip(self._states.values(), states, strict=True):
            buffer.copy_(state)


def _filtered(logits: Tensor, filters: Tensor) -> Tensor:
    """`contract.sampling.threshold` and the masking after it.

    Args:
        logits: float32 ``[batch, vocab]``.
        filters: float32 ``[batch, 4]``, rows of `contract.choice.filter_row`.
    """
    tau, top_k, top_p, min_p = torch.split(filters, 1, dim=1)
    ordered = logits.sort(dim=1, descending=True).values
    weights = torch.exp((ordered - ordered[:, :1]) * tau)
    in_top_k = torch.arange(logits.shape[1], device=logits.device) < top_k
    probabilities = torch.where(in_top_k, weights, 0.0)
    probabilities = probabilities / probabilities.sum(dim=1, keepdim=True)
    before = torch.nn.functional.pad(probabilities[:, :-1].cumsum(dim=1), (1, 0))
    keep = in_top_k & (before < top_p) & (weights >= min_p)
    threshold = torch.where(keep, ordered, torch.inf).amin(dim=1, keepdim=True)
    return torch.where(logits >= threshold, logits, -torch.inf)


def open_cuda_graph(path: Path) -> CudaGraphEngine:
    """The engine of a checkpoint folder, or of a run folder's best checkpoint, on the first GPU.

    Raises:
        BackendMissing: there is no GPU, or PyTorch does not reach it.
        P2Error: there is no checkpoint, it is damaged, or the GPU is out of memory.
    """
    gpus = nvidia.gpus()
    if not gpus.devices:
        raise BackendMissing(
            f"--backend cuda-graph needs an NVIDIA GPU, and {gpus.problem} here: leave --backend out, or run"
            " an exported .onnx"
        )
    if not torch.cuda.is_available():
        raise BackendMissing(
            f"--backend cuda-graph needs a PyTorch that reaches the GPU, and PyTorch {torch.__version__} was"
            " built without CUDA or for a newer driver: pytorch.org says which to install"
        )
    torch.backends.cuda.matmul.allow_tf32 = False  # products of 10 bits are not float32
    found = checkpoint.load(path)
    with _memory():
        step = Step(found.card, fold(found.card, found.model_state)).eval().to("cuda")
    return CudaGraphEngine(found.card, step, gpus.devices[0].name, _captured)


def _captured(body: Body) -> Body:
    """The kernels of a function as a CUDA graph."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # on a stream of its own: nothing can be captured from the default one
        body()
    torch.cuda.synchronize()
    replay: Body = graph.replay
    return replay


def _zeros(card: Card, batch: int, device: torch.device) -> State:
    return {name: torch.zeros(batch, card.hidden, device=device) for name in card.state_names}


@contextlib.contextmanager
def _memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).split(". ")[0]
        raise P2Error(
            f"the GPU is out of memory ({reason}): use fewer streams, or a smaller model"
        ) from error
