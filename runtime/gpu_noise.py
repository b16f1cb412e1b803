"""Noise that a GPU makes for itself, for backends that have no kernels of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..contract.codec import Tokens
from ..contract.engine import Engine, State
from ..contract.errors import P2Error
from ..contract.noise import Address, NoiseSource
from ..contract.sampling import Sampling, scale_noise
from .decoder import noise_steps
from .gpu_device import Device
from .gpu_memory import Scratch, Staging

_THREADS = 256
_WORDS = 8  # that a thread makes


# fill(out, start, steps, row): put the noise of `steps` positions from the call's `start` on at an address,
# in rows of `row` float32 numbers, of which the first batch * vocab count.
Fill = Callable[[int, int, int, int], None]


class DeviceNoise:
    """The kernel on a device.

    Args:
        device: where it runs.

    Raises:
        P2Error: NVRTC is not here, or does not know the GPU.
    """

    def __init__(self, device: Device) -> None:
        from .cuda import compiler

        self._device = device
        cubin = compiler.compiled(compiler.NOISE, {}, device.properties.capability)
        [self._kernel] = device.load(cubin.code, "p2_noise")
        self._scratch, self._staging = Scratch(device), Staging(device)
        self._streams: tuple[int, ...] = ()  # that are on the device

    def source(self, address: Address, temperature: float, vocab: int) -> Fill:
        """What `contract.noise.gumbel` and `scale_noise` make from an address on.

        The stream has done everything that was asked of it when this is called.
        """
        batch, streams = len(address.streams), tuple(address.streams)
        at = self._scratch.reserve("streams", 8 * batch)
        if streams != self._streams:
            staged = self._staging.array("streams", (batch,), np.uint64)
            staged[:] = streams
            self._device.upload(at, staged)
            self._streams = streams

        def fill(out: int, start: int, steps: int, row: int) -> None:
            threads = steps * batch * -(-vocab // _WORDS)
            self._device.run(
                self._kernel,
                -(-threads // _THREADS),
                _THREADS,
                out,
                at,
                np.uint64(address.seed),
                np.uint64(address.position + start),
                np.float32(temperature),
                np.int32(batch),
                np.int32(steps),
                np.int32(vocab),
                np.uint64(row),
            )

        return fill

    def finish(self) -> None:
        """Wait until what was asked for is there: for whoever reads it in another stream."""
        self._device.synchronize()


def noise_on(device: Device) -> DeviceNoise | None:
    """The kernel, or None where it cannot be had: then the host makes the noise, which is the same."""
    try:
        return DeviceNoise(device)
    except P2Error:
        return None


def draw_on_host(
    engine: Engine,
    state: State,
    last: Tokens,
    address: Address,
    count: int,
    sampling: Sampling,
) -> Tokens:
    """`contract.engine.DrawingEngine.draw` by `decode`, with noise that the host makes."""
    batch, vocab = len(last), engine.card.vocab
    source = NoiseSource(address.seed, address.streams, vocab, address.position)
    written = np.empty((batch, count), np.int64)
    most = noise_steps(batch, vocab)
    for start in range(0, count, most):
        steps = min(most, count - start)
        noise = (
            np.zeros((steps, batch, vocab), np.float32)
            if sampling.greedy
            else scale_noise(source.gumbel(steps), sampling)
        )
        written[:, start : start + steps] = engine.decode(state, last, noise, sampling)
        last = np.ascontiguousarray(written[:, start + steps - 1])
    return written
