"""The report as Markdown for a README, and as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..render import markdown
from ..render.markdown import escape
from ..render.numbers import NOTHING, number, percent, printable, ratio
from ..render.terminal import titled
from .document import Document, Entry, Measured, Target
from .figures import EAGERS, find, rate, shape, times

if TYPE_CHECKING:
    from rich.console import Console

MARKS = {True: "reached", False: "missed", None: "not judged"}

_HEADINGS = (
    "contender",
    "precision",
    "characters/s",
    "µs p50",
    "µs p99",
    "times eager",
    "bandwidth share",
    "bits/char",
)
_TARGET_HEADINGS = ("target", "goal", "measured", "verdict", "note")
_WORDS = 2  # the first columns hold words, the others figures


def table(document: Document) -> str:
    """Markdown: for each model the contenders, then the targets; headings of level 3 and 4."""
    parts = [
        f"{escape(machine_line(document))}. p2 {escape(document['p2'])},"
        f" {escape(document['created'])}{', quick run' if document['quick'] else ''}."
    ]
    if told := ratios(document):
        parts.append(escape(told))
    for measured in document["models"]:
        parts.append(f"### {escape(measured['name'])}: {shape(measured)}")
        if rows := [_row(measured, e) for e in measured["entries"] if rate(e)]:
            parts.append(markdown.table(_HEADINGS, rows, _WORDS))
        skipped = [e for e in measured["entries"] if not rate(e)]
        if skipped:
            parts.append(markdown.bullets([f"{e['title']}: {_reason(e)}" for e in skipped]))
        if measured["targets"]:
            parts.append(f"#### Targets, {escape(measured['name'])}")
            parts.append(target_table(measured["targets"]))
    if document["targets"]:
        parts.append("### Targets of the whole run")
        parts.append(target_table(document["targets"]))
    return "\n\n".join(parts) + "\n"


def terminal(document: Document, console: Console) -> None:
    """Show the same on a terminal."""
    from rich.text import Text

    colours = {True: "green", False: "red", None: "dim"}

    def show_targets(title: str, targets: Sequence[Target]) -> None:
        if not targets:
            return
        shown = titled(Text(title), _TARGET_HEADINGS, len(_TARGET_HEADINGS))
        for target in targets:
            shown.add_row(*(Text(cell) for cell in _target(target)), style=colours[target["reached"]])
        console.print(shown)

    for measured in document["models"]:
        shown = titled(Text(f"{printable(measured['name'])}: {shape(measured)}"), _HEADINGS, _WORDS)
        for entry in measured["entries"]:
            if rate(entry):
                style = "bold" if entry["group"] == "p2" else ""
                shown.add_row(*(Text(cell) for cell in _row(measured, entry)), style=style)
        console.print(shown)
        for line in _left_out(measured):
            console.print(Text(f"  {printable(line)}", style="dim"))
        show_targets(f"Targets, {printable(measured['name'])}", measured["targets"])
    show_targets("Targets of the whole run", document["targets"])
    console.print(Text(" ".join(filter(None, (ratios(document), summary(document))))))


def ratios(document: Document) -> str:
    """What a reader who divides the medians needs to know; empty where it is not so."""
    if not any(entry["beside"] for measured in document["models"] for entry in measured["entries"]):
        return ""
    return (
        "p2's float32 also wrote in the turns of each other float32 contender, and is compared with it by"
        " those: on a machine that changes its pace this is not the ratio of the medians."
    )


def summary(document: Document) -> str:
    """How many targets were reached, in a sentence."""
    verdicts = [t["reached"] for t in all_targets(document)]
    judged = [verdict for verdict in verdicts if verdict is not None]
    if not judged:
        return "No target could be judged."
    rest = len(verdicts) - len(judged)
    tail = f"; {rest} not judged, the notes say why" if rest else ""
    return f"{sum(judged)} of {len(judged)} targets reached{tail}."


def all_targets(document: Document) -> list[Target]:
    """The targets of every model and of the run."""
    rows = [target for measured in document["models"] for target in measured["targets"]]
    return rows + document["targets"]


def machine_line(document: Document) -> str:
    """The machine in a few words; what is not known is left out."""
    machine = document["machine"]
    count = machine.get("processors")
    words = [machine.get("processor"), f"{count} processors" if count else None, machine.get("system")]
    return ", ".join(str(word) for word in words if word) or "Machine not known"


def _row(measured: Measured, entry: Entry) -> list[str]:
    latency, quality = entry["latency"], entry["quality"]
    return [
        printable(entry["title"]),
        printable(entry["precision"]),
        number(rate(entry)),
        number(latency["p50_us"] if latency else None),
        number(latency["p99_us"] if latency else None),
        ratio(times(entry, find(measured, EAGERS[entry["device"]]))),
        percent(entry["bandwidth_share"]),
        f"{quality['bits_per_character']:.4f}" if quality else NOTHING,
    ]


def _left_out(measured: Measured) -> list[str]:
    """Who was not measured and why: a line for each reason, for one without a GPU leaves out many."""
    reasons: dict[str, list[str]] = {}
    for entry in measured["entries"]:
        if not rate(entry):
            reasons.setdefault(_reason(entry), []).append(entry["title"])
    return [
        f"{titles[0]}{f' and {len(titles) - 1} more' if len(titles) > 1 else ''}: {reason}"
        for reason, titles in reasons.items()
    ]


def _reason(entry: Entry) -> str:
    return entry["skipped"] or "its speed was not measured"


def target_table(targets: Sequence[Target]) -> str:
    """A row for each target: whether it was reached, and why it was not judged."""
    return markdown.table(_TARGET_HEADINGS, [_target(t) for t in targets], len(_TARGET_HEADINGS))


def _target(target: Target) -> list[str]:
    words = (target["what"], target["goal"], target["measured"], MARKS[target["reached"]], target["note"])
    return [printable(word) for word in words]
