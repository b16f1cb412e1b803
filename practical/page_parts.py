"""Pieces of HTML that the toy problem's and the gradients' sections are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..render.html import parts
from ..render.html.parts import text
from .document import Figure
from .figure_files import inline


def paragraph(words: str) -> str:
    """Plain text as a paragraph."""
    return f'<p class="prose">{text(words)}</p>'


def figure(one: Figure, folder: Path) -> str:
    """A figure with its title and caption; the SVG is taken in.

    Raises:
        P2Error: its file is missing.
    """
    return parts.figures([parts.figure(one["title"], inline(folder / one["file"]), one["caption"])])


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text; the first column names the row."""
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in heads)
    lines = (
        f'<tr><th scope="row">{text(first)}</th>{"".join(f"<td>{text(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return parts.table(head, lines)
