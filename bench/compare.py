"""Two reports side by side: what changed, and what only the noise of the machine did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..render import markdown
from ..render.numbers import number, printable, ratio, size
from ..render.terminal import titled
from .document import Document, Entry, Measured, Spread
from .entries import spread
from .figures import shape

if TYPE_CHECKING:
    from rich.console import Console

SPEED = "characters/s"
PROMPT = "prompt, characters/s"
LOAD = "load, s"
FIRST = "first character, s"
MEMORY = "peak memory"

_LOWER_IS_BETTER = (LOAD, FIRST, MEMORY)
_HEADINGS = ("model", "contender", "figure", "before", "after", "after / before", "verdict")
_WORDS = 3  # the first columns hold words


_Figure = tuple[float | None, Spread | None]  # and how far apart the rounds were, if there were several


@dataclass(frozen=True)
class Change:
    """One figure of one contender in two reports.

    Attributes:
        model: name of the model.
        key: of the contender; empty where the whole model is on one side only.
        title: of the contender, for people.
        figure: `SPEED`, `PROMPT`, `LOAD`, `FIRST`, `MEMORY`, or `SPEED` with a number of texts before it;
            empty where there is nothing to compare.
        before: in the first report, None if not measured there.
        after: in the second report, None if not measured there.
        ratio: after / before, None if either is missing.
        real: whether the intervals from p5 to p95 of the rounds lie apart; None where a figure was
            measured once, so that its noise is not known, or is missing.
        better: whether the figure moved to the good side; None if it is missing or did not move.
        note: why there is nothing to compare; empty if there is.
    """

    model: str
    key: str
    title: str
    figure: str
    before: float | None = None
    after: float | None = None
    ratio: float | None = None
    real: bool | None = None
    better: bool | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """The change in words."""
        if self.note:
            return self.note
        if self.real is False:
            return "within the noise"
        if self.better is None:
            return "no change"
        word = ("faster" if self.better else "slower") if self.figure != MEMORY else ""
        word = word or ("less" if self.better else "more")
        return f"{word}, measured once" if self.real is None else word


def compare(a: Document, b: Document) -> list[Change]:
    """Match models by name and contenders by key, and compare their figures.

    Args:
        a: the report before.
        b: the report after.

    Returns:
        in the order of `a`, then what only `b` has. Figures that neither has are left out.
    """
    changes = []
    after = {measured["name"]: measured for measured in b["models"]}
    for measured in a["models"]:
        other = after.pop(measured["name"], None)
        if other is None:
            changes.append(Change(measured["name"], "", "", "", note="only in the first report"))
        else:
            changes += _models(measured, other)
    only = "only in the second report"
    return changes + [Change(name, "", "", "", note=only) for name in after]


def warnings(a: Document, b: Document) -> list[str]:
    """What else differs between two reports, so that their figures may not be comparable."""
    found = []
    if a["p2"] != b["p2"]:
        found.append(f"p2: {a['p2']} before, {b['p2']} after")
    if a["quick"] != b["quick"]:
        found.append(f"the {'first' if a['quick'] else 'second'} report is of a quick run, the other is not")
    found += _differences(a["machine"], b["machine"], "machine")
    measured_there = ("start_up", "training")
    settings = [{k: v for k, v in d["settings"].items() if k not in measured_there} for d in (a, b)]
    found += _differences(settings[0], settings[1], "settings")
    others = {measured["name"]: measured for measured in b["models"]}
    for one in a["models"]:
        two = others.get(one["name"])
        if two and (shape(one), one["weights"]) != (shape(two), two["weights"]):
            found.append(f"model {one['name']}: {shape(one)} before, {shape(two)} after")
    return found


def to_markdown(a: Document, b: Document) -> str:
    """The comparison as Markdown: warnings, then one table."""
    parts = []
    if told := warnings(a, b):
        parts.append(f"The two reports differ in more than their figures:\n\n{markdown.bullets(told)}")
    parts.append(markdown.table(_HEADINGS, [_row(change) for change in compare(a, b)], _WORDS))
    return "\n\n".join(parts) + "\n"


def show(a: Document, b: Document, console: Console) -> None:
    """The comparison on a terminal."""
    from rich.text import Text

    for warning in warnings(a, b):
        console.print(Text(f"differs: {printable(warning)}", style="yellow"))
    shown = titled("Before and after", _HEADINGS, _WORDS)
    colours = {True: "green", False: "red", None: "dim"}
    for change in compare(a, b):
        cells = [Text(cell) for cell in _row(change)]
        # Only what the rounds bear out is coloured.
        cells[-1].stylize(colours[change.better if change.real else None])
        shown.add_row(*cells)
    console.print(shown)


def _models(a: Measured, b: Measured) -> list[Change]:
    changes = []
    after = {entry["key"]: entry for entry in b["entries"]}
    for entry in a["entries"]:
        other = after.pop(entry["key"], None)
        if other is None:
            changes.append(_alone(a["name"], entry, "only in the first report"))
        else:
            changes += _entries(a["name"], entry, other)
    return changes + [_alone(a["name"], entry, "only in the second report") for entry in after.values()]


def _entries(model: str, a: Entry, b: Entry) -> list[Change]:
    if a["skipped"] is not None and b["skipped"] is not None:
        return []
    for entry, side in ((a, "first"), (b, "second")):
        if entry["skipped"] is not None:
            return [_alone(model, entry, f"not run in the {side} report: {entry['skipped']}")]
    before, after = _figures(a), _figures(b)
    none: _Figure = (None, None)
    return [
        _change(model, b, figure, before.get(figure, none), after.get(figure, none))
        for figure in dict.fromkeys((*before, *after))
        if before.get(figure, none)[0] is not None or after.get(figure, none)[0] is not None
    ]


def _figures(entry: Entry) -> dict[str, _Figure]:
    speed, prompt = entry["characters_per_second"], entry["prompt"]
    batches = {
        f"{point['batch']} texts, {SPEED}": (point["characters_per_second"], _rounds(point["values"]))
        for point in entry["batches"]
        if point["batch"] > 1  # one text is told above, from longer turns
    }
    return {
        SPEED: (speed["median"], speed) if speed else (None, None),
        PROMPT: (prompt["characters_per_second"], _rounds(prompt["values"])) if prompt else (None, None),
        **batches,
        LOAD: (entry["load_s"], None),
        FIRST: (entry["first_character_s"], None),
        MEMORY: (entry["peak_memory_bytes"], None),
    }


def _rounds(values: Sequence[float]) -> Spread | None:
    """The spread of what was measured more than once."""
    return spread(values) if len(values) > 1 else None


def _change(model: str, entry: Entry, figure: str, one: _Figure, two: _Figure) -> Change:
    named = (model, entry["key"], entry["title"], figure)
    (before, noise_before), (after, noise_after) = one, two
    if before is None or after is None:
        side = "first" if before is None else "second"
        return Change(*named, before, after, note=f"not measured in the {side} report")
    better = None if before == after else (after > before) is (figure not in _LOWER_IS_BETTER)
    real = _apart(noise_before, noise_after)
    return Change(*named, before, after, after / before if before else None, real, better)


def _apart(a: Spread | None, b: Spread | None) -> bool | None:
    """Whether two spreads do not overlap; intervals that touch do."""
    if a is None or b is None:
        return None
    return a["p5"] > b["p95"] or b["p5"] > a["p95"]


def _alone(model: str, entry: Entry, note: str) -> Change:
    return Change(model, entry["key"], entry["title"], "", note=note)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], where: str) -> list[str]:
    """Values that differ between two JSON objects, named by their path."""
    found = []
    for key in dict.fromkeys((*a, *b)):
        one, two = a.get(key), b.get(key)
        if isinstance(one, dict) and isinstance(two, dict):
            found += _differences(one, two, f"{where}.{key}")
        elif one != two:
            found.append(f"{where}.{key}: {_named(one)} before, {_named(two)} after")
    return found


def _named(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _row(change: Change) -> list[str]:
    by = size if change.figure == MEMORY else number
    figures = [by(change.before), by(change.after), ratio(change.ratio)] if change.figure else [""] * 3
    contender = change.title or "all"
    return [printable(cell) for cell in (change.model, contender, change.figure, *figures, change.verdict)]
