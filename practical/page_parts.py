"""Pieces of HTML that the sections of the experiments are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..render.html import parts
from ..render.html.parts import text
from .document import Figure
from .figure_files import inline


def picture(one: Figure, folder: Path) -> str:
    """A figure with its title and caption; the SVG is taken in.

    Raises:
        P2Error: its file is missing.
    """
    return parts.figure(one["title"], inline(folder / one["file"]), one["caption"])


def figure(one: Figure, folder: Path) -> str:
    """The same where it stands alone."""
    return parts.figures([picture(one, folder)])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text; the first column names the row."""
    lines = (
        f'<tr><th scope="row">{text(first)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return parts.table(parts.heads(heads), lines)
