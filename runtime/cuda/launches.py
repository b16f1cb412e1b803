"""What lies on the device: a model's weights, and the kernels and the memory of a launch."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract.errors import BackendMissing, P2Error
from ..gpu_device import Device
from ..gpu_memory import Scratch, Staging
from ..step_file import StepFile
from . import packing
from .compiler import DECODER, Cubin
from .geometry import FEW, Geometry, Limits, choices, largest
from .job import job_type

Option = tuple[int, int]  # units of a block, and blocks of the cluster that is the grid
Compile = Callable[[str, Mapping[str, int], tuple[int, int]], Cubin]

# A launch takes about so long, so that Ctrl-C is heard in between, and writes so many characters at first.
LAUNCH_SECONDS, FIRST_CHARACTERS, MOST_CHARACTERS = 0.05, 256, 1 << 16
GROWTH = 4  # from one launch to the next at most

PATIENCE_SECONDS = 5  # of a block that waits for the others

WAITED_IN_VAIN = (
    f"the GPU's blocks waited {PATIENCE_SECONDS} s for one another in vain: another program may be holding"
    " it, so try again when that has ended"
)

LOGITS_THREADS, LOGITS_BLOCKS = 256, 8  # of a block; blocks of each multiprocessor


class Weights:
    """A model's weights on the device.

    Args:
        device: where.
        step: a step that `packing` knows.
        geometry: how the blocks share it; the number of texts does not matter.

    Attributes:
        job: a description of a launch with their addresses and nothing else.
    """

    def __init__(self, device: Device, step: StepFile, geometry: Geometry) -> None:
        self._device = device
        self._addresses: list[int] = []
        self.job = job_type(step.card.layers)()
        for matrix in geometry.matrices():
            packed = packing.pack(step, geometry, matrix)
            product = getattr(self.job.layer[matrix.layer], matrix.role)
            product.weights, product.scales = self._put(packed.weights), self._put(packed.scales)
            product.block = packed.block
            device.synchronize()  # what has been copied goes before the next is packed
        for layer in range(step.card.layers):
            self.job.layer[layer].bias = self._put(packing.bias(step, geometry, layer))
        out = packing.output(step, geometry)
        self.job.out, self.job.out_bias = self._put(out.weights), self._put(out.bias)
        self.job.out_scale = self._put(out.scale)
        self.job.fixed = out.fixed
        self.job.unfixed = 1 / out.fixed if out.fixed else 0
        device.synchronize()

    def close(self) -> None:
        """Give the memory back."""
        for address in self._addresses:
            self._device.free(address)
        self._addresses.clear()

    def _put(self, array: npt.NDArray[Any] | None) -> int:
        if array is None:
            return 0
        address = self._device.allocate(array.nbytes)
        self._addresses.append(address)
        self._device.upload(address, np.ascontiguousarray(array))
        return address


class Launcher:
    """The kernels of a geometry, and the memory that its launches need besides weights and states.

    Args:
        device: where.
        staging: memory that uploads come from; nobody else uses it during a launch.
        geometry: for how many texts, and how.
        weights: in that geometry.
        compiled: `compiler.compiled`.

    Raises:
        BackendMissing: the kernels do not fit the GPU.
        P2Error: it is out of memory, or as `compiled`.
    """

    def __init__(
        self, device: Device, staging: Staging, geometry: Geometry, weights: Weights, compiled: Compile
    ) -> None:
        self.geometry = geometry
        self._device, self._staging, self._scratch = device, staging, Scratch(device)
        properties = device.properties
        cubin = compiled(DECODER, geometry.defines(), properties.capability)
        self._write, self._read, self._logits = device.load(cubin.code, "p2_write", "p2_read", "p2_logits")
        for kernel in (self._write, self._read):
            device.allow(kernel, geometry.shared_bytes, large_clusters=geometry.cluster > 8)
            fit = device.blocks_at_once(kernel, geometry.threads, geometry.shared_bytes, geometry.cluster)
            if fit < geometry.grid:
                raise BackendMissing(
                    f"this GPU runs {fit} blocks of the decoder at once, and the model needs {geometry.grid}"
                )
        self._logits_blocks = LOGITS_BLOCKS * properties.multiprocessors
        self._job = type(weights.job).from_buffer_copy(weights.job)
        for matrix in geometry.matrices():
            product = getattr(self._job.layer[matrix.layer], matrix.role)
            product.resident, product.place = geometry.resident(matrix.layer, matrix.role)
        self._job.patience = PATIENCE_SECONDS * 10**9
        for name in ("exchange", "sums", "made", "logits"):
            nbytes = getattr(geometry, f"{name}_bytes")
            setattr(self._job, name, self._scratch.reserve(name, nbytes) if nbytes else 0)
        device.zero(self._job.exchange, geometry.exchange_bytes)
        self._paces = {kernel.name: FIRST_CHARACTERS for kernel in (self._write, self._read)}

    def texts(self, batch: int) -> int:
        """How many of a batch's texts one launch takes."""
        return min(batch, self.geometry.streams)

    def written_at_once(self) -> int:
        """Characters of each text that the next launch should write."""
        return self._paces["p2_write"]

    def read_at_once(self) -> int:
        """Characters of each text that the next launch should read."""
        return self._paces["p2_read"]

    def write(
        self, fields: Mapping[str, Any], last: npt.NDArray[np.int32], count: int
    ) -> npt.NDArray[np.int32]:
        """Write some characters.

        Args:
            fields: of the job: states, texts and noise; arrays for addresses are uploaded.
            last: the newest characters, int32 ``[texts]``.
            count: characters of each text.

        Returns:
            int32 ``[texts, count]``.

        Raises:
            P2Error: the blocks could not meet, or a CUDA call failed.
        """
        place = self._scratch.reserve("text", 16 + 4 * len(last) * count)
        self._device.zero(place, 16)
        found = self._staging.array("text", (4 + len(last) * count,), np.int32)
        self._launch(self._write, {**fields, "tokens": last}, len(last), count, place, found)
        return found[4:].reshape(len(last), count).copy()

    def read(
        self, fields: Mapping[str, Any], tokens: npt.NDArray[Any], logits: bool
    ) -> npt.NDArray[np.float32] | None:
        """Advance over known text, ``[texts, count]``; the predictions after each character, if wanted.

        Raises:
            P2Error: as `write`.
        """
        texts, count = tokens.shape
        geometry, vocab = self.geometry, self.geometry.card.vocab
        text = self._staging.array("text", (4 + texts * count,), np.int32)
        text[:4] = 0
        text[4:] = tokens.ravel()
        place = self._scratch.reserve("text", text.nbytes)
        self._device.upload(place, text)
        own = dict(fields)
        if logits:
            kept = count * geometry.exchange_bytes // (2 * geometry.slots)
            own["top"] = self._scratch.reserve("top", kept)
            self._device.zero(own["top"], kept)
            own["predicted"] = self._scratch.reserve("predicted", 4 * texts * count * vocab)
            own["predicted_stride"] = count * vocab
        described = self._launch(self._read, own, texts, count, place, text[:4])
        if not logits:
            return None
        self._device.run(self._logits, self._logits_blocks, LOGITS_THREADS, described)
        predicted = np.empty((texts, count, vocab), np.float32)
        self._device.download(predicted, own["predicted"])
        return predicted

    def close(self) -> None:
        """Give the memory back."""
        self._scratch.close()

    def _launch(
        self,
        kernel: Any,
        fields: Mapping[str, Any],
        texts: int,
        count: int,
        place: int,
        found: npt.NDArray[np.int32],
    ) -> int:
        """Describe a launch, run it, and fetch what it leaves from `place` on: first the meeting's two words.

        Returns:
            the address of the description.
        """
        device, job = self._device, type(self._job).from_buffer_copy(self._job)
        job.streams, job.count = texts, count
        job.barrier, job.written, job.written_stride = place, place + 16, count
        described = self._scratch.reserve("job", ctypes.sizeof(job))
        for name, value in fields.items():
            setattr(job, name, self._send(name, value) if isinstance(value, np.ndarray) else value)
        staged = self._staging.array("job", (ctypes.sizeof(job),), np.uint8)
        staged[:] = np.frombuffer(bytes(job), np.uint8)
        device.upload(described, staged)
        if job.sums:
            device.zero(job.sums, self.geometry.sums_bytes)
        geometry, started = self.geometry, time.perf_counter()
        device.run(
            kernel,
            geometry.grid,
            geometry.threads,
            described,
            shared_bytes=geometry.shared_bytes,
            cooperative=not geometry.cluster,
        )
        device.download(found, place)
        if found[1]:
            raise P2Error(WAITED_IN_VAIN)
        self._learn(kernel.name, count, time.perf_counter() - started)
        return described

    def _learn(self, kernel: str, count: int, seconds: float) -> None:
        """How many characters the next launch should have; a short one says little about long ones."""
        pace = self._paces[kernel]
        if count >= pace or seconds > LAUNCH_SECONDS:
            wanted = int(LAUNCH_SECONDS * count / max(seconds, 1e-9))
            self._paces[kernel] = max(1, min(wanted, GROWTH * pace, MOST_CHARACTERS))

    def _send(self, name: str, array: npt.NDArray[Any]) -> int:
        """The address of a copy."""
        staged = self._staging.array(name, array.shape, array.dtype)
        staged[...] = array
        address = self._scratch.reserve(name, array.nbytes)
        self._device.upload(address, staged)
        return address


class Share:
    """A way to share a model among the blocks: its weights, and launchers for numbers of texts.

    Args:
        device: where.
        staging: memory that uploads come from.
        step: a step that `packing` knows.
        limits: of the GPU.
        option: one of `geometry.choices`, for which there is a plan for one text.
        compiled: `compiler.compiled`.

    Attributes:
        width: of a state, padded.

    Raises:
        P2Error: the GPU is out of memory.
    """

    def __init__(
        self,
        device: Device,
        staging: Staging,
        step: StepFile,
        limits: Limits,
        option: Option,
        compiled: Compile,
    ) -> None:
        self._device, self._staging, self._compiled = device, staging, compiled
        self._kind, self._block = packing.kind_of(step, limits), packing.block_of(step)
        self._card, self._limits, self._option = step.card, limits, option
        first = self._geometry(1)
        self.width = first.k_padded
        self._weights = Weights(device, step, first)
        self._launchers: dict[int, Launcher] = {}
        # A cluster is quick to meet, and too few multiprocessors for many texts: those have a grid.
        grid = choices(step.card, limits, self._kind)[0]
        self._many = Share(device, staging, step, limits, grid, compiled) if option[1] else None

    def launcher(self, batch: int) -> Launcher:
        """What runs a batch, or as many of its texts as one launch takes.

        Raises:
            P2Error: as `Launcher`.
        """
        if self._many and batch > FEW:
            return self._many.launcher(batch)
        geometry = self._geometry(batch)
        if geometry.streams not in self._launchers:
            made = Launcher(self._device, self._staging, geometry, self._weights, self._compiled)
            self._launchers[geometry.streams] = made
        return self._launchers[geometry.streams]

    def close(self) -> None:
        """Give the memory back."""
        if self._many:
            self._many.close()
        self._weights.close()
        for launcher in self._launchers.values():
            launcher.close()

    def _geometry(self, batch: int) -> Geometry:
        return largest(self._card, self._limits, batch, self._option, self._kind, self._block)
