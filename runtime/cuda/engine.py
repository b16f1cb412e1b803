"""p2's own decoder for NVIDIA GPUs as an engine (`contract.engine.MixedEngine`)."""

from __future__ import annotations

import contextlib
import math
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract.arguments import (
    check_batch,
    check_decode,
    check_draw,
    check_draws,
    check_owner,
    check_snapshot,
    check_tokens,
)
from ...contract.card import Card
from ...contract.engine import Draw, Snapshot
from ...contract.errors import BackendMissing, P2Error
from ...contract.finite import check_computed
from ...contract.noise import Address
from ...contract.sampling import Sampling
from .. import cuda_core, nvidia, tuning
from ..gpu_device import Device
from ..gpu_memory import Staging
from ..step_file import StepFile
from . import compiler, geometry, packing
from .geometry import Geometry, Limits
from .job import Text
from .launches import Compile, Launcher, Option, Share

Tokens = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

# What a launch may hold of noise that is handed over, of predictions, and of states that they are made of.
HELD_BYTES = 64 << 20

# Of the ways to share a model another one has to be faster by this part; the number goes up where kernels
# change so much that what was found no longer holds.
MARGIN, TUNED = 0.03, 1

ON_PROCESSOR = "--backend native or onnxruntime-cpu runs the file on the processor"


def why_not(step: StepFile) -> str | None:
    """Why the decoder cannot run a step here; None if it can. Loads no library."""
    gpus = nvidia.gpus()
    reason = problem(gpus) or packing.why_not(step)
    if reason:
        return reason
    gpu = gpus.devices[0]
    limits = Limits(gpu.multiprocessors, gpu.shared_bytes, 10 * gpu.capability[0] + gpu.capability[1])
    try:
        _options(step, limits)
    except BackendMissing as error:
        return str(error)
    return None


def problem(gpus: nvidia.Gpus) -> str:
    """Why the decoder runs nothing on this machine; empty if it can. Loads no library."""
    if not gpus.devices:
        return f"it needs an NVIDIA GPU, and {gpus.problem}"
    name, capability = gpus.devices[0].name, gpus.devices[0].capability
    if 10 * capability[0] + capability[1] < geometry.OLDEST:
        return (
            f"it needs a GPU of compute capability 7.5 or newer, and this {name} has"
            f" {capability[0]}.{capability[1]}"
        )
    return compiler.missing()


def open_cuda(step: StepFile) -> CudaEngine:
    """Load a step onto the first GPU.

    Raises:
        BackendMissing: the decoder cannot run it here.
        P2Error: a CUDA call failed, or the kernels do not compile.
    """
    reason = problem(nvidia.gpus()) or packing.why_not(step)
    if reason:
        raise BackendMissing(f"the CUDA decoder cannot run {step.path}: {reason}; {ON_PROCESSOR}")
    with nvidia.waking():
        core = cuda_core.load()
    return CudaEngine(step, Device(core))


class CudaState:
    """One batch of texts on the device.

    Attributes:
        batch: number of texts.
        owner: the device of the engine that made it, which has no other.
        address: of float32 ``[kinds of states, layers, batch, padded hidden size]``.
        nbytes: of that.
    """

    def __init__(self, batch: int, owner: Device, address: int, nbytes: int) -> None:
        self.batch = batch
        self.owner = owner
        self.address = address
        self.nbytes = nbytes


class CudaEngine:
    """`contract.engine.MixedEngine` on the decoder in `kernels`.

    A batch is run in groups of texts, each in launches of about 50 ms. A text depends neither on the batch
    that it is written in, nor on the launches.

    Args:
        step: a step that `packing` knows.
        device: where it runs; the engine closes it with itself.
        compiled: what compiles kernels.

    Raises:
        BackendMissing: the GPU is too small for the model.
        P2Error: a CUDA call failed, or the kernels do not compile.
    """

    def __init__(self, step: StepFile, device: Device, compiled: Compile = compiler.compiled) -> None:
        self.card: Card = step.card
        self.path = step.path
        self._device, self._compiled = device, compiled
        self._staging = Staging(device)
        try:
            properties = device.properties
            capability = 10 * properties.capability[0] + properties.capability[1]
            self.name = f"CUDA {step.card.precision} ({properties.name})"
            self._limits = Limits(properties.multiprocessors, properties.shared_bytes, capability)
            self._share = self._choose(step)
            self._share.launcher(1)  # whatever does not fit or compile is said now
        except P2Error as error:
            device.close()
            raise type(error)(f"{error}; {ON_PROCESSOR}") from error
        except BaseException:
            device.close()
            raise

    def zero_state(self, batch: int) -> CudaState:
        """Zeros for `batch` texts.

        Raises:
            P2Error: the GPU is out of memory.
        """
        state = self._new_state(check_batch(batch))
        self._device.zero(state.address, state.nbytes)
        return state

    def feed(self, state: CudaState, tokens: Tokens, *, logits: bool = False) -> Floats | None:
        """Advance over known tokens, int64 ``[batch, length]``; see `Engine.feed`."""
        batch = check_owner(state, CudaState, self._device)
        length = check_tokens(self.card, tokens, batch).shape[1]
        result = np.empty((batch, length, self.card.vocab), np.float32) if logits else None
        for first, launcher, fields in self._groups(state):
            texts, done = launcher.texts(batch - first), 0
            own = slice(first, first + texts)
            each = 4 * texts * self.card.vocab + launcher.geometry.exchange_bytes
            while done < length:
                count = min(length - done, launcher.read_at_once())
                if logits:
                    count = max(1, min(count, HELD_BYTES // each))
                piece = slice(done, done + count)
                predicted = launcher.read(fields, tokens[own, piece], logits)
                if result is not None:
                    result[own, piece] = predicted
                done += count
        if logits:
            self._check(state, result)
        return result

    def decode(self, state: CudaState, last: Tokens, noise: Floats, sampling: Sampling) -> Tokens:
        """Write ``len(noise)`` characters per text; see `Engine.decode`."""
        batch = check_owner(state, CudaState, self._device)
        check_decode(self.card, batch, last, noise, sampling)
        return self._write(state, last, len(noise), [Draw(0, 0, 0, sampling)] * batch, noise)

    def draw(
        self, state: CudaState, last: Tokens, address: Address, count: int, sampling: Sampling
    ) -> Tokens:
        """Write `count` characters per text with noise that is made there; see `DrawingEngine.draw`."""
        batch = check_owner(state, CudaState, self._device)
        (seed, streams, position), count = check_draw(self.card, batch, last, address, count, sampling)
        draws = [Draw(seed, stream, position, sampling) for stream in streams]
        return self._write(state, last, count, draws)

    def draw_each(self, state: CudaState, last: Tokens, draws: Sequence[Draw], count: int) -> Tokens:
        """The same for texts of different seeds, positions and settings; see `MixedEngine.draw_each`."""
        batch = check_owner(state, CudaState, self._device)
        draws, count = check_draws(self.card, batch, last, draws, count)
        return self._write(state, last, count, draws)

    def snapshot(self, state: CudaState) -> Snapshot:
        """A copy of the state, float32 ``[batch, hidden]`` by name."""
        batch = check_owner(state, CudaState, self._device)
        values = np.empty((len(self.card.state_names), batch, self._share.width), np.float32)
        self._device.download(values, state.address)
        names = zip(self.card.state_names, values, strict=True)
        return {name: array[:, : self.card.hidden].copy() for name, array in names}

    def restore(self, snapshot: Snapshot) -> CudaState:
        """A state equal to a snapshot, of this or another backend.

        Raises:
            ContractError: the snapshot is of another model.
            P2Error: the GPU is out of memory.
        """
        batch = check_snapshot(self.card, snapshot)
        values = np.zeros((len(self.card.state_names), batch, self._share.width), np.float32)
        for name, array in zip(self.card.state_names, values, strict=True):
            array[:, : self.card.hidden] = snapshot[name]
        state = self._new_state(batch)
        self._device.upload(state.address, values)
        self._device.synchronize()
        return state

    def close(self) -> None:
        """Give back everything on the GPU; the engine cannot be used afterwards."""
        self._device.close()

    def _choose(self, step: StepFile) -> Share:
        """How the blocks share the model: measured once where that is not clear, and remembered."""
        device, limits = self._device, self._limits
        options = _options(step, limits)
        memory = tuning.Memory(self.card, f"{device.properties.name}, {limits}, CUDA, {TUNED}", 1)
        known = memory.layout()
        if known is not None and known < len(options):
            options = [options[known]]
        shares: dict[Option, Share] = {}

        def share(option: Option) -> Share:
            if option not in shares:
                shares[option] = Share(device, self._staging, step, limits, option, self._compiled)
            return shares[option]

        failed: set[Option] = set()

        def seconds(option: Option) -> float:
            if option in failed:
                return math.inf
            try:
                self._share = share(option)
                state, last, how = self.zero_state(1), np.zeros(1, np.int64), [Draw(0, 0, 0, Sampling())]
                return tuning.seconds_per_step(lambda count: self._write(state, last, count, how))
            except P2Error:  # not every GPU that has clusters has large ones
                failed.add(option)
                return math.inf

        if len(options) == 1:
            return share(options[0])
        with ThreadPoolExecutor() as pool:  # all at once, into the cache; what fails will say so in its turn
            for option in options:
                defines = _plan(step, limits, option).defines()
                pool.submit(self._compiled, compiler.DECODER, defines, device.properties.capability)
        best = tuning.choose(options, seconds, MARGIN)
        if best not in failed:
            memory.put_layout(options.index(best))
        for option, other in shares.items():
            if option != best:
                other.close()
        return share(best)

    def _write(
        self, state: CudaState, last: Tokens, count: int, draws: Sequence[Draw], noise: Floats | None = None
    ) -> Tokens:
        """Write with the noise that is handed over, or the one that `draws` name."""
        vocab = self.card.vocab
        written = np.empty((state.batch, count), np.int64)
        for first, launcher, fields in self._groups(state):
            texts, done = launcher.texts(state.batch - first), 0
            own = slice(first, first + texts)
            newest = last[own].astype(np.int32)
            while done < count:
                some = min(count - done, launcher.written_at_once())
                given: dict[str, Any] = {"texts": _texts(draws[own], vocab, done, noise is None)}
                if noise is not None:
                    some = max(1, min(some, HELD_BYTES // (4 * texts * vocab)))
                    given |= {"noise": noise[done : done + some, own], "noise_stride": texts * vocab}
                made = launcher.write(fields | given, newest, some)
                written[own, done : done + some] = made
                newest, done = made[:, -1], done + some
        self._check(state, written)
        return written

    def _check(self, state: CudaState, result: Any) -> None:
        """Of the top layer's state, which is where `contract.finite.top_state` says."""
        row = 4 * state.batch * self._share.width
        top = np.empty((state.batch, self._share.width), np.float32)
        self._device.download(top, state.address + (self.card.layers - 1) * row)
        check_computed(self.card, top, self.name, result)

    def _groups(self, state: CudaState) -> Iterator[tuple[int, Launcher, dict[str, int]]]:
        """A state's texts in groups: the first one of each, what launches it, and where its states are."""
        first, layers = 0, self.card.layers
        while first < state.batch:
            launcher = self._share.launcher(state.batch - first)
            h = state.address + 4 * self._share.width * first
            c = h + 4 * self._share.width * state.batch * layers
            yield first, launcher, {"h": h, "c": c, "state_stride": state.batch * self._share.width}
            first += launcher.texts(state.batch - first)

    def _new_state(self, batch: int) -> CudaState:
        """A state with its contents undefined."""
        nbytes = 4 * len(self.card.state_names) * batch * self._share.width
        state = CudaState(batch, self._device, self._device.allocate(nbytes), nbytes)
        # When nobody holds the state any more; at the end of the process the driver cleans up.
        weakref.finalize(state, self._device.free, state.address).atexit = False
        return state


def _options(step: StepFile, limits: Limits) -> list[Option]:
    """Ways to share a model among the blocks of a GPU, the plainest first.

    Raises:
        BackendMissing: the GPU is too small for the model.
    """
    options = geometry.choices(step.card, limits, packing.kind_of(step, limits))
    fitting = []
    for option in options:
        with contextlib.suppress(BackendMissing):
            _plan(step, limits, option)
            fitting.append(option)
    if not fitting:
        _plan(step, limits, options[0])  # says so
    return fitting


def _plan(step: StepFile, limits: Limits, option: Option) -> Geometry:
    """The geometry for one text."""
    kind, block = packing.kind_of(step, limits), packing.block_of(step)
    return geometry.largest(step.card, limits, 1, option, kind, block)


def _texts(draws: Sequence[Draw], vocab: int, done: int, drawn: bool) -> npt.NDArray[np.uint8]:
    """How the characters of some texts are chosen, as a launch reads it.

    Args:
        draws: of these texts.
        vocab: number of characters.
        done: characters that are written already.
        drawn: whether noise is made on the device, and not handed over.
    """
    made = (Text * len(draws))()
    for text, (seed, stream, position, sampling) in zip(made, draws, strict=True):
        text.seed, text.stream, text.position = seed, stream, position + done
        text.temperature, text.top_k, text.drawn = sampling.temperature, vocab, drawn and not sampling.greedy
        if sampling.filters:
            text.filtered, text.top_k, text.tau = 1, sampling.kept(vocab), 1 / sampling.temperature
            text.top_p, text.min_p = sampling.top_p, sampling.min_p
    return np.frombuffer(bytes(made), np.uint8)
