"""A step graph on one of ONNX Runtime's GPU providers, its state on the device from call to call.

The step and the choice after it are one graph, run once per character. Tokens, noise and states are
bound to memory on the device: a run reads its token where the run before wrote it, so the host has a block of
noise made there (or sends it, where it cannot be), receives a block of tokens, and copies nothing in between.
Two sets of states change places with every step.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract.arguments import (
    check_batch,
    check_decode,
    check_draw,
    check_owner,
    check_snapshot,
    check_tokens,
)
from ...contract.codec import Tokens
from ...contract.engine import Snapshot, predictions
from ...contract.errors import ContractError, P2Error
from ...contract.finite import check_computed, top_state
from ...contract.noise import Address
from ...contract.sampling import Floats, Sampling, write
from ..gpu_device import Device
from ..gpu_noise import DeviceNoise, draw_on_host, noise_on
from ..onnx_format import Graph, Node, Value, encode_model
from ..onnx_tensors import FLOAT, FLOAT16, INT64
from ..step_file import StepFile
from ..step_rewritten import check_changed
from .gpu_state import SLOTS, Block, GpuState, Memory
from .providers import PROVIDERS, Provider, open_session, require
from .session import answering

_FLOAT_TYPES: dict[int, np.dtype[Any]] = {FLOAT: np.dtype(np.float32), FLOAT16: np.dtype(np.float16)}


# Puts the noise of `steps` steps from `start` on into the rows of a block from `slot` on.
_Fill = Callable[[Block, int, int, int], None]


class OnnxGpuEngine:
    """`contract.engine.DrawingEngine` on a GPU provider of ONNX Runtime.

    The state is a `GpuState`, which only this engine reads; a snapshot of it fits any backend.

    Top-k, top-p and min-p are applied on the host, which then waits for every character.

    Args:
        step: a checked step graph.
        provider: where it runs.
        device: the same GPU, for the noise; opened when it is needed unless given. `close` closes it.

    Raises:
        BackendMissing: the provider is not here, or does not take the graph.
        ContractError: the states are of a type that numpy cannot hold.
    """

    def __init__(self, step: StepFile, provider: Provider, device: Device | None = None) -> None:
        require(provider)
        if step.float_type not in _FLOAT_TYPES:
            raise ContractError(
                f"{step.path} keeps its states in a type that ONNX Runtime's GPU engine does not read back:"
                " export it in float32 or float16"
            )
        self.card = step.card
        self.name = f"ONNX Runtime {step.card.precision} ({provider.title})"
        self.path = step.path
        self._provider = provider
        self._memory = Memory(provider)
        self._device = device
        self._model: bytes | None = encode_model(_step_and_choice(step), step.opset)
        self._float = _FLOAT_TYPES[step.float_type]
        self._sessions: dict[int | None, Any] = {}
        self._blocks: weakref.WeakValueDictionary[int, Block] = weakref.WeakValueDictionary()
        self._session(1)
        check_changed(step, self)

    def zero_state(self, batch: int) -> GpuState:
        """Zeros for `batch` streams."""
        batch = check_batch(batch)
        return self._state({name: self._zeros(batch) for name in self.card.state_names})

    def feed(self, state: GpuState, tokens: Tokens, *, logits: bool = False) -> Floats | None:
        """Advance over known tokens, int64 ``[batch, length]``; see `Engine.feed`."""
        batch = check_owner(state, GpuState, self._memory)
        length = check_tokens(self.card, tokens, batch).shape[1]
        block, vocab = state.block, self.card.vocab
        result = np.empty((batch, length, vocab), np.float32) if logits else None
        done = 0
        while done < length:
            begin = state.current
            count = min(SLOTS - begin, length - done)
            block.host_tokens[begin : begin + count, :batch] = tokens[:, done : done + count].T
            self._memory.put(block.tokens, block.host_tokens)
            self._run("feed", state, count)
            if result is not None:
                rows = self._memory.get(block.logits, block.host_floats)[begin : begin + count]
                values = rows[:, : batch * vocab].reshape(count, batch, vocab)
                result[:, done : done + count] = values.swapaxes(0, 1)
            done += count
        if logits:
            self._check(state, result)
        return result

    def decode(self, state: GpuState, last: Tokens, noise: Floats, sampling: Sampling) -> Tokens:
        """Write ``len(noise)`` characters per stream; see `Engine.decode`."""
        batch = check_owner(state, GpuState, self._memory)
        check_decode(self.card, batch, last, noise, sampling)
        if sampling.filters:
            return self._decode_on_host(state, last, noise, sampling)

        def fill(block: Block, slot: int, start: int, steps: int) -> None:
            rows = noise[start : start + steps].reshape(steps, -1)
            block.host_floats[slot : slot + steps, : rows.shape[1]] = rows
            self._memory.put(block.noise, block.host_floats)

        return self._write(state, last, len(noise), fill)

    def draw(self, state: GpuState, last: Tokens, address: Address, count: int, sampling: Sampling) -> Tokens:
        """Write `count` characters per stream with noise that the GPU makes; see `DrawingEngine.draw`."""
        batch = check_owner(state, GpuState, self._memory)
        address, count = check_draw(self.card, batch, last, address, count, sampling)
        if sampling.greedy:

            def silence(block: Block, _slot: int, start: int, _steps: int) -> None:
                if start == 0:
                    block.host_floats[:] = 0
                    self._memory.put(block.noise, block.host_floats)

            return self._write(state, last, count, silence)
        kernel = None if sampling.filters else self._noise
        if kernel is None:
            return draw_on_host(self, state, last, address, count, sampling)
        source = kernel.source(address, sampling.temperature, self.card.vocab)

        def make(block: Block, slot: int, start: int, steps: int) -> None:
            row = block.host_floats.shape[1]
            source(int(block.noise.data_ptr()) + slot * row * 4, start, steps, row)
            kernel.finish()  # ONNX Runtime has a stream of its own

        return self._write(state, last, count, make)

    def snapshot(self, state: GpuState) -> Snapshot:
        """A copy of the state, float32 whatever the graph's type."""
        like = self._zeros(check_owner(state, GpuState, self._memory))
        values = state.sets[state.current].items()
        return {name: self._memory.get(value, like).astype(np.float32) for name, value in values}

    def restore(self, snapshot: Snapshot) -> GpuState:
        """A state equal to a snapshot, of this or another backend.

        Raises:
            ContractError: the snapshot is of another model.
        """
        check_snapshot(self.card, snapshot)
        names = self.card.state_names
        return self._state({name: np.ascontiguousarray(snapshot[name], self._float) for name in names})

    def close(self) -> None:
        """Drop the session, and with it the weights."""
        self._sessions.clear()
        self._model = None
        if self._device is not None:
            self._device.close()

    def _write(self, state: GpuState, last: Tokens, count: int, fill: _Fill) -> Tokens:
        batch, block, done = state.batch, state.block, 0
        written = np.empty((batch, count), np.int64)
        while done < count:
            begin = state.current
            steps = min(SLOTS - begin, count - done)
            block.host_tokens[begin, :batch] = last
            self._memory.put(block.tokens, block.host_tokens)
            fill(block, begin, done, steps)
            self._run("decode", state, steps)
            rows = self._memory.get(block.tokens, block.host_tokens)[begin + 1 : begin + 1 + steps]
            written[:, done : done + steps] = rows[:, :batch].T
            last = written[:, done + steps - 1]
            done += steps
        self._check(state, written)
        return written

    @functools.cached_property
    def _noise(self) -> DeviceNoise | None:
        """What makes the noise on the GPU; None where nothing can."""
        if self._device is None and self._provider.device == "cuda":
            with contextlib.suppress(P2Error):
                self._device = Device()
        return noise_on(self._device) if self._device else None

    def _decode_on_host(self, state: GpuState, last: Tokens, noise: Floats, sampling: Sampling) -> Tokens:
        return write(lambda tokens: predictions(self, tokens[:, None], state)[:, 0], last, noise, sampling)

    def _zeros(self, batch: int) -> npt.NDArray[Any]:
        return np.zeros((batch, self.card.hidden), self._float)

    def _state(self, arrays: dict[str, npt.NDArray[Any]]) -> GpuState:
        batch = len(next(iter(arrays.values())))
        block = self._blocks.get(batch)
        if block is None:
            block = self._blocks[batch] = Block(self._memory, batch, self.card.vocab)
        first = {name: self._memory.new(array) for name, array in arrays.items()}
        second = {name: self._memory.new(array) for name, array in arrays.items()}
        return GpuState(batch, (first, second), block, self._memory)

    def _session(self, batch: int) -> Any:
        key = batch if self._provider.fixed else None
        if key not in self._sessions:
            assert self._model is not None, "the engine is closed"
            self._sessions.clear()  # the weights of another batch size need not stay on the device
            self._sessions[key] = open_session(self._provider, self._model, key, str(self.path))
        return self._sessions[key]

    def _run(self, kind: str, state: GpuState, count: int) -> None:
        """Run the step in the next `count` slots."""
        session = self._session(state.batch)
        with answering(f"{self.name} could not run {self.path}", P2Error):
            bound, kept = state.bindings.get(kind, (None, []))
            if bound is not session:
                kept = [self._bind(session, kind, state, slot) for slot in range(SLOTS)]
                state.bindings[kind] = session, kept
            for slot in range(state.current, state.current + count):
                session.run_with_iobinding(kept[slot])
        state.current = (state.current + count) % 2

    def _check(self, state: GpuState, result: Any) -> None:
        top = state.sets[state.current][top_state(self.card)]
        check_computed(self.card, self._memory.get(top, self._zeros(state.batch)), self.name, result)

    def _bind(self, session: Any, kind: str, state: GpuState, slot: int) -> Any:
        """Bind everything that the step in this slot reads and writes."""
        block, batch, vocab = state.block, state.batch, self.card.vocab
        device = self._provider.device
        binding = session.io_binding()

        def address(value: Any, host: npt.NDArray[Any], row: int) -> int:
            return int(value.data_ptr()) + row * host.strides[0]

        def take(name: str, kind_: type, shape: tuple[int, ...], where: int) -> None:
            binding.bind_input(name, device, 0, kind_, shape, where)

        def give(name: str, kind_: type, shape: tuple[int, ...], where: int) -> None:
            binding.bind_output(name, device, 0, kind_, shape, where)

        after = slot + 1 if kind == "decode" else SLOTS + 1
        take("token", np.int64, (batch,), address(block.tokens, block.host_tokens, slot))
        take("noise_now", np.float32, (batch, vocab), address(block.noise, block.host_floats, slot))
        give("next", np.int64, (batch,), address(block.tokens, block.host_tokens, after))
        give("logits", np.float32, (batch, vocab), address(block.logits, block.host_floats, slot))
        for name in self.card.state_names:
            binding.bind_ortvalue_input(f"{name}_in", state.sets[slot % 2][name])
            binding.bind_ortvalue_output(f"{name}_out", state.sets[1 - slot % 2][name])
        return binding


def _step_and_choice(step: StepFile) -> Graph:
    """The exported step with ``next = argmax(logits + noise_now)`` after it."""
    noise = Value("noise_now", FLOAT, ("batch", step.card.vocab))
    nodes = [
        *step.graph.nodes,
        Node.make("Add", ["logits", "noise_now"], ["noisy_logits"]),
        Node.make("ArgMax", ["noisy_logits"], ["next"], axis=1, keepdims=0),
    ]
    inputs = [value for value in step.graph.inputs if value.name not in step.graph.tensors]
    outputs = [*step.graph.outputs, Value("next", INT64, ("batch",))]
    return Graph(nodes, step.graph.tensors, [*inputs, noise], outputs)


def open_on(step: StepFile, backend: str) -> OnnxGpuEngine:
    """Load a step graph onto a GPU.

    Args:
        step: a checked step graph.
        backend: a key of `PROVIDERS`.

    Raises:
        P2Error: the provider is not here, or does not take it.
    """
    return OnnxGpuEngine(step, PROVIDERS[backend])
