"""The report as one HTML file that needs nothing else: no network, no scripts, no fonts."""

from __future__ import annotations

from collections.abc import Mapping

from ..contract.precisions import TABLE
from ..render.html import parts
from ..render.html.parts import heads, listing, mark, paragraph, table, text, unbroken
from ..render.numbers import number, percent, ratio
from . import plots
from .document import Document, Entry, Measured, Target
from .figures import (
    EAGER,
    EAGERS,
    best,
    closest,
    fastest,
    find,
    from_memory,
    leading,
    on,
    ours,
    peers,
    rate,
    roofs,
    shape,
    times,
)
from .html_parts import COST, SPEED, batch_table, entries_table, plots_with_words, target_table
from .markdown import MARKS, all_targets, machine_line, ratios, summary

_INTEGERS = ", ".join(precision.key for precision in TABLE.values() if precision.integers)
_GLOSSARY = {
    "Characters/s": "Characters of one text written in a second, random numbers and choice included.",
    "p50, p90, p99": "Of the pieces written, half, nine in ten and 99 in 100 took at most this long a"
    " character.",
    "Times eager": "Characters per second, divided by those of eager PyTorch with the same weights in the"
    " same run, on the same device.",
    "Bandwidth share": "Bytes of weights that a step must read, times steps per second, as a share of the"
    " memory bandwidth measured in the same run; on a GPU of the rate at which it copies its memory, bytes"
    " read and written. Above 100 % the weights come from a cache.",
    "Matrix-product share": "Two flops for each weight and character, as a share of the float32 matrix"
    " product's rate measured in the same run. Integer arithmetic can pass 100 %.",
    "Bits/char": "Mean of −log2 of the probability given to each next character of text that the model was"
    " not trained on. Lower is better.",
    "KL": "Mean Kullback-Leibler divergence from the float32 reference, in nats per character.",
    "Quality gate": "A precision passes if it costs no more bits per character than its limit.",
    "Same text": "With the same random numbers, whether every character is the reference's. Precisions that"
    " round the weights write their own text.",
    _INTEGERS: "Weights rounded to 8 bits with a scale for each output, or to 4 with one for each block.",
}
_METHOD = (
    "Every contender ran the same weights in a process of its own, and they took turns, so that a machine"
    " that slows down slows them all. Ratios are formed inside this one run."
)


def page(document: Document) -> str:
    """The whole report as an HTML document.

    Args:
        document: its targets are shown as they stand; whatever is null is shown as not measured.
    """
    looks = plots.styles(document)
    head = leading(document)
    title = _headline(head)
    sections = {
        "Overview": plots_with_words(plots.of_run(document), ""),
        "Targets": _targets(document),
        "Models": "\n".join(_model(m, looks, m is head) for m in document["models"]),
        "Machine": listing(document["machine"]),
        "Method": f"{paragraph(_METHOD)}\n{listing(document['settings'])}",
        "Glossary": f'<div class="glossary">{listing(_GLOSSARY)}</div>',
    }
    shown = {name: inner for name, inner in sections.items() if inner}
    footer = f"Written by <code>p2 bench</code>, p2 {text(document['p2'])}, {text(document['created'])}."
    top = _top(document, head, title, list(shown))
    return parts.page(f"p2 benchmark: {title}", top, shown, footer)


def _headline(head: Measured | None) -> str:
    """What the run shows, in plain words."""
    if head is None:
        return "Benchmark report"
    mine = fastest(ours(head, "float32")) or best(head)
    eager = find(head, EAGER)
    gain, hidden = times(mine, eager), f"hidden {head['card']['hidden']:,}"
    if eager and gain:
        return (
            f"{number(gain)} times as fast as nn.{head['card']['cell'].upper()} in eager PyTorch, at {hidden}"
        )
    return f"{number(rate(mine) if mine else None)} characters per second at {hidden}"


def _top(document: Document, head: Measured | None, title: str, sections: list[str]) -> str:
    quick = " · quick run" if document["quick"] else ""
    return (
        f'<p class="kicker">p2 benchmark{quick}</p>\n<h1>{text(title)}</h1>\n'
        f'<p class="lead">{text(_lead(document, head))}</p>\n'
        f"{parts.tiles(_tiles(document, head))}\n{parts.contents(sections)}"
    )


def _lead(document: Document, head: Measured | None) -> str:
    sentences = [f"{machine_line(document)}."]
    mine = fastest(ours(head, "float32")) if head else None
    if head and mine:
        told = f"{shape(head)}: p2 writes {number(rate(mine))} characters per second of one text in float32"
        top = best(head)
        if top and top["precision"] != "float32":
            told += f", {number(rate(top))} in {top['precision']}"
            cost = top["quality"]
            told += f" ({cost['difference']:+.4f} bits per character)" if cost else " (quality not measured)"
        sentences.insert(0, told + ".")
    return " ".join(sentences)


def _tiles(document: Document, head: Measured | None) -> list[tuple[str, str]]:
    tiles = []
    if head:
        hidden = f"hidden {head['card']['hidden']:,}"
        top, mine = best(head), fastest(ours(head, "float32"))
        gain = times(top, find(head, EAGER))
        if top and gain:
            tiles.append((number(gain), f"times eager PyTorch at {hidden}, p2 in {top['precision']}"))
        found = closest(mine, peers(head)) if mine else None
        if found:
            words = f"times the fastest other float32 at {hidden} ({found[1]['title']})"
            tiles.append((number(found[0]), words))
    streamed = (m for m in document["models"] if from_memory(m, document["machine"]))
    large = max(streamed, key=lambda m: m["weights"], default=None)
    mine = fastest(ours(large, "float32")) if large else None
    if large and mine and mine["bandwidth_share"] is not None:
        share = percent(mine["bandwidth_share"])
        tiles.append((share, f"of the memory bandwidth, float32 at hidden {large['card']['hidden']:,}"))
    verdicts = [t["reached"] for t in all_targets(document) if t["reached"] is not None]
    if verdicts:
        tiles.append((f"{sum(verdicts)} of {len(verdicts)}", "targets reached, of those that apply"))
    return tiles


def _targets(document: Document) -> str:
    """A matrix of the models' targets, the list of what was missed, and the run's own targets."""
    if not all_targets(document):
        return ""
    models = document["models"]
    # The model with most targets sets the order, since others leave some out.
    ordered = sorted(models, key=lambda m: -len(m["targets"]))
    rows = list(dict.fromkeys((t["what"], t["goal"]) for m in ordered for t in m["targets"]))
    parts = [paragraph(" ".join(filter(None, (summary(document), ratios(document)))))]
    if rows:
        names = heads(("target", *(m["name"] for m in models))).replace(",", ",<wbr>")
        lines = []
        for what, goal in rows:
            cells = "".join(f"<td>{_verdict(_target_of(m, what, goal))}</td>" for m in models)
            head = f'<th scope="row">{text(what)}<br><span class="under">{text(goal)}</span></th>'
            lines.append(f"<tr>{head}{cells}</tr>")
        parts.append(table(names, lines, "matrix wrap"))
    if document["targets"]:
        parts += ["<h3>The run as a whole</h3>", target_table(document["targets"])]
    missed = [(m["name"], t) for m in models for t in m["targets"] if t["reached"] is False]
    missed += [("the run", t) for t in document["targets"] if t["reached"] is False]
    if missed:
        items = "".join(f"<li><b>{text(name)}</b>: {_missed(target)}</li>" for name, target in missed)
        parts.append(f"<h3>What was missed</h3>\n<ul>{items}</ul>")
    return "\n".join(parts)


def _missed(target: Target) -> str:
    note = f" ({target['note']})" if target["note"] else ""
    return unbroken(f"{target['what']}: {target['measured']}, the goal is {target['goal']}{note}")


def _target_of(measured: Measured, what: str, goal: str) -> Target | None:
    return next((t for t in measured["targets"] if (t["what"], t["goal"]) == (what, goal)), None)


def _verdict(target: Target | None) -> str:
    """The mark of a matrix cell with its figure; the word is there for those who cannot see colours."""
    if target is None:
        return ""
    word = MARKS[target["reached"]]
    title = f"{word}: {target['note']}" if target["note"] else word
    return mark(target["reached"], target["measured"], title)


def _tables(entries: list[Entry], eager: Entry | None, where: str) -> list[str]:
    """The contenders of a device: speed, cost, batches; `eager` is the one that they are compared with."""
    return [
        f"<h3>One text at a time{where}</h3>",
        entries_table(SPEED, entries, eager),
        f"<h3>Quality and cost{where}</h3>",
        entries_table(COST, [e for e in entries if e["skipped"] is None], eager),
        batch_table(entries, where),
    ]


def _model(measured: Measured, looks: Mapping[str, plots.Style], opened: bool) -> str:
    """Everything about one model, folded away unless it is the leading one."""
    top, eager = best(measured), find(measured, EAGER)
    gpu = on(measured, "cuda")
    short = [shape(measured)]
    if top:
        short.append(f"{number(rate(top))} characters/s in {top['precision']}")
    if gain := times(top, eager):
        short.append(f"{ratio(gain)} eager")
    rates = measured["rates"]
    about = (
        f"{measured['source']}. {measured['weights']:,} weights a character. In the same run the memory gave"
        f" {number(rates['bandwidth_bytes_per_second'] / 1e9)} GB/s and the float32 matrix product"
        f" {number(rates['matmul_flops_per_second'] / 1e9)} Gflop/s."
    )
    copied, multiplied = roofs(measured, "cuda")
    if copied:
        about += f" The GPU copied its memory at {number(copied / 1e9)} GB/s, bytes read and written."
    if multiplied:
        about += f" Its float32 matrix product gave {number(multiplied / 1e9)} Gflop/s."
    pieces = [
        paragraph(about, "note"),
        *_tables(on(measured, "cpu"), eager, ""),
        *(_tables(gpu, find(measured, EAGERS["cuda"]), ", on the GPU") if gpu else ()),
        "<h3>Targets</h3>" + target_table(measured["targets"]) if measured["targets"] else "",
        plots_with_words(plots.of_model(measured, looks), f"{measured['name']}: "),
    ]
    inner = "\n".join(piece for piece in pieces if piece)
    return (
        f"<details{' open' if opened else ''}>\n<summary><b>{text(measured['name'])}</b>"
        f"<span>{text(' · '.join(short))}</span></summary>\n<div>\n{inner}\n</div>\n</details>"
    )
