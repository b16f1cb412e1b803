"""Write and read characters on the GPU without the host: token, state and choice stay there.

One launch of a CUDA graph writes `STEPS` characters for every stream of a batch; another reads as many that
are known. A recorded step reads and writes the addresses that it was recorded with, so the loop has memory
of its own, laid out for that: two sets of state buffers that change places with every step (the number of
steps is even, so a launch leaves the state where the next one looks for it), a row of noise for each step,
and rows of tokens, of which step k reads row k and, writing, fills row k + 1. When it reads, what it would
choose goes nowhere, and the rows of noise take the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract.card import Card
from ...contract.choice import FILTER_COLUMNS, FILTERS, NEXT, NOISE
from ...contract.errors import P2Error
from ..gpu_device import Device
from ..gpu_memory import Scratch, Staging
from ..gpu_noise import Fill
from ..nvidia import aligned
from .step import CompiledStep, Context

# Characters per launch, an even number. A launch costs the host about as much as a few kernels, and
# the noise of a launch is what has to be there before the first of its characters.
STEPS = 64

_CHUNK = 16  # launches whose known characters go up in one copy

Run = Callable[[int, dict[str, int], int], None]


class DeviceLoop:
    """The loop for one batch size.

    Args:
        compiled: a step that chooses.
        device: where it runs.
        card: the model.
        batch: number of streams.

    Raises:
        P2Error: the GPU is out of memory.
    """

    def __init__(self, compiled: CompiledStep, device: Device, card: Card, batch: int) -> None:
        self.batch = batch
        self._compiled = compiled
        self._device = device
        self._scratch = Scratch(device)
        self._staging = Staging(device)
        self._state_bytes = batch * card.hidden * compiled.float_type.itemsize
        self._token_type = compiled.token_type
        self._token_row = aligned(batch * self._token_type.itemsize)
        self._noise_row = aligned(batch * card.vocab * 4)
        state_row, names = aligned(self._state_bytes), card.state_names
        sizes = {
            "filters": aligned(batch * len(FILTER_COLUMNS) * 4),
            "logits": self._noise_row,
            "unused": self._token_row,
            "noise": STEPS * self._noise_row,
            "tokens": (STEPS + 1) * self._token_row,
        }
        sizes |= {f"{name} {side}": state_row for side in (0, 1) for name in names}
        self._nbytes = sum(sizes.values())
        self._base = device.allocate(self._nbytes)
        address, at = self._base, {}
        for purpose, nbytes in sizes.items():
            at[purpose] = address
            address += nbytes
        self._filters, self._logits, self._unused, self._noise, self._tokens = (
            at[purpose] for purpose in list(sizes)[:5]
        )
        self._states = tuple({name: at[f"{name} {side}"] for name in names} for side in (0, 1))
        self._graphs: dict[bool, tuple[int, Context]] = {}  # by whether it reads: a graph and its own context

    def write(
        self,
        state: dict[str, int],
        last: npt.NDArray[np.int64],
        count: int,
        fill: Fill,
        filters: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.int64]:
        """Write `count` characters per stream.

        Args:
            state: addresses on the device by state name; advanced in place.
            last: int64 ``[batch]``, in the vocabulary.
            count: characters.
            fill: puts the noise there, in the order of the stream.
            filters: float32 ``[batch, 4]``, rows of `contract.choice.filter_row`.

        Returns:
            int64 ``[batch, count]``.

        Raises:
            P2Error: TensorRT or the GPU refuses.
        """
        device = self._device
        if count == 0:
            return np.empty((self.batch, 0), np.int64)
        if count >= STEPS:
            self._record(reads=False)
        written = self._scratch.reserve("written", count * self._token_row)
        self._take(state)
        self._upload("last", self._tokens, last, self._token_type)
        self._upload("filters", self._filters, filters, np.dtype(np.float32))
        side = 0
        for start in range(0, count, STEPS):
            steps = min(STEPS, count - start)
            fill(self._noise, start, steps, self._noise_row // 4)
            side = self._advance(steps, reads=False)
            device.copy(
                written + start * self._token_row, self._tokens + self._token_row, steps * self._token_row
            )
        self._give(state, side)
        tokens = np.empty((count, self._token_row // self._token_type.itemsize), self._token_type)
        device.download(tokens, written)
        return np.ascontiguousarray(tokens[:, : self.batch].T, np.int64)

    def read(
        self,
        state: dict[str, int],
        known: npt.NDArray[np.int64],
        logits: npt.NDArray[np.float32] | None = None,
    ) -> None:
        """Advance over known characters.

        Args:
            state: addresses on the device by state name; advanced in place.
            known: int64 ``[batch, length]``, in the vocabulary.
            logits: float32 ``[batch, length, vocab]``, filled if given.

        Raises:
            P2Error: TensorRT or the GPU refuses.
        """
        device, length = self._device, known.shape[1]
        if length >= STEPS:
            self._record(reads=True)
        width, at_once = self._token_row // self._token_type.itemsize, _CHUNK * STEPS
        given = self._scratch.reserve("given", min(length, at_once) * self._token_row)
        self._take(state)
        side = 0
        for start in range(0, length, STEPS):
            steps = min(STEPS, length - start)
            if start % at_once == 0:
                if start:
                    device.synchronize()  # the memory that it went up from is wanted again
                chunk = known[:, start : start + at_once].T
                rows = self._staging.array("given", (len(chunk), width), self._token_type)
                rows[:, : self.batch] = chunk
                device.upload(given, rows)
            source = given + start % at_once * self._token_row
            device.copy(self._tokens, source, steps * self._token_row)
            side = self._advance(steps, reads=True)
            if logits is not None:
                values = np.empty((steps, self._noise_row // 4), np.float32)
                device.download(values, self._noise)
                values = values[:, : self.batch * logits.shape[2]].reshape(steps, self.batch, -1)
                logits[:, start : start + steps] = values.swapaxes(0, 1)
        self._give(state, side)
        device.synchronize()

    def close(self) -> None:
        """Give back the graphs and the memory."""
        for graph, _ in self._graphs.values():
            self._device.forget(graph)
        self._graphs.clear()
        self._scratch.close()
        self._staging.close()
        self._device.free(self._base)

    def _take(self, state: dict[str, int]) -> None:
        for name, address in state.items():
            self._device.copy(self._states[0][name], address, self._state_bytes)

    def _give(self, state: dict[str, int], side: int) -> None:
        for name, address in state.items():
            self._device.copy(address, self._states[side][name], self._state_bytes)

    def _upload(self, purpose: str, address: int, array: npt.NDArray[Any], kind: np.dtype[Any]) -> None:
        """Send an array from memory that the GPU reads by itself; a call ends when all of it is done."""
        staged = self._staging.array(purpose, array.shape, kind)
        staged[:] = array
        self._device.upload(address, staged)

    def _advance(self, steps: int, reads: bool) -> int:
        """Put steps into the stream; the set of buffers (0 or 1) that then holds the state."""
        if steps == STEPS and reads in self._graphs:
            self._device.launch(self._graphs[reads][0])
        else:
            self._enqueue(steps, reads, self._compiled.run)
        return steps % 2

    def _enqueue(self, steps: int, reads: bool, run: Run) -> None:
        for step in range(steps):
            side = step % 2
            row = self._noise + step * self._noise_row
            addresses = {
                "token": self._tokens + step * self._token_row,
                NEXT: self._unused if reads else self._tokens + (step + 1) * self._token_row,
                NOISE: self._logits if reads else row,
                FILTERS: self._filters,
                "logits": row if reads else self._logits,
            }
            addresses |= {f"{name}_in": address for name, address in self._states[side].items()}
            addresses |= {f"{name}_out": address for name, address in self._states[1 - side].items()}
            run(self.batch, addresses, self._device.stream)
        if not reads:
            self._device.copy(self._tokens, self._tokens + steps * self._token_row, self._token_row)

    def _record(self, reads: bool) -> None:
        """Capture `STEPS` steps, unless that is done, and make sure that this ran none of them."""
        if reads in self._graphs:
            return
        device = self._device
        context = self._compiled.context_for_graph(self.batch, device.stream)
        device.zero(self._base, self._nbytes)  # tokens that exist, to warm up with
        # The first steps set up what may not be set up while recording.
        self._enqueue(2, reads, context.run)
        device.zero(self._base, self._nbytes)
        device.synchronize()
        graph = device.capture(lambda: self._enqueue(STEPS, reads, context.run))
        contents = np.empty(self._nbytes, np.uint8)
        device.download(contents, self._base)
        if contents.any():
            device.forget(graph)
            raise P2Error(
                "recording the CUDA graph has run the step and changed the state, so no text of it could be"
                " trusted: update the NVIDIA driver, or run the .onnx file"
            )
        self._graphs[reads] = graph, context
