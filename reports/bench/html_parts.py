"""Pieces of the HTML report: tables, figures, lists. Whatever comes from the document is escaped here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from .document import Entry, Target
from .figures import NOTHING, number, percent, printable, rate, ratio, seconds, size, times
from .markdown import MARKS
from .plots import Plot

_CLASSES = {True: "yes", False: "no", None: "none"}
_SIGNS = {True: "✓", False: "✗", None: "–"}


def text(value: object) -> str:
    """Any value as text that cannot be taken for markup."""
    return escape(printable(str(value)))


def mark(reached: bool | None, words: str, title: str = "") -> str:
    """A verdict: sign, colour and words, so that none of them is needed alone."""
    about = f' title="{text(title)}"' if title else ""
    shown = text(words).replace(" %", "&nbsp;%")
    return f'<span class="mark {_CLASSES[reached]}"{about}>{_SIGNS[reached]}&nbsp;{shown}</span>'


def target_table(targets: Sequence[Target]) -> str:
    """Targets with goal, measured figure, verdict and note."""
    lines = [
        f'<tr><th scope="row">{text(t["what"])}</th><td>{text(t["goal"])}</td><td>{text(t["measured"])}</td>'
        f"<td>{mark(t['reached'], MARKS[t['reached']])}</td>"
        f"<td>{text(t['note'])}</td></tr>"
        for t in targets
    ]
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("target", "goal", "measured", "verdict", "note")
    )
    return table(head, lines, "words wrap")


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
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in ("contender", *columns))
    return table(head, lines) if lines else ""


def batch_table(entries: Sequence[Entry]) -> str:
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
    head = '<th scope="col">texts side by side</th>' + "".join(f'<th scope="col">{b}</th>' for b in sizes)
    return "<h3>Many texts side by side, characters/s of all together</h3>\n" + table(head, lines)


def table(head: str, lines: Iterable[str], kind: str = "") -> str:
    """A table that scrolls sideways by itself where the screen is narrow.

    Args:
        head: the cells of its only head row, as markup.
        lines: the body's rows, as markup.
        kind: classes of the style sheet.
    """
    body = "\n".join(lines)
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def figures(shown: Sequence[Plot], prefix: str) -> str:
    """Plots with their words; `prefix` tells screen readers which model a plot is of."""
    if not shown:
        return ""
    inner = "".join(
        f"<figure>\n<h3>{text(plot.title)}</h3>\n"
        + plot.svg.replace("<svg ", f'<svg aria-label="{text(prefix + plot.title)}" ', 1)
        + f"\n<figcaption>{text(plot.caption)}</figcaption>\n</figure>\n"
        for plot in shown
    )
    return f'<div class="figures">\n{inner}</div>'


def listing(values: Mapping[str, Any]) -> str:
    """A mapping from JSON as a list, whatever it holds."""
    rows = "".join(
        f"<dt>{text(_words(key))}</dt><dd>{text(_value(key, v))}</dd>" for key, v in values.items()
    )
    return f"<dl>{rows}</dl>" if rows else ""


def _words(key: str) -> str:
    return key.removesuffix("_s").replace("_", " ")


def _value(key: str, value: Any) -> str:
    """A value in words; the key tells whether a number is a size in bytes or a time in seconds."""
    if value is None or value == [] or value == {}:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if key in ("caches", "memory") or "bytes" in key:
            return size(value)
        if key.endswith("_s"):
            return seconds(value)
        return f"{value:,}" if isinstance(value, int) else number(value)
    if isinstance(value, list):
        return ", ".join(_value(key, item) for item in value)
    if isinstance(value, dict):
        inside = "caches" if key == "caches" else ""
        return ", ".join(f"{_words(name)} {_value(inside or name, item)}" for name, item in value.items())
    return str(value)
