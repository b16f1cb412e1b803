"""The noise that the GPU makes for itself, number by number beside numpy's, and how fast it makes it."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ..bench.copying import rate
from ..contract.noise import Address, gumbel
from ..contract.sampling import Sampling, scale_noise
from ..runtime.gpu_device import Device
from ..runtime.gpu_noise import DeviceNoise
from .engine_checks import verdict

# Addresses, characters, choices of each, temperature: ten million numbers, and the ends of the addresses.
CASES = (
    (Address(0, range(64), 1), 1700, 96, 1.0),
    (Address(2**64 - 1, (0, 2**32, 2**64 - 1), 2**64 - 50), 50, 29, 0.7),
)


def noise() -> dict[str, Any]:
    """Compare all of it.

    Raises:
        BackendMissing: there is no NVRTC that knows this GPU.
        P2Error: a call of the GPU failed.
    """
    device = Device()
    try:
        made = DeviceNoise(device)
        numbers = different = 0
        speeds = []
        for address, count, vocab, temperature in CASES:
            batch = len(address.streams)
            found = np.empty((count, batch, vocab), np.float32)
            out = device.allocate(found.nbytes)
            fill = made.source(address, temperature, vocab)
            fill(out, 0, count, batch * vocab)
            device.download(found, out)
            theirs = scale_noise(gumbel(*address, count, vocab), Sampling(temperature))
            numbers += found.size
            different += int((found.view(np.uint32) != theirs.view(np.uint32)).sum())
            again = functools.partial(fill, out, 0, count, batch * vocab)
            speeds.append(rate(again, device.synchronize, found.size))
    finally:
        device.close()
    details = {"numbers": numbers, "different": different, "numbers_per_second": max(speeds)}
    return verdict({f"{different:,} of {numbers:,} numbers differ from numpy's": different > 0}, details)
