"""Pieces of HTML that the toy problem's and the gradients' sections are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from .document import Figure
from .figure_files import inline


def paragraph(text: str) -> str:
    """Plain text as a paragraph."""
    return f'<p class="prose">{escape(text)}</p>'


def figure(one: Figure, folder: Path) -> str:
    """A figure with its title and caption; the SVG is taken in.

    Raises:
        P2Error: its file is missing.
    """
    return (
        f'<div class="figures"><figure><h3>{escape(one["title"])}</h3>{inline(folder / one["file"])}'
        f"<figcaption>{escape(one['caption'])}</figcaption></figure></div>"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain text; the first column names the row."""
    head = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in heads)
    lines = [
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    ]
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return f'<div class="scroll"><table>{body}</table></div>'
