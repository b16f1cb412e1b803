"""A model on the emulated GPU: what the engine does around a launch, written out for one group of texts."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from p2.contract.noise import Address
from p2.contract.sampling import Sampling
from p2.runtime.cuda import job, packing
from p2.runtime.cuda.geometry import Geometry, Limits
from p2.runtime.step_file import StepFile

from .emulator import Kernels
from .memory import Memory

SOURCE = Path(job.__file__).parent / "kernels" / "decoder.cu"
NEWEST = Limits(132, 227 << 10, 90)
PATIENCE = 2 * 10**9

State = dict[str, npt.NDArray[np.float32]]
Tokens = npt.NDArray[np.int64]


def geometry_of(step: StepFile, streams: int, units: int, **changes: Any) -> Geometry:
    """Few threads, so that a launch is over soon, and as many blocks as the units make."""
    sizes = {"grid": -(-step.card.hidden // units), "threads": 64, "cluster": 0, "limit": 227 << 10} | changes
    kind = packing.kind_of(step, NEWEST)
    return Geometry(step.card, kind, packing.block_of(step), streams, units=units, **sizes)


class Decoder:
    """A step's kernels with their weights in device memory."""

    def __init__(
        self, step: StepFile, geometry: Geometry, kernels_of: Callable[..., Kernels], memory: Memory
    ) -> None:
        assert packing.why_not(step) is None
        self.card, self.geometry, self._memory = step.card, geometry, memory
        self.kernels = kernels_of(SOURCE, **geometry.defines())
        self._job = job.job_type(step.card.layers)()
        for matrix in geometry.matrices():
            packed = packing.pack(step, geometry, matrix)
            product = getattr(self._job.layer[matrix.layer], matrix.role)
            product.weights = self._address(packed.weights)
            product.scales = 0 if packed.scales is None else self._address(packed.scales)
            product.block = packed.block
            product.resident, product.place = geometry.resident(matrix.layer, matrix.role)
        for layer in range(step.card.layers):
            self._job.layer[layer].bias = self._address(packing.bias(step, geometry, layer))
        out = packing.output(step, geometry)
        self._job.out = self._address(out.weights)
        self._job.out_scale = 0 if out.scale is None else self._address(out.scale)
        self._job.out_bias = self._address(out.bias)
        self._job.fixed, self._job.unfixed = out.fixed, 1 / out.fixed if out.fixed else 0

    def predict(self, logits: npt.NDArray[np.float32]) -> None:
        """From now on these are the logits of every character, float32 ``[vocab]``."""
        out = self._memory.zeros((self.card.vocab, self.geometry.k_padded), np.float32)
        self._job.out, self._job.out_bias = out.ctypes.data, self._address(logits)

    def zero_state(self, batch: int) -> State:
        return {name: np.zeros((batch, self.card.hidden), np.float32) for name in self.card.state_names}

    def write(
        self,
        state: State,
        last: Tokens,
        noise: npt.NDArray[np.float32] | Address,
        count: int,
        sampling: Sampling | Sequence[Sampling],
        seed: int = 0,
    ) -> Tokens:
        """As `Engine.decode` with scaled noise ``[count, batch, vocab]``, or as `DrawingEngine.draw`."""
        batch = len(last)
        each = [sampling] * batch if isinstance(sampling, Sampling) else sampling
        written = self._memory.empty((batch, count), np.int32)
        texts = (job.Text * batch)()
        for number, (text, own) in enumerate(zip(texts, each, strict=True)):
            text.temperature, text.tau = own.temperature, 1 / own.temperature if own.temperature else 1
            text.top_k, text.top_p, text.min_p = own.kept(self.card.vocab), own.top_p, own.min_p
            text.filtered, text.drawn = own.filters, not own.greedy
            if isinstance(noise, Address):
                text.seed, text.stream, text.position = noise.seed, noise.streams[number], noise.position
        tokens = self._memory.copy(last.astype(np.int32))
        fields: dict[str, Any] = {"written_stride": count, "written": written.ctypes.data}
        fields |= {"tokens": tokens.ctypes.data, "texts": self._address(np.frombuffer(texts, np.uint8))}
        if not isinstance(noise, Address):
            fields |= {"noise": self._address(noise), "noise_stride": noise[0].size}
        self._launch("p2_write", state, batch, count, seed, fields)
        assert np.array_equal(tokens, written[:, -1])
        return written.astype(np.int64)

    def read(
        self, state: State, tokens: Tokens, logits: bool = False, seed: int = 0
    ) -> npt.NDArray[np.float32] | None:
        """As `Engine.feed`."""
        batch, count = tokens.shape
        text = self._memory.copy(tokens.astype(np.int32))
        fields = {"written": text.ctypes.data, "written_stride": count}
        if logits:
            size = self.geometry.exchange_bytes // (2 * self.geometry.slots * self.geometry.streams)
            fields["top"] = self._memory.zeros((self.geometry.streams, count, size), np.uint8).ctypes.data
        made = self._launch("p2_read", state, batch, count, seed, fields)
        if not logits:
            return None
        predicted = self._memory.empty((batch, count, self.card.vocab), np.float32)
        made.predicted, made.predicted_stride = predicted.ctypes.data, predicted[0].size
        self.kernels.launch("p2_logits", 3, 256, 0, self._address(np.frombuffer(made, np.uint8)), seed=seed)
        return predicted

    def _launch(
        self, name: str, state: State, batch: int, count: int, seed: int, fields: dict[str, Any]
    ) -> ctypes.Structure:
        geometry, memory = self.geometry, self._memory
        made = type(self._job).from_buffer_copy(self._job)
        made.streams, made.count, made.patience = batch, count, PATIENCE
        padded = {
            kind: memory.zeros((self.card.layers, batch, geometry.k_padded), np.float32) for kind in "hc"
        }
        for own, array in state.items():
            padded[own[0]][int(own[2:]), :, : self.card.hidden] = array
        made.state_stride = padded["h"][0].size
        made.h, made.c = (padded[kind].ctypes.data for kind in "hc")
        made.exchange = memory.zeros(geometry.exchange_bytes, np.uint8).ctypes.data
        made.sums = memory.zeros(geometry.sums_bytes, np.uint8).ctypes.data
        made.made = memory.empty(geometry.made_bytes, np.uint8).ctypes.data
        made.logits = memory.empty(geometry.logits_bytes, np.uint8).ctypes.data
        barrier = memory.zeros(2, np.uint32)
        made.barrier = barrier.ctypes.data
        for field, value in fields.items():
            setattr(made, field, value)
        described = self._address(np.frombuffer(made, np.uint8))
        sizes = geometry.grid, geometry.threads, geometry.shared_bytes
        self.kernels.launch(name, *sizes, described, seed=seed)
        assert barrier[1] == 0
        for own, array in state.items():
            array[...] = padded[own[0]][int(own[2:]), :, : self.card.hidden]
            assert not padded[own[0]][int(own[2:]), :, self.card.hidden :].any()
        return made

    def _address(self, array: npt.NDArray[Any]) -> int:
        return int(self._memory.copy(np.ascontiguousarray(array)).ctypes.data)
