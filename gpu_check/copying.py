"""How fast the GPU copies its own memory: what a step that reads its weights is set against."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from ..contract.errors import BackendMissing
from ..contract.shell import install

BYTES = 1 << 30  # several times any last-level cache
ROUNDS = 9
COPIES = 8  # in one round, so that launching them does not count


def copy_rate(
    copy: Callable[[], object],
    wait: Callable[[], object],
    nbytes: int,
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Bytes moved per second, each copied byte counted twice: it is read and written.

    Args:
        copy: starts one copy of `nbytes`.
        wait: returns when all copies are done.
        nbytes: of one copy.
        rounds: timed rounds, after one that is not.
        clock: seconds.

    Returns:
        ``bytes_per_second`` (the median round), ``slowest`` and ``fastest``.
    """
    rates = []
    for index in range(rounds + 1):
        wait()
        started = clock()
        for _ in range(COPIES):
            copy()
        wait()
        if index:
            rates.append(2 * COPIES * nbytes / (clock() - started))
    return {"bytes_per_second": statistics.median(rates), "slowest": min(rates), "fastest": max(rates)}


def measure(device: str, nbytes: int = BYTES) -> dict[str, Any]:
    """The copy rate of PyTorch's device ``cuda`` or ``cpu``.

    Raises:
        BackendMissing: PyTorch is not installed, or reaches no GPU.
    """
    try:
        import torch
    except ImportError as error:
        raise BackendMissing(f"measuring the copy rate needs PyTorch: {install('train')}") from error
    if device == "cuda" and not torch.cuda.is_available():
        raise BackendMissing("measuring the copy rate needs a PyTorch with CUDA")
    source = torch.ones(nbytes // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    return {"device": device, "copied_bytes": nbytes} | copy_rate(lambda: target.copy_(source), wait, nbytes)
