"""Write characters on the GPU without the host: token, state and choice stay there.

One launch of a CUDA graph writes `STEPS` characters for every stream of a batch. A recorded step
reads and writes the addresses that it was recorded with, so the loop has memory of its own, laid out
for that: two sets of state buffers that change places with every step (the number of steps is even,
so a launch leaves the state where the next one looks for it), a row of noise for each step, and rows
of tokens, of which step k reads row k and writes row k + 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ...contract.card import Card
from ...contract.choice import FILTER_COLUMNS, FILTERS, NEXT, NOISE
from ...contract.errors import P2Error
from ..gpu_device import Device
from ..gpu_memory import Scratch
from ..nvidia import aligned
from .step import CompiledStep, Context

# Characters per launch, an even number. A launch costs the host about as much as a few kernels, and
# the noise of a launch is what has to be uploaded before the first of its characters.
STEPS = 64

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
        self._state_bytes = batch * card.hidden * compiled.float_type.itemsize
        self._token_type = compiled.token_type
        self._token_row = aligned(batch * self._token_type.itemsize)
        self._noise_row = aligned(batch * card.vocab * 4)
        state_row, names = aligned(self._state_bytes), card.state_names
        sizes = {
            "filters": aligned(batch * len(FILTER_COLUMNS) * 4),
            "logits": self._noise_row,
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
        self._filters, self._logits, self._noise, self._tokens = (at[purpose] for purpose in list(sizes)[:4])
        self._states = tuple({name: at[f"{name} {side}"] for name in names} for side in (0, 1))
        self._graph: int | None = None
        self._context: Context | None = None  # the graph's own

    def write(
        self,
        state: dict[str, int],
        last: npt.NDArray[np.int64],
        noise: npt.NDArray[np.float32],
        filters: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.int64]:
        """Write ``len(noise)`` characters per stream.

        Args:
            state: addresses on the device by state name; advanced in place.
            last: int64 ``[batch]``, in the vocabulary.
            noise: float32 ``[count, batch, vocab]``, scaled.
            filters: float32 ``[batch, 4]``, rows of `contract.choice.filter_row`.

        Returns:
            int64 ``[batch, count]``.

        Raises:
            P2Error: TensorRT or the GPU refuses.
        """
        device, count = self._device, len(noise)
        if count == 0:
            return np.empty((self.batch, 0), np.int64)
        if count >= STEPS and self._graph is None:
            self._record()
        written = self._scratch.reserve("written", count * self._token_row)
        for name, address in state.items():
            device.copy(self._states[0][name], address, self._state_bytes)
        device.upload(self._tokens, np.ascontiguousarray(last, self._token_type))
        device.upload(self._filters, np.ascontiguousarray(filters, np.float32))
        side = 0
        for start in range(0, count, STEPS):
            block = noise[start : start + STEPS]
            steps = len(block)
            rows = np.zeros((steps, self._noise_row // 4), np.float32)
            rows[:, : block[0].size] = block.reshape(steps, -1)
            device.upload(self._noise, rows)
            if steps == STEPS and self._graph is not None:
                device.launch(self._graph)
            else:
                side = self._enqueue(steps, self._compiled.run)
            device.copy(
                written + start * self._token_row, self._tokens + self._token_row, steps * self._token_row
            )
        for name, address in state.items():
            device.copy(address, self._states[side][name], self._state_bytes)
        tokens = np.empty((count, self._token_row // self._token_type.itemsize), self._token_type)
        device.download(tokens, written)
        return np.ascontiguousarray(tokens[:, : self.batch].T, np.int64)

    def close(self) -> None:
        """Give back the graph and the memory."""
        if self._graph is not None:
            self._device.forget(self._graph)
        self._graph = self._context = None
        self._scratch.close()
        self._device.free(self._base)

    def _enqueue(self, steps: int, run: Run) -> int:
        """Put steps into the stream; the set of buffers (0 or 1) that then holds the state."""
        for step in range(steps):
            side = step % 2
            addresses = {
                "token": self._tokens + step * self._token_row,
                NEXT: self._tokens + (step + 1) * self._token_row,
                NOISE: self._noise + step * self._noise_row,
                FILTERS: self._filters,
                "logits": self._logits,
            }
            addresses |= {f"{name}_in": address for name, address in self._states[side].items()}
            addresses |= {f"{name}_out": address for name, address in self._states[1 - side].items()}
            run(self.batch, addresses, self._device.stream)
        self._device.copy(self._tokens, self._tokens + steps * self._token_row, self._token_row)
        return steps % 2

    def _record(self) -> None:
        """Capture `STEPS` steps, and make sure that this ran none of them."""
        device = self._device
        context = self._compiled.context_for_graph(self.batch, device.stream)
        device.zero(self._base, self._nbytes)  # tokens that exist, to warm up with
        # The first steps set up what may not be set up while recording.
        self._enqueue(2, context.run)
        device.zero(self._base, self._nbytes)
        device.synchronize()
        graph = device.capture(lambda: self._enqueue(STEPS, context.run))
        contents = np.empty(self._nbytes, np.uint8)
        device.download(contents, self._base)
        if contents.any():
            device.forget(graph)
            raise P2Error(
                "recording the CUDA graph has run the step and changed the state, so no text of it could be"
                " trusted: update the NVIDIA driver, or run the .onnx file"
            )
        self._graph, self._context = graph, context
