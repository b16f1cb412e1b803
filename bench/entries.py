"""What was measured, in the form that the document has."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from .contender import Contender
from .document import BatchPoint, Entry, Latency, PromptSpeed, Rates, Spread


def blank(contender: Contender, skipped: str | None = None) -> Entry:
    """An entry without figures."""
    return Entry(
        key=contender.key,
        title=contender.title,
        precision=contender.precision,
        group=contender.group,
        device="cuda" if contender.device == "cuda" else "cpu",
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
        beside=None,
        bandwidth_share=None,
        matmul_share=None,
        quality=None,
        text=None,
    )


def spread(speeds: Sequence[float]) -> Spread:
    """Median, 5th and 95th percentile (linear between the values)."""
    p5, median, p95 = np.percentile(speeds, (5, 50, 95)).tolist()
    return Spread(median=median, p5=p5, p95=p95, values=list(speeds))


def latency(seconds: Sequence[float], chunk: int) -> Latency:
    """Percentiles of the time per character, each value the mean over a call of `chunk`."""
    p50, p90, p99 = (1e6 * np.percentile(seconds, (50, 90, 99))).tolist()
    return Latency(p50_us=p50, p90_us=p90, p99_us=p99, chunk=chunk, samples=len(seconds))


def point(batch: int, speeds: Sequence[float], growths: Sequence[float] = ()) -> BatchPoint:
    """A point of the batch curve.

    Args:
        batch: texts side by side.
        speeds: characters per second of each round.
        growths: time per character over that of the batch before, of each round; none if it was not measured.
    """
    speed = statistics.median(speeds)
    return BatchPoint(
        batch=batch,
        characters_per_second=speed,
        us_per_character=1e6 / speed,
        values=list(speeds),
        growth=statistics.median(growths) if growths else None,
    )


def prompt(length: int, speeds: Sequence[float]) -> PromptSpeed:
    """What reading `length` characters gave, in characters per second of each round."""
    return PromptSpeed(length=length, characters_per_second=statistics.median(speeds), values=list(speeds))


def paired(above: Sequence[float], below: Sequence[float]) -> float:
    """The median over the rounds of the ratio within a round; of the medians, where rounds are missing.

    A machine that changes its pace from round to round changes both numbers of a round.
    """
    if len(above) != len(below):
        return statistics.median(above) / statistics.median(below)
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def add_matmul_share(entry: Entry, rates: Rates, weights: int) -> None:
    """Set the figures against the float32 matrix products of the machine, or of its GPU.

    Args:
        entry: changed in place.
        rates: of the same run.
        weights: numbers in the step's matrices, each a multiplication and an addition for a character.
    """
    speed = entry["characters_per_second"]
    gpu = rates.get("gpu")
    of_gpu = gpu["matmul_flops_per_second"] if gpu else None
    product = rates["matmul_flops_per_second"] if entry["device"] == "cpu" else of_gpu
    if product is None or speed is None:
        return
    best = max([speed["median"], *(at["characters_per_second"] for at in entry["batches"])])
    entry["matmul_share"] = 2 * weights * best / product
