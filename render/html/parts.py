"""Pieces of an HTML report: page, marks, tables, lists, pictures. Plain values are escaped here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ..numbers import NOTHING, number, printable, seconds, size
from .style import CSS

_CLASSES = {True: "yes", False: "no", None: "none"}
_SIGNS = {True: "✓", False: "✗", None: "–"}
_HALF_A_PAGE = 432  # points, in which drawings are measured


def page(title: str, top: str, sections: Mapping[str, str], footer: str) -> str:
    """A whole HTML document that needs nothing else: no network, no scripts, no fonts.

    Args:
        title: of the window, plain.
        top: the page's head, as markup; `contents` belongs into it.
        sections: markup by heading; the heading, plain, is the section's anchor too (`anchor`).
        footer: as markup.
    """
    parts = [
        f'<section id="{anchor(heading)}">\n<h2>{text(heading)}</h2>\n{inner}\n</section>'
        for heading, inner in sections.items()
    ]
    body = [f"<header>\n{top}\n</header>", "<main>", *parts, "</main>", f"<footer>{footer}</footer>"]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>\n{CSS}\n</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def contents(headings: Iterable[str]) -> str:
    """Links to the sections of a page."""
    links = "".join(f'<a href="#{anchor(heading)}">{text(heading)}</a>' for heading in headings)
    return f"<nav>{links}</nav>"


def anchor(heading: str) -> str:
    """The identifier of a section: its heading in lower case, hyphens for whatever is no letter or digit."""
    return re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def tiles(shown: Iterable[tuple[str, str]]) -> str:
    """Large figures, each with the words under it."""
    inner = "".join(
        f'<div class="tile"><b>{text(figure)}</b><span>{text(words)}</span></div>' for figure, words in shown
    )
    return f'<div class="tiles">{inner}</div>' if inner else ""


def text(value: object) -> str:
    """Any value as text that cannot be taken for markup."""
    return escape(printable(str(value)))


def unbroken(value: object) -> str:
    """`text` in whose lines no figure ends without its percent sign, and no comparison without its figure."""
    return re.sub(r"(?<=\d) (?=%)|(?<=[≤≥]) ", "&nbsp;", text(value))


def mark(reached: bool | None, words: str, title: str = "") -> str:
    """A verdict: sign, colour and words, so that none of them is needed alone."""
    about = f' title="{text(title)}"' if title else ""
    shown = f"{_SIGNS[reached]}&nbsp;{unbroken(words)}"
    return f'<span class="mark {_CLASSES[reached]}"{about}>{shown}</span>'


def paragraph(words: str, kind: str = "prose") -> str:
    """Plain text as a paragraph; `kind` is its class of the style sheet."""
    return f'<p class="{kind}">{text(words)}</p>'


def heads(names: Iterable[object]) -> str:
    """The cells of a table's head, from plain text."""
    return "".join(f'<th scope="col">{text(name)}</th>' for name in names)


def table(head: str, lines: Iterable[str], kind: str = "") -> str:
    """A table that scrolls sideways by itself where the screen is narrow.

    Args:
        head: the cells of its only head row, as markup (`heads`).
        lines: the body's rows, as markup.
        kind: classes of the style sheet.
    """
    body = "\n".join(lines)
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}">\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def figure(title: str, svg: str, caption: str, label: str = "") -> str:
    """A picture with its words; it scrolls sideways by itself where it does not fit.

    One that is drawn wider than half a page has a row of its own, and on a phone it is not made so narrow
    that its words could not be read.

    Args:
        title: above it, plain.
        svg: one ``<svg>`` element with a ``viewBox``.
        caption: below it, plain.
        label: what screen readers say, plain; the title if empty.
    """
    named = svg.replace("<svg ", f'<svg aria-label="{text(label or title)}" ', 1)
    width = re.search(r'<svg [^>]*viewBox="0 0 ([\d.]+) ', svg)
    kind = ' class="wide"' if width and float(width[1]) > _HALF_A_PAGE else ""
    words = f"<figcaption>{text(caption)}</figcaption>"
    box = f'<div class="scroll" tabindex="0">{named}</div>'
    return f"<figure{kind}>\n<h3>{text(title)}</h3>\n{box}\n{words}\n</figure>\n"


def figures(shown: Sequence[str]) -> str:
    """Pictures made by `figure`, side by side where there is room."""
    return f'<div class="figures">\n{"".join(shown)}</div>' if shown else ""


def listing(values: Mapping[str, Any]) -> str:
    """A mapping from JSON as a list, whatever it holds."""
    rows = "".join(
        f"<dt>{text(_words(key))}</dt><dd>{text(_value(key, v))}</dd>" for key, v in values.items()
    )
    return f"<dl>{rows}</dl>" if rows else ""


def _words(key: str) -> str:
    return key.removesuffix("_s").replace("_", " ")


def _value(key: str, value: Any) -> str:
    """A value in words; the key tells whether a number is a size in bytes or a time in seconds."""
    if value is None or value == [] or value == {}:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if key in ("caches", "memory") or "bytes" in key:
            return size(value)
        if key.endswith("_s"):
            return seconds(value)
        return f"{value:,}" if isinstance(value, int) else number(value)
    if isinstance(value, list):
        return ", ".join(_value(key, item) for item in value)
    if isinstance(value, dict):
        inside = "caches" if key == "caches" else ""
        return ", ".join(f"{_words(name)} {_value(inside or name, item)}" for name, item in value.items())
    return str(value)
