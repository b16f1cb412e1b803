"""What the targets, the plots and the tables read out of the document."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ..contract.cells import CELLS
from .document import BatchPoint, Document, Entry, Measured
from .entries import paired

EAGER = "torch-eager"  # key of the contender that everything is compared with
EAGERS = {"cpu": EAGER, "cuda": "cuda-eager"}  # and on each device


def rate(entry: Entry) -> float | None:
    """Characters per second of one text, median of the rounds."""
    spread = entry["characters_per_second"]
    return spread["median"] if spread else None


def microseconds(entry: Entry) -> float | None:
    """Microseconds per character of one text."""
    speed = rate(entry)
    return 1e6 / speed if speed else None


def times(entry: Entry | None, base: Entry | None) -> float | None:
    """How many times as many characters per second `entry` writes as `base`: `entries.paired`.

    Of the same turns where `entry` wrote beside `base` (`document.Beside`).
    """
    if entry is None or base is None:
        return None
    a, b = entry["characters_per_second"], base["characters_per_second"]
    return paired(_beside(entry, base, "written") or a["values"], b["values"]) if a and b else None


def _beside(entry: Entry, base: Entry, what: Literal["written", "read"]) -> list[float]:
    """What `entry` did in the turns of `base`, empty where it did nothing then."""
    there = base["beside"]
    return there[what] if there and there["key"] == entry["key"] else []


def closest(entry: Entry | None, others: Sequence[Entry]) -> tuple[float, Entry] | None:
    """The least `times` over other entries, and which that was."""
    gains = [(gain, other) for other in others if (gain := times(entry, other))]
    return min(gains, key=lambda pair: pair[0], default=None)


def times_reading(entry: Entry, base: Entry) -> float | None:
    """How many times as fast `entry` reads known text as `base`; see `times`."""
    a, b = entry["prompt"], base["prompt"]
    return paired(_beside(entry, base, "read") or a["values"], b["values"]) if a and b else None


def reading_over_writing(entry: Entry) -> float | None:
    """How many times as fast known text is read as text is written, measured in the same turns."""
    read, written = entry["prompt"], entry["characters_per_second"]
    return paired(read["values"], written["values"]) if read and written else None


def growth(entry: Entry) -> list[tuple[float, int, int]]:
    """For each batch its time per character over that of the best smaller batch, the batch, and that one.

    From the ratios of neighbours, each measured within a turn; where there is none, from the medians.
    """
    points = sorted(entry["batches"], key=lambda point: point["batch"])
    found: list[tuple[float, int, int]] = []
    times = [1.0]
    for before, point in itertools.pairwise(points):
        measured = point["us_per_character"] / before["us_per_character"]
        times.append(times[-1] * (point["growth"] or measured))
        best = min(range(len(times) - 1), key=times.__getitem__)
        found.append((times[-1] / times[best], point["batch"], points[best]["batch"]))
    return found


def on(measured: Measured, device: str) -> list[Entry]:
    """The entries of one device. Where nothing ran on a GPU those for one are with the processor's."""
    both = any(rate(entry) for entry in measured["entries"] if entry["device"] == "cuda")
    return [e for e in measured["entries"] if (e["device"] == device if both else device == "cpu")]


def roofs(measured: Measured, device: str) -> tuple[float | None, float | None]:
    """Bytes per second of a device's memory, and operations per second of its float32 matrix products."""
    rates = measured["rates"]
    if device == "cpu":
        return rates["bandwidth_bytes_per_second"], rates["matmul_flops_per_second"]
    gpu = rates.get("gpu")
    return (gpu["copy_bytes_per_second"], gpu["matmul_flops_per_second"]) if gpu else (None, None)


def find(measured: Measured, key: str) -> Entry | None:
    """The entry of a contender."""
    return next((entry for entry in measured["entries"] if entry["key"] == key), None)


def fastest(entries: Sequence[Entry]) -> Entry | None:
    """The entry with the most characters per second, of those that have been measured."""
    return max((e for e in entries if rate(e)), key=lambda e: rate(e) or 0.0, default=None)


def ours(measured: Measured, precision: str | None = None, device: str = "cpu") -> list[Entry]:
    """p2's entries on a device, those of one precision if it is given."""
    return [
        entry
        for entry in measured["entries"]
        if entry["group"] == "p2"
        and entry["device"] == device
        and (precision is None or entry["precision"] == precision)
    ]


def peers(measured: Measured) -> list[Entry]:
    """The other float32 ways to run the model on the CPU, `EAGER` left out."""
    return [
        entry
        for entry in measured["entries"]
        if entry["group"] == "peer"
        and entry["device"] == "cpu"
        and entry["precision"] == "float32"
        and entry["key"] != EAGER
    ]


def rivals(measured: Measured) -> list[Entry]:
    """The other float32 ways, `EAGER` among them: it repacks its weights once for a whole batch or prompt."""
    eager = find(measured, EAGER)
    return [*peers(measured), *([eager] if eager else [])]


def judged(measured: Measured) -> bool:
    """Whether the quality of any entry was measured: not so where the weights were not trained."""
    return any(entry["quality"] for entry in measured["entries"])


def acceptable(measured: Measured, entry: Entry) -> bool:
    """Whether an entry passes the quality gate; with nothing judged, speed alone is compared."""
    if entry["precision"] == "float32" or not judged(measured):
        return True
    return entry["quality"] is not None and entry["quality"]["passes"]


def best(measured: Measured) -> Entry | None:
    """p2's fastest precision on the CPU that passes the quality gate."""
    return fastest([entry for entry in ours(measured) if acceptable(measured, entry)])


def at_batch(entry: Entry, batch: int) -> BatchPoint | None:
    """The measurement of `batch` texts side by side."""
    return next((point for point in entry["batches"] if point["batch"] == batch), None)


def matmul_share(measured: Measured, point: BatchPoint) -> float:
    """Share of the machine's float32 matrix-product rate: 2 * weights flops for each character."""
    flops = 2.0 * measured["weights"] * point["characters_per_second"]
    return flops / measured["rates"]["matmul_flops_per_second"]


def family(measured: Measured) -> str:
    """The kind of model without its width, e.g. ``LSTM, 2 layers``."""
    card = measured["card"]
    layers = card["layers"]
    cell = CELLS[card["cell"]].title if card["cell"] in CELLS else str(card["cell"])
    return f"{cell}, {layers} layer{'' if layers == 1 else 's'}"


def shape(measured: Measured) -> str:
    """The model in a few words, e.g. ``LSTM, 2 layers, hidden 512``."""
    return f"{family(measured)}, hidden {measured['card']['hidden']:,}"


def float32_bytes(measured: Measured) -> int:
    """Bytes of the weights that each character passes through, in float32."""
    return 4 * measured["weights"]


def l3_cache(machine: Mapping[str, Any]) -> int | None:
    """Bytes of the document's machine's last cache, or None where they are not known."""
    found: int | None = (machine.get("caches") or {}).get("L3")
    return found


def from_memory(measured: Measured, machine: Mapping[str, Any]) -> bool:
    """Whether float32 weights are known to come from memory: only then a share of its rate says something."""
    cache = l3_cache(machine)
    return cache is not None and float32_bytes(measured) > cache


def leading(document: Document) -> Measured | None:
    """The model that the headline is about: hidden 512, else the middle one of those measured."""
    able = [m for m in document["models"] if times(best(m), find(m, EAGER))]
    able = able or [m for m in document["models"] if best(m)]
    able.sort(key=lambda m: m["card"]["hidden"])
    middle = able[len(able) // 2] if able else None
    return next((m for m in able if m["card"]["hidden"] == 512), middle)
