"""Run a plan: TensorRT or TensorRT-RTX on the first GPU, the state on the device.

Each state tensor has two buffers: a step reads one and writes the other, then they change places,
so no kernel ever writes what another still reads.

There are two ways to write. A plan that chooses (`contract.choice`) does so in a CUDA graph of many steps
(`device_loop`), and reads long texts in another. Step by step, tokens go up, logits come down, and the host
chooses with `contract.sampling.write`, the definition that every backend matches: for plans that do not
choose, and to compare the other way with.
"""

from __future__ import annotations

import functools
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from ...contract.arguments import (
    check_batch,
    check_decode,
    check_draw,
    check_owner,
    check_snapshot,
    check_tokens,
)
from ...contract.choice import FILTER_COLUMNS, FILTERS, NEXT, NOISE, filter_row
from ...contract.codec import Tokens
from ...contract.engine import Snapshot
from ...contract.errors import BackendMissing
from ...contract.finite import check_computed, top_state
from ...contract.noise import Address
from ...contract.plan import FLAVOURS
from ...contract.sampling import Floats, Sampling, write
from ...contract.shell import command
from .. import nvidia
from ..gpu_device import Device
from ..gpu_memory import Scratch, Staging
from ..gpu_noise import DeviceNoise, Fill, draw_on_host, noise_on
from ..nvidia import aligned
from .device_loop import DeviceLoop
from .plan_file import Plan, check_gpu, library_for, read_plan
from .step import CompiledStep

# Characters from which reading records a graph: some tens of milliseconds, for 30 to 80 us less a character.
# Reckoned: TensorRT 8.6 on an H100 reads one in 53 to 116 us step by step, and writes one in 20 to 39.
READ = 512
_CHUNK_STEPS = 1024  # steps whose tokens go up in one copy
_CHUNK_BYTES = 64 << 20  # device memory for the logits of a chunk


def open_plan(path: Path, asked: str | None = None, *, step_by_step: bool = False) -> PlanEngine:
    """Load a plan onto the GPU.

    Nothing here can end the process: files are checked first, then what is installed, then
    whether there is a GPU, and only then is a library asked to load the plan.

    Args:
        path: the ``.plan`` file, its sidecar beside it.
        asked: the name by which the person asked for it, where that is not the path.
        step_by_step: let the host choose every character, as with a plan that does not choose.

    Raises:
        ContractError: the file or its sidecar is damaged, or breaks the step contract.
        BackendMissing: its library or a GPU is not here.
        P2Error: a file cannot be read, or TensorRT does not load the plan.
    """
    with nvidia.waking():
        plan = read_plan(path)
        gpus = nvidia.gpus()
        if not gpus.devices and not any(map(nvidia.installed, FLAVOURS.values())):
            raise _no_gpu(path, asked)  # installing TensorRT would not be enough
        library = library_for(path, plan.header, plan.sidecar.version_compatible)
        if not gpus.devices:
            raise _no_gpu(path, asked)
        check_gpu(path, plan.sidecar, gpus)
    return PlanEngine(plan, library, Device(), gpus.devices[0].name, step_by_step=step_by_step)


def _no_gpu(path: Path, asked: str | None) -> BackendMissing:
    name = Path(asked) if asked else path
    need = f"{name} needs an NVIDIA GPU and there is none here"
    if path.with_suffix(".onnx").exists():
        other = command("p2", "generate", "--engine", str(name.with_suffix(".onnx")))
        return BackendMissing(f"{need}: {other} runs the same model on this machine")
    return BackendMissing(f"{need}: p2 export --engine none writes an .onnx file, which runs on any machine")


class PlanState:
    """One batch of streams on the device.

    Attributes:
        batch: number of streams.
        owner: the device of the engine that made it, which has no other.
        buffers: two sets of addresses by state name, each a ``[batch, hidden]`` tensor of the
            engine's float type.
        current: which of the two sets holds the state now.
    """

    def __init__(self, batch: int, buffers: tuple[dict[str, int], dict[str, int]], owner: Device) -> None:
        self.batch = batch
        self.owner = owner
        self.buffers = buffers
        self.current = 0


class PlanEngine:
    """A loaded plan: the `contract.engine.DrawingEngine` of TensorRT and TensorRT-RTX."""

    def __init__(
        self, plan: Plan, library: nvidia.Library, device: Device, gpu: str, *, step_by_step: bool = False
    ) -> None:
        """Load the plan onto `device`, which the engine closes with itself.

        Args:
            plan: the plan.
            library: the library that built it.
            device: where it runs.
            gpu: the device's name.
            step_by_step: let the host choose every character.

        Raises:
            P2Error: the GPU has too little memory, or as `CompiledStep`.
        """
        self.card = plan.sidecar.card
        self.name = f"{library} {self.card.precision} ({gpu})"
        self._path = plan.path
        self._device = device
        self._scratch, self._staging = Scratch(device), Staging(device)
        self._loop: DeviceLoop | None = None
        try:
            device.require(plan.sidecar.plan_bytes)
            self._compiled = CompiledStep(plan, library, gpu)
        except BaseException:
            device.close()
            raise
        self._on_device = self._compiled.chooses and not step_by_step

    def zero_state(self, batch: int) -> PlanState:
        """A state of zeros for `batch` independent streams.

        Raises:
            UsageError: the plan was not built for that batch.
            P2Error: the GPU is out of memory.
        """
        state, base, nbytes = self._new_state(check_batch(batch))
        self._device.zero(base, nbytes)
        return state

    def feed(self, state: PlanState, tokens: Tokens, *, logits: bool = False) -> Floats | None:
        """Advance `state` over known tokens (see `contract.engine.Engine.feed`)."""
        batch, vocab = check_owner(state, PlanState, self._device), self.card.vocab
        length = check_tokens(self.card, tokens, batch).shape[1]
        result = np.empty((batch, length, vocab), np.float32) if logits else None
        if length >= READ and self._on_device and self._reads_recorded(batch):
            self._loop_for(batch).read(state.buffers[state.current], tokens, result)
            if logits:
                self._check(state, result)
            return result
        token_type = self._compiled.token_type
        token_row, logits_row = aligned(batch * token_type.itemsize), aligned(batch * vocab * 4)
        steps = max(1, min(length, _CHUNK_STEPS, _CHUNK_BYTES // logits_row))
        token_base = self._scratch.reserve("token", steps * token_row)
        logits_base = self._scratch.reserve("logits", steps * logits_row if logits else logits_row)
        stride = logits_row if logits else 0  # unwanted logits all go to the same place
        for start in range(0, length, steps):
            count = min(steps, length - start)
            rows = self._staging.array("token", (count, token_row // token_type.itemsize), token_type)
            rows[:, :batch] = tokens[:, start : start + count].T
            self._device.upload(token_base, rows)
            for index in range(count):
                self._step(state, token_base + index * token_row, logits_base + index * stride)
            if result is None:
                self._device.synchronize()
                continue
            values = np.empty((count, logits_row // 4), np.float32)
            self._device.download(values, logits_base)
            values = values[:, : batch * vocab].reshape(count, batch, vocab)
            result[:, start : start + count] = values.swapaxes(0, 1)
        if logits:
            self._check(state, result)
        return result

    def decode(self, state: PlanState, last: Tokens, noise: Floats, sampling: Sampling) -> Tokens:
        """Write `count` characters per stream (see `contract.engine.Engine.decode`)."""
        batch = check_owner(state, PlanState, self._device)
        check_decode(self.card, batch, last, noise, sampling)
        if self._on_device:

            def fill(out: int, start: int, steps: int, row: int) -> None:
                rows = np.zeros((steps, row), np.float32)
                rows[:, : batch * self.card.vocab] = noise[start : start + steps].reshape(steps, -1)
                self._device.upload(out, rows)

            return self._write(state, last, len(noise), fill, sampling)
        logits = np.empty((state.batch, self.card.vocab), np.float32)
        token_type = self._compiled.token_type
        token_address = self._scratch.reserve("token", state.batch * token_type.itemsize)
        logits_address = self._scratch.reserve("logits", logits.nbytes)

        def predict(tokens: Tokens) -> Floats:
            self._device.upload(token_address, np.ascontiguousarray(tokens, token_type))
            self._step(state, token_address, logits_address)
            self._device.download(logits, logits_address)
            return logits

        written = write(predict, last, noise, sampling)
        self._check(state, written)
        return written

    def draw(
        self, state: PlanState, last: Tokens, address: Address, count: int, sampling: Sampling
    ) -> Tokens:
        """Write `count` characters per stream with noise that the GPU makes (see `DrawingEngine.draw`)."""
        batch = check_owner(state, PlanState, self._device)
        address, count = check_draw(self.card, batch, last, address, count, sampling)
        if self._on_device and sampling.greedy:

            def silence(out: int, start: int, steps: int, row: int) -> None:
                if start == 0:
                    self._device.zero(out, steps * row * 4)

            return self._write(state, last, count, silence, sampling)
        if self._on_device and self._noise is not None:
            fill = self._noise.source(address, sampling.temperature, self.card.vocab)
            return self._write(state, last, count, fill, sampling)
        return draw_on_host(self, state, last, address, count, sampling)

    def snapshot(self, state: PlanState) -> Snapshot:
        """A copy of `state`: float32 ``[batch, hidden]`` per state name, whatever the engine's type."""
        check_owner(state, PlanState, self._device)
        snapshot: Snapshot = {}
        for name, address in state.buffers[state.current].items():
            values = np.empty((state.batch, self.card.hidden), self._compiled.float_type)
            self._device.download(values, address)
            snapshot[name] = values.astype(np.float32)
        return snapshot

    def restore(self, snapshot: Snapshot) -> PlanState:
        """A state equal to a snapshot, of this or another backend.

        Raises:
            ContractError: the snapshot is of another model.
            UsageError: the plan was not built for its batch.
        """
        state, _, _ = self._new_state(check_snapshot(self.card, snapshot))
        for name, address in state.buffers[0].items():
            self._device.upload(address, np.ascontiguousarray(snapshot[name], self._compiled.float_type))
        self._device.synchronize()
        return state

    def close(self) -> None:
        """Give back everything on the GPU; the engine cannot be used afterwards."""
        if self._loop is not None:
            self._loop.close()
            self._loop = None
        self._compiled.close()
        self._device.close()

    def _write(self, state: PlanState, last: Tokens, count: int, fill: Fill, sampling: Sampling) -> Tokens:
        filters = np.tile(filter_row(sampling, self.card.vocab), (state.batch, 1))
        written = self._loop_for(state.batch).write(state.buffers[state.current], last, count, fill, filters)
        self._check(state, written)
        return written

    def _check(self, state: PlanState, result: Any) -> None:
        top = np.empty((state.batch, self.card.hidden), self._compiled.float_type)
        self._device.download(top, state.buffers[state.current][top_state(self.card)])
        check_computed(self.card, top, self.name, result)

    @functools.cached_property
    def _noise(self) -> DeviceNoise | None:
        return noise_on(self._device)

    def _reads_recorded(self, batch: int) -> bool:
        """Whether a graph of this batch is there, or soon made."""
        there = self._loop is not None and self._loop.batch == batch
        return there or not self._compiled.compiles_for(batch)

    def _new_state(self, batch: int) -> tuple[PlanState, int, int]:
        """A state with its contents undefined, its first address and its size in bytes."""
        self._compiled.profile_for(batch)
        names = self.card.state_names
        each = aligned(batch * self.card.hidden * self._compiled.float_type.itemsize)
        nbytes = 2 * len(names) * each
        base = self._device.allocate(nbytes)
        first = {name: base + index * each for index, name in enumerate(names)}
        second = {name: address + len(names) * each for name, address in first.items()}
        state = PlanState(batch, (first, second), self._device)
        # When nobody holds the state any more; at the end of the process the driver cleans up.
        weakref.finalize(state, self._device.free, base).atexit = False
        return state, base, nbytes

    def _loop_for(self, batch: int) -> DeviceLoop:
        """The loop of this batch; only the last one is kept."""
        if self._loop is None or self._loop.batch != batch:
            if self._loop is not None:
                self._loop.close()
            self._loop = None  # its memory goes back first
            self._loop = DeviceLoop(self._compiled, self._device, self.card, batch)
        return self._loop

    def _step(self, state: PlanState, token: int, logits: int) -> None:
        """Enqueue one step; `token` and `logits` are addresses on the device."""
        source, target = state.buffers[state.current], state.buffers[1 - state.current]
        addresses = {"token": token, "logits": logits}
        addresses |= {f"{name}_in": address for name, address in source.items()}
        addresses |= {f"{name}_out": address for name, address in target.items()}
        if self._compiled.chooses:  # what is chosen here goes nowhere
            widths = {
                NOISE: 4 * self.card.vocab,
                FILTERS: 4 * len(FILTER_COLUMNS),
                NEXT: self._compiled.token_type.itemsize,
            }
            addresses |= {
                name: self._scratch.reserve(name, state.batch * width) for name, width in widths.items()
            }
        self._compiled.run(state.batch, addresses, self._device.stream)
        state.current = 1 - state.current
