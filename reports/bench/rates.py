"""What the machine itself can do: read memory, multiply matrices.

Each rate is measured in a process of its own (``python -m p2.reports.bench.rates KIND THREADS``
prints it as JSON), so that the libraries' threads and settings disturb nothing.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...spec.errors import P2Error
from ..machine import caches, memory_available
from .document import Rates

ROUNDS = 7
READ_BYTES = 256 << 20
CACHES = 8  # what is read is so many times larger than the last cache
READ_PASSES = 2  # over all of it in one round, so that starting the threads does not count
MATRIX = 2048

_SECONDS = 300.0
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

# Both release Python's lock; which is quicker depends on the processor.
_READERS: dict[str, Callable[[Any], Any]] = {"dot": lambda a: np.dot(a, a), "max": np.max}


def measure(threads: int) -> dict[str, float]:
    """Measure everything once.

    Args:
        threads: the most that may be used; memory is also read with one.

    Returns:
        ``bandwidth dot, 1 thread`` and so on in bytes per second, ``matmul numpy``, ``matmul torch`` in
        floating-point operations per second: the median of `ROUNDS` rounds each.

    Raises:
        P2Error: a measurement failed.
    """
    found: dict[str, float] = {}
    for kind in ("bandwidth", "numpy", "torch"):
        # numpy's own threads are set by the environment; the readers are threads of Python.
        count = str(threads)
        pinned = _ONE_THREAD if kind == "bandwidth" else dict.fromkeys(_ONE_THREAD, count)
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", "p2.reports.bench.rates", kind, count],
                capture_output=True,
                text=True,
                env=os.environ | pinned,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise P2Error(
                f"measuring {kind} took longer than {_SECONDS:g} s: the machine is too busy"
            ) from None
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise P2Error(f"the machine's rates cannot be measured ({kind}): {reason}")
        found |= json.loads(done.stdout)
    return found


def combine(*observed: dict[str, float]) -> Rates:
    """The best of each kind over several measurements: what the machine was able to do."""
    best = {
        kind: max(rate for found in observed for name, rate in found.items() if name.startswith(kind))
        for kind in ("bandwidth", "matmul")
    }
    return Rates(bandwidth_bytes_per_second=best["bandwidth"], matmul_flops_per_second=best["matmul"])


def bandwidth(threads: int, size: int | None = None, rounds: int = ROUNDS) -> dict[str, float]:
    """Bytes read per second from arrays much larger than every cache, with one thread and with `threads`.

    Args:
        threads: Python threads, each with an array of its own.
        size: bytes in all; None takes 256 MiB or 8 times the last cache, if memory allows.
        rounds: see `read_rate`.
    """
    if size is None:
        size = max(READ_BYTES, CACHES * max(caches().values(), default=0))
        available = memory_available()
        size = size if available is None else min(size, available // 4)
    rates = {}
    for count in sorted({1, threads}):
        # Written by one thread and read by another: np.ones touches every page.
        buffers = [np.ones(max(1, size // 4 // count), np.float32) for _ in range(count)]
        for name, reader in _READERS.items():
            plural = "" if count == 1 else "s"
            rates[f"bandwidth {name}, {count} thread{plural}"] = read_rate(buffers, reader, rounds=rounds)
    return rates


def read_rate(
    buffers: Sequence[np.ndarray[Any, Any]],
    reader: Callable[[Any], Any],
    *,
    rounds: int = ROUNDS,
    passes: int = READ_PASSES,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Bytes per second, median of the rounds.

    Args:
        buffers: one for each thread.
        reader: reads one buffer and releases Python's lock.
        rounds: timed rounds, after one that is not.
        passes: times that each buffer is read in a round.
        clock: seconds.
    """
    barrier = threading.Barrier(len(buffers) + 1)

    def work(buffer: Any) -> None:
        for _ in range(rounds + 1):
            barrier.wait()
            for _ in range(passes):
                reader(buffer)
            barrier.wait()

    workers = [threading.Thread(target=work, args=(buffer,), daemon=True) for buffer in buffers]
    for worker in workers:
        worker.start()
    seconds = []
    for index in range(rounds + 1):
        barrier.wait()
        started = clock()
        barrier.wait()
        if index:
            seconds.append(clock() - started)
    for worker in workers:
        worker.join()
    return passes * sum(buffer.nbytes for buffer in buffers) / statistics.median(seconds)


def matmul(
    library: str,
    threads: int,
    *,
    size: int = MATRIX,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Operations per second, ``2 * size**3`` for each float32 product of two square matrices.

    Args:
        library: ``numpy`` (its threads are set by the environment) or ``torch``.
        threads: of torch.
        size: rows and columns.
        rounds: timed products, after one that is not; their median counts.
        clock: seconds.

    Returns:
        ``matmul numpy`` or ``matmul torch``; nothing if the library is not installed.
    """
    a = np.random.default_rng(0).standard_normal((size, size), np.float32)
    b = a.T.copy()
    multiply: Callable[[], Any]
    if library == "numpy":
        out = np.empty_like(a)

        def multiply() -> Any:
            return np.matmul(a, b, out=out)
    else:
        try:
            import torch
        except ModuleNotFoundError:
            return {}
        torch.set_num_threads(threads)
        left, right = torch.from_numpy(a), torch.from_numpy(b)
        target = torch.empty_like(left)

        def multiply() -> Any:
            return torch.mm(left, right, out=target)

    multiply()
    seconds = []
    for _ in range(rounds):
        started = clock()
        multiply()
        seconds.append(clock() - started)
    return {f"matmul {library}": 2 * size**3 / statistics.median(seconds)}


def main(kind: str, threads: int) -> None:
    """Print one kind of rates as JSON."""
    print(json.dumps(bandwidth(threads) if kind == "bandwidth" else matmul(kind, threads)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
