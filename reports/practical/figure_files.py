"""Figures of the experiments: drawn alike, written as SVG files that a page can take in as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...spec.files import read_text, write_bytes
from ..drawing import RULES, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#4D4D4D", "#E69F00")
"""Okabe and Ito (2008): told apart with every common colour blindness."""
GREY = "#6b727a"


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Drawing]:
    """An empty figure, in inches, that is at `path` after the block; the same data give the same file.

    What is written has no size, header, style or names of its own, so that several stand in one page.

    Raises:
        P2Error: the file cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RULES):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
    write_bytes(path, f"{svg(figure, path.name)}\n".encode())


def inline(path: Path) -> str:
    """A figure's ``<svg>`` element, for a page.

    Raises:
        P2Error: the file is missing.
    """
    return read_text(path).strip()


def legend(figure: Drawing, columns: int = 4) -> None:
    """One legend for all panels, under them; a line that several panels share is named once."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def plain_log(axes: Axes) -> None:
    """A logarithmic vertical axis whose numbers are plain text, such as 0.01 and 1e-06."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter(
        NullFormatter() if high / low > 20 else FuncFormatter(lambda value, _: f"{value:g}")
    )
