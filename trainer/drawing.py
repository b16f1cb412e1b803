"""Pictures: one look for every plot, light and dark, and SVG that stands alone or beside others in a page.

What is drawn takes its colours from here. The SVG is matplotlib's, in the light colours that every
program shows; a style sheet (`dark_rules`) puts the dark ones in their place where the reader's system is
dark: in a picture of its own by `alone`, in a page by the page's own sheet.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

PAPER = "#ffffff"
INK = "#333840"  # words and strong lines
SOFT = "#555b63"  # numbers at the axes, words of less weight
GREY = "#6b727a"  # lines that data are set against
EDGE = "#8a9099"  # axes
BAND = "#eef1f4"  # areas behind the data

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#4d4d4d", "#e69f00", "#56b4e9")
"""Okabe and Ito (2008): told apart with every common colour blindness."""
MORE_COLOURS = ("#999933", "#882255", "#332288", "#88ccee", "#aa4499")
"""Of Tol (2021), where those are not enough."""
PALE = "#9ecae1"  # single values behind their mean

DARK = {
    PAPER: "#1b2025",
    INK: "#e6e9ec",
    SOFT: "#b4bcc5",
    GREY: "#a3acb6",
    EDGE: "#79828c",
    "#e3e6ea": "#313840",  # the grid
    BAND: "#272d34",
    PALE: "#5d8aa6",
    "#0072b2": "#45a2e6",
    "#d55e00": "#f0813a",
    "#009e73": "#1fc796",
    "#cc79a7": "#e39cc4",
    "#4d4d4d": "#c3c7cb",
    "#e69f00": "#f2b632",
    "#56b4e9": "#a6d8f5",
    "#999933": "#c6c659",
    "#882255": "#dd6595",
    "#332288": "#9a8cf0",
    "#88ccee": "#8ee3e8",
    "#aa4499": "#d884cb",
}
"""Every colour that may be drawn, and what it is on a dark page."""

RULES: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "text.color": INK,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": EDGE,
    "axes.labelcolor": INK,
    "axes.labelpad": 7,
    "axes.prop_cycle": f"cycler('color', {[*COLOURS, *MORE_COLOURS]})",
    "xtick.color": EDGE,
    "ytick.color": EDGE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.minor.bottom": False,
    "ytick.minor.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e3e6ea",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
}

_LETTER, _HANDLE, _LEGEND_ROW = 0.068, 0.45, 0.18  # inches: of a legend's letter, line and row
_PAPER = f'<rect width="100%" height="100%" style="fill: {PAPER}"/>'


def svg(figure: Figure, salt: str) -> str:
    """The figure as one ``<svg>`` element that can stand beside others in a page.

    The same data give the same text. Identifiers are hashed with a salt, since a page has one name space;
    header, metadata and size go.
    """
    import matplotlib

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({**RULES, "svg.hashsalt": salt.encode("utf-8", "replace").decode()}):
        figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    head, end, rest = text.partition(">")
    head = re.sub(r' (?:width|height|version)="[^"]*"', "", head)
    return f'{head} role="img"{end}{rest}'.strip()


def alone(element: str) -> str:
    """An ``<svg>`` element as a file of its own, on paper that is dark where the reader's system is."""
    head, end, rest = element.partition(">")
    size = re.sub(r'.* viewBox="\S+ \S+ (\S+) (\S+)".*', r' width="\1pt" height="\2pt"', head, flags=re.S)
    used = [colour for colour in DARK if colour in element or colour == PAPER]
    sheet = f"<style>@media (prefers-color-scheme: dark) {{ {dark_rules(used)} }}</style>"
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}{size}{end}{sheet}{_PAPER}{rest}\n'


def element(file: str) -> str:
    """The ``<svg>`` element that `alone` made a file of, for a page."""
    found = file[file.find("<svg") :].strip()
    head, end, rest = found.partition(">")
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    rest = re.sub(r"^<style>.*?</style>", "", rest, flags=re.S).removeprefix(_PAPER)
    return f"{head}{end}{rest}"


def dark_rules(colours: Iterable[str] = tuple(DARK), inside: str = "") -> str:
    """A style sheet that puts the dark colours in the place of the light ones.

    Args:
        colours: which.
        inside: selector of what the drawings stand in.
    """
    before = f"{inside} " if inside else ""
    return " ".join(
        f'{before}[style*="{what}: {colour}"] {{ {what}: {DARK[colour]} !important }}'
        for colour in colours
        for what in ("fill", "stroke")
    )


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """An empty figure, in inches, in the one look; nothing outside the block is changed."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RULES):
        yield Figure(figsize=(width, height), layout="constrained")


def legend(figure: Figure) -> None:
    """One legend for all panels, under them, where it covers nothing; the figure grows by what it needs.

    What several panels share is named once.
    """
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found:
        return
    longest = max(map(len, found))
    fit = int(figure.get_figwidth() / (_LETTER * longest + _HANDLE))
    columns = max(1, min(len(found), fit))
    figure.set_figheight(figure.get_figheight() + _LEGEND_ROW * math.ceil(len(found) / columns))
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def plain_log(axis: Axis) -> None:
    """A logarithmic axis with plain numbers, such as 20,000 and 1e-06; set its scale and data before."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1,) if high / low > 200 else (1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(thousands))


def plain_numbers(axis: Axis, most: int = 5) -> None:
    """A linear axis with few numbers, thousands separated, that do not run into each other."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(most))
    axis.set_major_formatter(FuncFormatter(thousands))


def thousands(value: float, _: object = None) -> str:
    """A number at an axis: ``12,000``, ``0.05``."""
    return f"{value:,.0f}" if abs(value) >= 1 else f"{value:g}"
