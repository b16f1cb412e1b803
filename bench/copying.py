"""What a GPU itself can do: copy its memory, multiply matrices; `rates` tells the same of the processor.

In a process of its own, ``python -m p2.bench.copying DEVICE``, which holds memory of the GPU only while it
measures. Each line that it reads, ``copy`` or ``product``, is answered with bytes or operations per second.
"""

from __future__ import annotations

import contextlib
import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TextIO

import numpy as np

from ..contract.errors import P2Error
from ..runtime import nvidia
from .document import GpuRates
from .process import LineProcess, take_stdout

BYTES = {"cuda": 1 << 30, "cpu": 1 << 26}  # several times a last-level cache; who reads the CPU's is `rates`
ROUNDS = 9
REPEATS = 8  # in one round, so that launching them does not count
MATRIX = 4096

_SECONDS = 300.0
_THIS = "p2.bench.copying"

# Does something once, without waiting for it.
Act = Callable[[], object]


class Copying:
    """Asks a process how fast a device copies its memory at the moment.

    Args:
        device: ``cuda``, the first GPU that programs may use, or ``cpu``.
    """

    def __init__(self, device: str) -> None:
        self._process = LineProcess(_THIS, device)

    def read(self) -> float:
        """Bytes per second, each copied byte counted twice, as it is read and written; median of `ROUNDS`.

        Raises:
            P2Error: there is no such device, its process ended, or took too long.
        """
        return float(self._process.ask("copy", _SECONDS, "the process that copies memory"))

    def product(self) -> float | None:
        """Floating-point operations per second of float32 matrix products, None without a PyTorch for it.

        Raises:
            P2Error: as in `read`.
        """
        return float(self._process.ask("product", _SECONDS, "the process that copies memory")) or None

    def __enter__(self) -> Copying:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()


def observed(copies: Sequence[float], gpu: Copying) -> GpuRates:
    """What a GPU did in a run: the median of its copies, and what it multiplies now, if it tells."""
    found = GpuRates(copy_bytes_per_second=statistics.median(copies), matmul_flops_per_second=None)
    with contextlib.suppress(P2Error):
        found["matmul_flops_per_second"] = gpu.product()
    return found


def rate(
    act: Act,
    wait: Act,
    amount: float,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """How much is done in a second, median of the rounds.

    Args:
        act: starts it once.
        wait: returns when all that was started is done.
        amount: of what `act` does.
        rounds: timed rounds, after one that is not.
        clock: seconds.
    """
    seconds = []
    for _ in range(rounds + 1):
        wait()
        started = clock()
        for _ in range(REPEATS):
            act()
        wait()
        seconds.append(clock() - started)
    return REPEATS * amount / statistics.median(seconds[1:])


def copy(device: str, nbytes: int | None = None) -> float:
    """See `Copying.read`. On a GPU it takes a quarter of the free memory at most for each of two copies."""
    nbytes = nbytes or BYTES[device]
    if device == "cuda":
        with _on_gpu(nbytes) as (act, wait, taken):
            return rate(act, wait, 2 * taken)
    source = np.ones(nbytes // 4, np.float32)
    target = np.zeros_like(source)
    return rate(lambda: np.copyto(target, source), lambda: None, 2 * nbytes)


@contextlib.contextmanager
def _on_gpu(nbytes: int) -> Iterator[tuple[Act, Act, int]]:
    """One copy in the GPU's memory, how to wait for it, and its bytes. The driver alone is needed for it."""
    library: Any = nvidia.driver_library()

    def call(name: str, *arguments: object) -> None:
        status = getattr(library, name)(*arguments)
        if status:
            raise P2Error(f"the GPU's memory cannot be copied: {name} answers with error {status}")

    if library is None:
        raise P2Error("the GPU's memory cannot be copied: no NVIDIA driver is installed")
    device, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    source, target = ctypes.c_uint64(), ctypes.c_uint64()
    try:
        call("cuCtxSetCurrent", context)
        free, _ = nvidia.memory() or (4 * nbytes, 0)
        size = ctypes.c_size_t(min(nbytes, free // 4))
        for address in (source, target):
            call("cuMemAlloc_v2", ctypes.byref(address), size)
        yield (
            lambda: call("cuMemcpyDtoDAsync_v2", target, source, size, None),
            lambda: call("cuCtxSynchronize"),
            size.value,
        )
    finally:
        for address in (source, target):
            if address.value:
                library.cuMemFree_v2(address)
        library.cuDevicePrimaryCtxRelease_v2(device)


def product(device: str, size: int = MATRIX) -> float:
    """See `Copying.product`; 0 without a PyTorch for it."""
    try:
        import torch
    except ImportError:
        return 0.0
    if device == "cuda" and not torch.cuda.is_available():
        return 0.0
    torch.backends.cuda.matmul.allow_tf32 = False
    left = torch.ones(size, size, device=device)
    target = torch.empty_like(left)
    wait: Act = torch.cuda.synchronize if device == "cuda" else lambda: None
    return rate(lambda: torch.mm(left, left, out=target), wait, 2 * size**3)


def answer(device: str, requests: Iterable[str], replies: TextIO) -> None:
    """Answer every line."""
    for line in requests:
        print({"copy": copy, "product": product}[line.strip()](device), file=replies, flush=True)


def main(device: str) -> None:
    """Answer the lines of standard input, until there are no more."""
    try:
        with take_stdout() as replies:
            answer(device, sys.stdin, replies)
    except P2Error as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1])
