"""What was measured, in the form that the document has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .contender import Contender
from .document import BatchPoint, Entry, Latency, Rates, Spread


def blank(contender: Contender, skipped: str | None = None) -> Entry:
    """An entry without figures."""
    return Entry(
        key=contender.key,
        title=contender.title,
        precision=contender.precision,
        group=contender.group,
        device=contender.device,
        skipped=skipped,
        threads=None,
        load_s=None,
        first_character_s=None,
        peak_memory_bytes=None,
        bytes_per_step=None,
        characters_per_second=None,
        latency=None,
        batches=[],
        prompt=None,
        bandwidth_share=None,
        matmul_share=None,
        quality=None,
        text=None,
    )


def spread(speeds: Sequence[float]) -> Spread:
    """Median, 5th and 95th percentile (linear between the values)."""
    p5, median, p95 = np.percentile(speeds, (5, 50, 95)).tolist()
    return Spread(median=median, p5=p5, p95=p95, rounds=len(speeds))


def latency(seconds: Sequence[float], chunk: int) -> Latency:
    """Percentiles of the time per character, each value the mean over a call of `chunk`."""
    p50, p90, p99 = (1e6 * np.percentile(seconds, (50, 90, 99))).tolist()
    return Latency(p50_us=p50, p90_us=p90, p99_us=p99, chunk=chunk, samples=len(seconds))


def point(batch: int, characters_per_second: float) -> BatchPoint:
    """A point of the batch curve."""
    return BatchPoint(
        batch=batch,
        characters_per_second=characters_per_second,
        us_per_character=1e6 / characters_per_second,
    )


def add_shares(entry: Entry, rates: Rates, weights: int) -> None:
    """Set the figures against what the machine can do; its rates are those of the processor.

    Args:
        entry: changed in place.
        rates: of the same run.
        weights: numbers in the step's matrices, each a multiplication and an addition for a character.
    """
    speed, size = entry["characters_per_second"], entry["bytes_per_step"]
    if entry["device"] != "cpu" or speed is None or size is None:
        return
    entry["bandwidth_share"] = size * speed["median"] / rates["bandwidth_bytes_per_second"]
    best = max([speed["median"], *(at["characters_per_second"] for at in entry["batches"])])
    entry["matmul_share"] = 2 * weights * best / rates["matmul_flops_per_second"]
