"""Memory by purpose, of the device and of the host, kept from call to call: it grows and does not pile up."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .gpu_device import Device


class Scratch:
    """Memory of the device."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._blocks: dict[str, tuple[int, int]] = {}

    def reserve(self, purpose: str, nbytes: int) -> int:
        """The address of at least `nbytes`; what was there for that purpose may be lost."""
        address, size = self._blocks.get(purpose, (0, 0))
        if size < nbytes:
            self._device.free(address)
            self._blocks.pop(purpose, None)
            address = self._device.allocate(nbytes)
            self._blocks[purpose] = (address, nbytes)
        return address

    def close(self) -> None:
        """Give all of it back."""
        for address, _ in self._blocks.values():
            self._device.free(address)
        self._blocks.clear()


class Staging:
    """Memory of the host that uploads come from (`Device.pin`)."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._blocks: dict[str, npt.NDArray[np.uint8]] = {}

    def array(self, purpose: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array whose contents are undefined; that of the same purpose before is lost.

        Whoever changes it has waited for what was uploaded from the one before.
        """
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        block = self._blocks.get(purpose)
        if block is None or block.nbytes < nbytes:
            if block is not None:
                self._device.unpin(self._blocks.pop(purpose))
            block = self._blocks[purpose] = self._device.pin((max(nbytes, 1),), np.uint8)
        return block[:nbytes].view(dtype).reshape(shape)

    def close(self) -> None:
        """Give all of it back."""
        for block in self._blocks.values():
            self._device.unpin(block)
        self._blocks.clear()
