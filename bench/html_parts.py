"""Pieces of the benchmark's page: its tables and plots. Whatever comes from the document is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..render.html.parts import figure, figures, heads, mark, table, text
from ..render.numbers import NOTHING, number, percent, ratio, seconds, size
from .document import Entry, Target
from .figures import rate, times
from .markdown import MARKS
from .plots import Plot


def target_table(targets: Sequence[Target]) -> str:
    """Targets with goal, measured figure, verdict and note."""
    lines = [
        f'<tr><th scope="row">{text(t["what"])}</th><td>{text(t["goal"])}</td><td>{text(t["measured"])}</td>'
        f"<td>{mark(t['reached'], MARKS[t['reached']])}</td>"
        f"<td>{text(t['note'])}</td></tr>"
        for t in targets
    ]
    return table(heads(("target", "goal", "measured", "verdict", "note")), lines, "words wrap")


def _spread(entry: Entry) -> str:
    spread = entry["characters_per_second"]
    return f"{number(spread['p5'])} … {number(spread['p95'])}" if spread else NOTHING


def _latency(entry: Entry) -> str:
    latency = entry["latency"]
    if latency is None:
        return NOTHING
    return " / ".join(number(us) for us in (latency["p50_us"], latency["p90_us"], latency["p99_us"]))


def _same(entry: Entry) -> str:
    text = entry["text"]
    return {None: NOTHING, True: "yes", False: "no"}[text["identical"] if text else None]


def _bits(entry: Entry) -> str:
    quality = entry["quality"]
    return f"{quality['bits_per_character']:.4f}" if quality else NOTHING


def _difference(entry: Entry) -> str:
    quality = entry["quality"]
    return f"{quality['difference']:+.4f}" if quality else NOTHING


def _gate(entry: Entry) -> str:
    quality = entry["quality"]
    return ("passes" if quality["passes"] else "fails") if quality else NOTHING


# Heading -> what stands under it, of an entry and of the eager one that it is compared with.
Columns = Mapping[str, Callable[[Entry, Entry | None], str]]
SPEED: Columns = {
    "precision": lambda e, _: e["precision"],
    "characters/s": lambda e, _: number(rate(e)),
    "p5 … p95": lambda e, _: _spread(e),
    "times eager": lambda e, eager: ratio(times(e, eager)),
    "µs p50 / p90 / p99": lambda e, _: _latency(e),
    "prompt, characters/s": lambda e, _: number(
        e["prompt"]["characters_per_second"] if e["prompt"] else None
    ),
    "bandwidth share": lambda e, _: percent(e["bandwidth_share"]),
    "matrix-product share": lambda e, _: percent(e["matmul_share"]),
}
COST: Columns = {
    "bits/char": lambda e, _: _bits(e),
    "above float32": lambda e, _: _difference(e),
    "KL, nats": lambda e, _: number(e["quality"]["kl"] if e["quality"] else None),
    "quality gate": lambda e, _: _gate(e),
    "same text": lambda e, _: _same(e),
    "threads": lambda e, _: NOTHING if e["threads"] is None else str(e["threads"]),
    "bytes per step": lambda e, _: size(e["bytes_per_step"]),
    "peak memory": lambda e, _: size(e["peak_memory_bytes"]),
    "load": lambda e, _: seconds(e["load_s"]),
    "first character": lambda e, _: seconds(e["first_character_s"]),
}


def entries_table(columns: Columns, entries: Sequence[Entry], eager: Entry | None) -> str:
    """A row for each contender; one that was skipped has its reason instead of figures."""
    lines = []
    for entry in entries:
        own = ' class="own"' if entry["group"] == "p2" else ""
        name = f'<th scope="row">{text(entry["title"])}</th>'
        if entry["skipped"] is not None:
            reason = f'<td colspan="{len(columns)}">not run: {text(entry["skipped"])}</td>'
            lines.append(f'<tr class="skipped">{name}{reason}</tr>')
            continue
        cells = "".join(f"<td>{text(show(entry, eager))}</td>" for show in columns.values())
        lines.append(f"<tr{own}>{name}{cells}</tr>")
    return table(heads(("contender", *columns)), lines) if lines else ""


def batch_table(entries: Sequence[Entry], where: str = "") -> str:
    """Characters per second of all texts together."""
    sizes = sorted({point["batch"] for entry in entries for point in entry["batches"]})
    if not sizes:
        return ""
    lines = []
    for entry in entries:
        speeds = {point["batch"]: point["characters_per_second"] for point in entry["batches"]}
        if speeds:
            own = ' class="own"' if entry["group"] == "p2" else ""
            cells = "".join(f"<td>{number(speeds.get(batch))}</td>" for batch in sizes)
            lines.append(f'<tr{own}><th scope="row">{text(entry["title"])}</th>{cells}</tr>')
    head = heads(("texts side by side", *sizes))
    return f"<h3>Many texts side by side{where}, characters/s of all together</h3>\n{table(head, lines)}"


def plots_with_words(shown: Sequence[Plot], prefix: str) -> str:
    """Plots with their words; `prefix` tells screen readers which model a plot is of."""
    return figures([figure(p.title, p.svg, p.caption, prefix + p.title) for p in shown])
