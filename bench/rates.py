"""What the machine itself can do: read memory, multiply matrices.

Each rate is measured in a process of its own, so that the libraries' threads and settings disturb
nothing: ``python -m p2.bench.rates KIND THREADS``. The products' rates are printed as JSON
(`measure`). The memory's are asked for again and again, as its pace changes while other programs use
it (`Bandwidth`).
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

import numpy as np

from ..contract.errors import P2Error
from ..render.machine import caches, memory_available
from .document import Rates
from .process import LineProcess

ROUNDS = 7
READ_BYTES = 256 << 20
CACHES = 8  # what is read is so many times larger than the last cache
MATRIX = 2048

_SECONDS = 300.0
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_THIS = "p2.bench.rates"

# Both release Python's lock; which is quicker depends on the processor.
_READERS: dict[str, Callable[[Any], Any]] = {"dot": lambda a: np.dot(a, a), "max": np.max}


def measure(threads: int) -> dict[str, float]:
    """Measure the matrix products once.

    Args:
        threads: the most that may be used.

    Returns:
        ``matmul numpy``, ``matmul torch`` in floating-point operations per second: the median of `ROUNDS`
        rounds each.

    Raises:
        P2Error: a measurement failed.
    """
    found: dict[str, float] = {}
    for kind in ("numpy", "torch"):
        # numpy's own threads are set by the environment.
        pinned = dict.fromkeys(_ONE_THREAD, str(threads))
        try:
            done = subprocess.run(
                [sys.executable, "-P", "-m", _THIS, kind, str(threads)],
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


def combine(bandwidths: Sequence[float], *products: dict[str, float]) -> Rates:
    """The median of what the memory did, and the best of what the products reached.

    Args:
        bandwidths: bytes per second, over the run.
        products: what `measure` found.
    """
    return Rates(
        bandwidth_bytes_per_second=statistics.median(bandwidths),
        matmul_flops_per_second=max(rate for found in products for rate in found.values()),
    )


class Bandwidth:
    """Tells how fast the memory is read at the moment, from a process of its own.

    Args:
        threads: the most that may be used; one is tried as well, and the quicker way is kept.

    Raises:
        P2Error: as in `read`.
    """

    def __init__(self, threads: int) -> None:
        self._process = LineProcess(
            _THIS, "bandwidth", str(threads), environment=dict(os.environ) | _ONE_THREAD
        )

    def read(self) -> float:
        """Bytes per second, median of `ROUNDS` rounds; some hundredths of a second.

        Raises:
            P2Error: its process ended, or took too long.
        """
        return float(self._process.ask("read", _SECONDS, "the process that reads the memory"))

    def __enter__(self) -> Bandwidth:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()


def readers(threads: int, size: int | None = None) -> dict[str, Callable[[], float]]:
    """Ways to read an array much larger than every cache: each returns bytes per second (`read_rate`).

    Args:
        threads: Python threads, each with a part of its own; one alone is a way too.
        size: bytes in all; None takes 256 MiB or 8 times the last cache, if memory allows.
    """
    if size is None:
        size = max(READ_BYTES, CACHES * max(caches().values(), default=0))
        available = memory_available()
        size = size if available is None else min(size, available // 4)
    whole = np.ones(max(threads, size // 4), np.float32)  # np.ones touches every page
    return {
        f"{name}, {count} thread{'' if count == 1 else 's'}": functools.partial(
            read_rate, np.array_split(whole, count), reader
        )
        for name, reader in _READERS.items()
        for count in sorted({1, threads})
    }


def read_rate(
    buffers: Sequence[np.ndarray[Any, Any]],
    reader: Callable[[Any], Any],
    *,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Bytes per second, median of the rounds, each from the first thread's start to the last one's end.

    The threads look at the clock themselves: another that did it for them would find no processor free,
    look late, and find the memory faster than it is.

    Args:
        buffers: one for each thread.
        reader: reads one buffer and releases Python's lock.
        rounds: timed rounds, after one that is not.
        clock: seconds.
    """
    barrier = threading.Barrier(len(buffers))
    spans: list[list[tuple[float, float]]] = [[] for _ in buffers]

    def work(buffer: Any, seen: list[tuple[float, float]]) -> None:
        for _ in range(rounds + 1):
            barrier.wait()
            started = clock()
            reader(buffer)
            seen.append((started, clock()))

    workers = [
        threading.Thread(target=work, args=(buffer, seen), daemon=True)
        for buffer, seen in zip(buffers, spans, strict=True)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    seconds = [
        max(end for _, end in ends) - min(start for start, _ in ends)
        for ends in list(zip(*spans, strict=True))[1:]
    ]
    size: int = sum(buffer.nbytes for buffer in buffers)
    return float(size / statistics.median(seconds))


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


def answer(threads: int, requests: Iterable[str], replies: TextIO, size: int | None = None) -> None:
    """Read the memory in the quickest way for every line that comes, and print the bytes per second."""
    ways = readers(threads, size)
    best = max(ways.values(), key=lambda way: way())
    for _ in requests:
        print(best(), file=replies, flush=True)


def main(kind: str, threads: int) -> None:
    """Print one kind of rates."""
    if kind == "bandwidth":
        answer(threads, sys.stdin, sys.stdout)
    else:
        print(json.dumps(matmul(kind, threads)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
