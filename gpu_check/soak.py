"""Writing for a long time, with the memory watched: what leaks a little at each launch shows here."""

from __future__ import annotations

import statistics
import time
from typing import Any

import numpy as np

from ..contract.engine import Engine
from ..contract.sampling import Sampling
from ..render.machine import process_memory
from ..runtime import nvidia
from ..runtime.decoder import Decoder
from .check import CheckFailed
from .engine_checks import SEED, Open

SAMPLES = 20  # looks at the memory
AGAIN = 1000  # characters at the end that are written once more, from a snapshot

# The most that memory may grow between the first and the last quarter, in bytes.
HOST_GROWTH = 32 << 20
DEVICE_GROWTH = 16 << 20


def soak(open_engine: Open, _reference: Engine, characters: int) -> dict[str, Any]:
    """Write one text of so many characters; neither memory may go on growing.

    Args:
        open_engine: opens what is checked.
        characters: at least `SAMPLES`.
    """
    engine = open_engine()
    try:
        decoder = Decoder(engine, Sampling(), SEED)
        piece, kept, newest = max(1, characters // SAMPLES), None, None
        samples: list[dict[str, Any]] = []
        started = time.perf_counter()
        written = 0
        while written < characters:
            count = min(piece, characters - written)
            if written + count >= characters:
                kept = decoder.snapshot()
            newest = decoder.write(count)[:, :AGAIN]
            written += count
            samples.append(
                {
                    "characters": written,
                    "host_bytes": process_memory(),
                    "device_bytes": device_memory(),
                    "other_programs": other_programs(),
                }
            )
        seconds = time.perf_counter() - started
        own = nvidia.process_memory() is not None
        assert kept is not None and newest is not None  # noqa: PT018
        decoder.restore(kept)
        same = bool(np.array_equal(newest, decoder.write(newest.shape[1])))
    finally:
        engine.close()
    growth = {kind: grown([s[f"{kind}_bytes"] for s in samples]) for kind in ("host", "device")}
    details = {
        "characters": characters,
        "characters_per_second": characters / seconds,
        "samples": samples,
        "host_growth_bytes": growth["host"],
        "device_growth_bytes": growth["device"],
        "device_bytes_of": None if growth["device"] is None else "this process" if own else "all programs",
        "other_programs": max((n for s in samples if (n := s["other_programs"]) is not None), default=None),
        "same_end_again": same,
    }
    whole = "" if own else ", of all programs on the GPU, which the driver does not tell apart here"
    if details["other_programs"]:
        whole += f"; other programs used a GPU: {details['other_programs']}"
    problems = [
        f"{kind} memory grew by {(growth[kind] or 0) / 2**20:.1f} MiB (limit {limit >> 20})"
        + (whole if kind == "device" else "")
        for kind, limit in (("host", HOST_GROWTH), ("device", DEVICE_GROWTH))
        if (growth[kind] or 0) > limit
    ]
    if not same:
        problems.append("the end of the text is another one when it is written again from a snapshot")
    if problems:
        raise CheckFailed("; ".join(problems), details)
    return details


def grown(samples: list[int | None]) -> float | None:
    """Bytes between the median of the second and of the last quarter: the first is still warming up."""
    sizes = [size for size in samples if size is not None]
    quarter = len(sizes) // 4
    if not quarter:
        return None
    return statistics.median(sizes[-quarter:]) - statistics.median(sizes[quarter : 2 * quarter])


def other_programs() -> int | None:
    """How many programs use a GPU besides this process, None where the driver does not tell."""
    found = nvidia.programs()
    if not found:  # not even this one: in a container the driver may tell nothing of the others either
        return None
    return len(found) - 1


def device_memory() -> int | None:
    """Bytes that this process has on GPUs; where the driver does not tell, that all programs have on the
    GPU that this thread works with; None where it works with none.
    """
    own = nvidia.process_memory()
    if own is not None:
        return own
    memory = nvidia.memory()
    return memory and memory[1] - memory[0]
