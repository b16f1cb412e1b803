"""What the GPU engine of ONNX Runtime keeps on the device: blocks of steps, and states."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..nvidia import aligned
from .providers import Provider
from .session import import_onnxruntime

SLOTS = 32  # steps whose tokens and noise travel together; even, so that a block ends where it began


class Memory:
    """Arrays on a provider's device."""

    def __init__(self, provider: Provider) -> None:
        self._runtime = import_onnxruntime()
        self._provider = provider

    def new(self, array: npt.NDArray[Any]) -> Any:
        """An OrtValue on the device, with a copy of the array."""
        create = self._runtime.OrtValue
        if self._provider.plugin:
            value = create.ortvalue_from_shape_and_type(
                array.shape, array.dtype.type, self._provider.device, 0
            )
            self.put(value, array)
            return value
        # On the processor an OrtValue made from an array is the array's own memory.
        return create.ortvalue_from_numpy(array.copy(), self._provider.device, 0)

    def put(self, value: Any, array: npt.NDArray[Any]) -> None:
        """Overwrite a value of the same shape and type; returns when it is there."""
        if self._provider.plugin:
            source = self._runtime.OrtValue.ortvalue_from_numpy(array)
            self._runtime.copy_tensors([source], [value])
        else:
            value.update_inplace(array)

    def get(self, value: Any, like: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A copy on the host, of the shape and type of `like`."""
        if self._provider.plugin:
            copy = np.empty_like(like)
            target = self._runtime.OrtValue.ortvalue_from_numpy(copy)
            self._runtime.copy_tensors([value], [target])
            return copy
        return np.array(value.numpy())


class Block:
    """What a block of steps with one batch size reads and writes, on the device and on the host.

    Every row begins at an address that TensorRT takes. Row `i` of `tokens` is what step `i` reads, and
    it writes row ``i + 1``; a step over known text writes its choice aside, into the last row.
    """

    def __init__(self, memory: Memory, batch: int, vocab: int) -> None:
        row = aligned(8 * batch) // 8
        wide = aligned(4 * batch * vocab) // 4
        self.host_tokens = np.zeros((SLOTS + 2, row), np.int64)
        self.host_floats = np.zeros((SLOTS, wide), np.float32)
        self.tokens = memory.new(self.host_tokens)
        self.noise = memory.new(self.host_floats)
        self.logits = memory.new(self.host_floats)


class GpuState:
    """One batch of streams on the device.

    Attributes:
        batch: number of streams.
        owner: where its memory is: that of the engine that made it.
        sets: two sets of states by name, each an OrtValue ``[batch, hidden]`` of the graph's float type.
        current: which of the two sets holds the state now.
        block: what its steps read and write besides.
        bindings: the session and a binding for each slot, by what is done (``feed`` or ``decode``).
    """

    def __init__(
        self, batch: int, sets: tuple[dict[str, Any], dict[str, Any]], block: Block, owner: Memory
    ) -> None:
        self.batch = batch
        self.owner = owner
        self.sets = sets
        self.current = 0
        self.block = block
        self.bindings: dict[str, tuple[Any, list[Any]]] = {}
