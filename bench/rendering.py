"""The files beside a report's JSON: its page, its tables, its picture."""

from __future__ import annotations

from pathlib import Path

from ..contract.files import write_bytes
from . import html, markdown, plots
from .document import Document

SUFFIXES = (".html", ".md", ".svg")


def rendered(document: Document, path: Path) -> dict[Path, bytes]:
    """What stands beside the report at `path`, by its place; no picture where there is nothing to draw."""
    texts = (html.page(document), markdown.table(document), plots.picture(document))
    return {
        path.with_suffix(suffix): text.encode("utf-8", "replace")
        for suffix, text in zip(SUFFIXES, texts, strict=True)
        if text
    }


def write(document: Document, path: Path) -> list[Path]:
    """Write all of them; where they are.

    Raises:
        P2Error: a file cannot be written.
    """
    files = rendered(document, path)
    for place, data in files.items():
        write_bytes(place, data)
    return list(files)
