"""The report's plots, as SVG to be put into a page.

A contender has the same colour and marker in every plot. The colours are those of Okabe and Ito
(2008) and of Tol (2021), told apart with every common colour blindness. Text stays text, in the
font of the page. A plot that has no data is None.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..contract.card import CPU_PRECISIONS
from ..render.numbers import number, printable
from ..trainer.drawing import COLOURS, INK, MORE_COLOURS, alone, canvas, legend, plain_log, plain_numbers, svg
from .document import Document, Entry, Measured
from .figures import family, leading, microseconds, on, ours, rate, roofs, shape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BLUE, _RED, _GREEN, _PINK, _BLACK, _ORANGE, _LIGHT = COLOURS
_LOOKS = ((_BLUE, "o"), (_LIGHT, "s"), (_GREEN, "D"), (_RED, "^"))
_OURS = dict(zip(CPU_PRECISIONS, _LOOKS, strict=False))
_OTHERS = tuple(zip((_BLACK, _ORANGE, _PINK, *MORE_COLOURS), "vPX<>h*p", strict=True))

_WIDTH, _HEIGHT = 5.6, 3.6  # inches; the page scales
_LABEL = 26  # characters in a line beside a bar
_WHERE = {"cpu": "", "cuda": ", on the GPU"}
_MEMORY = {"cpu": "memory's speed", "cuda": "speed at which the GPU copies its memory"}


@dataclass(frozen=True)
class Plot:
    """A picture with its words.

    Attributes:
        title: what it shows, in a few words.
        caption: how to read it.
        svg: an ``<svg>`` element without size, XML header or anything outside itself.
    """

    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Style:
    """How a contender is drawn."""

    colour: str
    marker: str
    dashed: bool


def styles(document: Document) -> dict[str, Style]:
    """A style for each contender's key, in the order in which the document names them."""
    found: dict[str, Style] = {}
    others = 0
    for measured in document["models"]:
        for entry in measured["entries"]:
            if entry["key"] in found:
                continue
            own = entry["group"] == "p2"
            if own and entry["device"] == "cpu" and entry["precision"] in _OURS:
                colour, marker = _OURS[entry["precision"]]
            else:
                turn, at = divmod(others, len(_OTHERS))  # another marker each time round
                colour, marker = _OTHERS[at][0], _OTHERS[(at + turn) % len(_OTHERS)][1]
                others += 1
            found[entry["key"]] = Style(colour, marker, dashed=not own)
    return found


def latency_by_size(document: Document, device: str = "cpu") -> Plot | None:
    """Microseconds per character of one text over the hidden size, for the family with most sizes."""
    counts = Counter(family(measured) for measured in document["models"])
    if not counts:
        return None
    name = counts.most_common(1)[0][0]
    models = sorted(
        (measured for measured in document["models"] if family(measured) == name),
        key=lambda measured: measured["card"]["hidden"],
    )
    lines: dict[str, tuple[str, list[tuple[float, float]]]] = {}
    for measured in models:
        for entry in on(measured, device):
            if us := microseconds(entry):
                point = (float(measured["card"]["hidden"]), us)
                lines.setdefault(entry["key"], (entry["title"], []))[1].append(point)
    widths = sorted({x for _, points in lines.values() for x, _ in points})
    if len(widths) < 2:
        return None
    with _drawing("latency", _HEIGHT) as (figure, axes):
        _lines(axes, lines, styles(document))
        axes.set(xscale="log", yscale="log", xlabel="hidden size", ylabel="µs per character")
        _ticks(axes, xticks=widths)
        legend(figure)
        return Plot(
            f"Latency by size ({name}){_WHERE[device]}",
            "One text, random numbers and choice included; median of the rounds. Lower is better;"
            " both axes are logarithmic.",
            svg(figure, f"latency {name}{_WHERE[device]}"),
        )


def bars(
    measured: Measured, looks: Mapping[str, Style], device: str = "cpu", place: str = "section"
) -> Plot | None:
    """Characters per second of one text, fastest first.

    Args:
        measured: the model.
        looks: from `styles`.
        device: whose contenders are shown, as in every plot of a model.
        place: keeps the identifiers of two copies in one page apart.
    """
    entries = sorted((e for e in on(measured, device) if rate(e)), key=lambda e: rate(e) or 0.0)
    if not entries:
        return None
    with _drawing("bars", 0.9 + 0.42 * len(entries)) as (figure, axes):
        speeds = [rate(e) or 0.0 for e in entries]
        spans = [e["characters_per_second"] for e in entries]
        errors = [
            [max(0.0, v - s["p5"]) if s else 0.0 for v, s in zip(speeds, spans, strict=True)],
            [max(0.0, s["p95"] - v) if s else 0.0 for v, s in zip(speeds, spans, strict=True)],
        ]
        colours = [looks[e["key"]].colour for e in entries]
        rows = range(len(entries))
        axes.barh(rows, speeds, xerr=errors, color=colours, height=0.68, error_kw={"lw": 1, "ecolor": INK})
        top = max(s["p95"] if s else 0.0 for s in spans)
        for row, speed, span in zip(rows, speeds, spans, strict=True):
            end = max(speed, span["p95"] if span else 0.0)
            axes.text(end + 0.015 * top, row, number(speed), va="center", fontsize=9, color=INK)
        axes.set_yticks(rows, ["\n".join(textwrap.wrap(printable(e["title"]), _LABEL)) for e in entries])
        axes.set(xlabel="characters per second", xlim=(0, 1.16 * max(top, *speeds)))
        plain_numbers(axes.xaxis)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        return Plot(
            f"Characters per second, one text{_WHERE[device]}",
            "Median of the rounds; the thin line spans their 5th to 95th percentile.",
            svg(figure, f"bars {place} {measured['name']}{_WHERE[device]}"),
        )


def batch_curve(measured: Measured, looks: Mapping[str, Style], device: str = "cpu") -> Plot | None:
    """Microseconds per character over the number of texts written side by side."""
    lines = {
        e["key"]: (e["title"], [(float(p["batch"]), p["us_per_character"]) for p in _by_batch(e)])
        for e in on(measured, device)
        if e["batches"]
    }
    sizes = sorted({x for _, points in lines.values() for x, _ in points})
    if len(sizes) < 2:
        return None
    with _drawing("batch", _HEIGHT) as (figure, axes):
        _lines(axes, lines, looks)
        axes.set(xscale="log", yscale="log", xlabel="texts side by side", ylabel="µs per character")
        _ticks(axes, xticks=sizes)
        legend(figure)
        return Plot(
            f"Many texts side by side{_WHERE[device]}",
            "Time per character, the characters of all texts counted. Lower is better.",
            svg(figure, f"batch {measured['name']}{_WHERE[device]}"),
        )


def roofline(measured: Measured, looks: Mapping[str, Style], device: str = "cpu") -> Plot | None:
    """Achieved flop/s over arithmetic intensity, with the machine's two roofs (Williams et al., 2009).

    Of a GPU the flat one is left out where no PyTorch reached it. A character costs 2 * weights flops; a
    step of `batch` characters reads the weights once.
    """
    lines: dict[str, tuple[str, list[tuple[float, float]]]] = {}
    flops = 2.0 * measured["weights"]
    for entry in ours(measured, device=device):
        if entry["bytes_per_step"] and entry["batches"]:
            points = [
                (flops * p["batch"] / entry["bytes_per_step"], flops * p["characters_per_second"] / 1e9)
                for p in _by_batch(entry)
            ]
            lines[entry["key"]] = (entry["title"], points)
    memory, flat = roofs(measured, device)
    if not lines or memory is None:
        return None
    bandwidth = memory / 1e9
    intensities = [x for _, points in lines.values() for x, _ in points]
    ridge = flat / memory if flat else max(intensities)
    product = ridge * bandwidth
    low, high = min(intensities) / 2, max(*intensities, ridge) * (2 if flat else 1)
    with _drawing("roofline", _HEIGHT) as (figure, axes):
        roof: dict[str, Any] = {"color": INK, "lw": 1.6, "zorder": 1}
        axes.plot([min(low, ridge), ridge, high], [bandwidth * min(low, ridge), product, product], **roof)
        _lines(axes, lines, looks)
        axes.set(xscale="log", yscale="log", xlabel="flops per byte of weights read", ylabel="Gflop/s")
        _ticks(axes)
        words = f"roof: {number(bandwidth)} GB/s"
        words += f", then the float32 product, {number(product)} Gflop/s" if flat else ""
        axes.plot([], [], label=words, **roof)
        legend(figure)
        return Plot(
            f"Roofline{_WHERE[device]}",
            f"Each line runs from one text to the largest batch. On the slope the {_MEMORY[device]} is the"
            " limit, under the flat roof the arithmetic; points above the slope read their weights from"
            " a cache, points above the flat roof are faster than that product, as integers can be.",
            svg(figure, f"roofline {measured['name']}{_WHERE[device]}"),
        )


def quality(measured: Measured, looks: Mapping[str, Style], device: str = "cpu") -> Plot | None:
    """Bits per character on held-out text over characters per second, p2's precisions."""
    points = [
        (speed, e["quality"]["bits_per_character"], e)
        for e in ours(measured, device=device)
        if e["quality"] and (speed := rate(e))
    ]
    if len(points) < 2:
        return None
    with _drawing("quality", _HEIGHT) as (figure, axes):
        for speed, bits, entry in points:
            look = looks[entry["key"]]
            axes.plot([speed], [bits], look.marker, color=look.colour, ms=9, label=printable(entry["title"]))
        bits_all = [bits for _, bits, _ in points]
        bounds = _bounds(points)
        for title, bound, key in bounds:
            colour, dashes = looks[key].colour, (0, (4, 3))
            axes.axhline(bound, color=colour, lw=1.2, ls=dashes, zorder=0, label=f"limit for {title}")
        levels = bits_all + [bound for _, bound, _ in bounds]
        margin = 0.12 * (max(levels) - min(levels)) or 0.01
        axes.set(xlabel="characters per second, one text", ylabel="bits per character, held-out text")
        axes.set_ylim(min(levels) - margin, max(levels) + 2 * margin)
        axes.set_xlim(0, 1.12 * max(speed for speed, _, _ in points))
        plain_numbers(axes.xaxis)
        axes.ticklabel_format(axis="y", useOffset=False)
        legend(figure)
        return Plot(
            f"Quality against speed{_WHERE[device]}",
            "Lower and further right is better. A precision passes if it stays under its limit above"
            " float32, on text that the model was not trained on.",
            svg(figure, f"quality {measured['name']}{_WHERE[device]}"),
        )


def of_model(measured: Measured, looks: Mapping[str, Style]) -> list[Plot]:
    """Every plot of one model that has data."""
    draws: tuple[Callable[..., Plot | None], ...] = (bars, batch_curve, roofline, quality)
    plots = (draw(measured, looks, device) for device in _WHERE for draw in draws)
    return [plot for plot in plots if plot]


def of_run(document: Document) -> list[Plot]:
    """The plots at the head of the report: the leading model's bars, and latency by size on each device."""
    head = leading(document)
    top = bars(head, styles(document), place="head") if head else None
    plots = []
    if head and top:
        plots.append(Plot(f"{top.title} ({shape(head)})", top.caption, top.svg))
    latencies = [latency_by_size(document, device) for device in _WHERE]
    return [*plots, *(latency for latency in latencies if latency)]


def picture(document: Document) -> str | None:
    """The leading plot as a file of its own: latency by size, or with one model its bars."""
    plots = of_run(document)
    if not plots:
        return None
    return alone(plots[:2][-1].svg)


def _by_batch(entry: Entry) -> list[Any]:
    return sorted(entry["batches"], key=lambda point: point["batch"])


def _bounds(points: Sequence[tuple[float, float, Entry]]) -> list[tuple[str, float, str]]:
    """The most bits per character that each rounded precision may have; the key of the first that may."""
    bounds: dict[float, list[Entry]] = {}
    for _, bits, entry in points:
        judged = entry["quality"]
        if judged and judged["limit"] is not None:
            bound = bits - judged["difference"] + judged["limit"]
            bounds.setdefault(round(bound, 9), []).append(entry)
    return [
        (", ".join(e["precision"] for e in found), bound, found[0]["key"]) for bound, found in bounds.items()
    ]


def _lines(
    axes: Axes, lines: Mapping[str, tuple[str, list[tuple[float, float]]]], looks: Mapping[str, Style]
) -> None:
    for key, (title, points) in lines.items():
        look = looks[key]
        axes.plot(
            [x for x, _ in points], [y for _, y in points],
            color=look.colour, marker=look.marker, ms=5.5, lw=1.4 if look.dashed else 2.2,
            ls="--" if look.dashed else "-", zorder=2 if look.dashed else 3, label=printable(title),
        )  # fmt: skip


@contextmanager
def _drawing(name: str, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure of one plot in the report's style; nothing outside the block is changed."""
    with canvas(_WIDTH, height) as figure:
        yield figure, figure.add_subplot(label=name)


def _ticks(axes: Axes, xticks: Sequence[float] | None = None) -> None:
    """Plain numbers on logarithmic axes."""
    for axis in (axes.xaxis, axes.yaxis):
        plain_log(axis)
    if xticks is not None:
        axes.set_xticks(xticks)
