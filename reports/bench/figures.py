"""What the targets, the plots and the tables read out of the document."""

from __future__ import annotations

from collections.abc import Sequence

from .document import BatchPoint, Document, Entry, Measured

EAGER = "torch-eager"  # key of the contender that everything is compared with

_CELLS = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}


def rate(entry: Entry) -> float | None:
    """Characters per second of one text, median of the rounds."""
    spread = entry["characters_per_second"]
    return spread["median"] if spread else None


def microseconds(entry: Entry) -> float | None:
    """Microseconds per character of one text."""
    speed = rate(entry)
    return 1e6 / speed if speed else None


def times(entry: Entry | None, base: Entry | None) -> float | None:
    """How many times as many characters per second `entry` writes as `base`."""
    if entry is None or base is None:
        return None
    a, b = rate(entry), rate(base)
    return a / b if a and b else None


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
    cell = _CELLS.get(card["cell"], str(card["cell"]))
    return f"{cell}, {layers} layer{'' if layers == 1 else 's'}"


def shape(measured: Measured) -> str:
    """The model in a few words, e.g. ``LSTM, 2 layers, hidden 512``."""
    return f"{family(measured)}, hidden {measured['card']['hidden']:,}"


def leading(document: Document) -> Measured | None:
    """The model that the headline is about: hidden 512, else the middle one of those measured."""
    able = [m for m in document["models"] if times(best(m), find(m, EAGER))]
    able = able or [m for m in document["models"] if best(m)]
    able.sort(key=lambda m: m["card"]["hidden"])
    middle = able[len(able) // 2] if able else None
    return next((m for m in able if m["card"]["hidden"] == 512), middle)
