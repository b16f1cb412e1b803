"""Pieces of a page of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .numbers import printable


def escape(text: str) -> str:
    """Text that Markdown shows as it is."""
    shown = printable(text).replace("\\", "\\\\")
    for character in "`*_[]<>|#~&":
        shown = shown.replace(character, "\\" + character)
    return shown


def bullets(lines: Sequence[str], escape: Callable[[str], str] = escape) -> str:
    """A list of plain texts."""
    return "\n".join(f"- {escape(line)}" for line in lines)


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    words: int,
    escape: Callable[[str], str] = escape,
) -> str:
    """A table of plain texts; the first columns, so many as hold words, are set left, the others right."""
    rules = ["---" if at < words else "---:" for at in range(len(heads))]
    lines = [heads, rules, *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
