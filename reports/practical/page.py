"""One self-contained page of whatever experiments have left their documents."""

from __future__ import annotations

import importlib
from collections import Counter
from pathlib import Path
from typing import get_args

from ...spec.errors import P2Error
from ...spec.files import write_bytes
from ...trainer.display import duration
from ..html import parts
from ..html.parts import listing, text
from . import document as documents
from .document import Claim, Document, Verdict

EXPERIMENTS = {
    "baum-sweet": "The Baum-Sweet sequence",
    "gradients": "Gradients and parameters",
    "text": "Generated text",
}
"""The experiments in the order of the page, and what each is called there."""

NAME = "report.html"
TITLE = "A practical on recurrent networks, reproduced"

_MARKS: dict[Verdict, tuple[str, str]] = {
    "confirmed": ("yes", "✓"),
    "not confirmed": ("no", "✗"),
    "explained": ("told", "→"),
    "not measured": ("none", "–"),
}
"""Class of the style sheet and sign of each verdict."""


def write(folder: Path) -> Path:
    """Make the page of the documents in `folder`; where it is.

    Raises:
        P2Error: there is no document, or one is damaged.
    """
    found = [documents.read(path) for name in EXPERIMENTS if (path := folder / f"{name}.json").is_file()]
    if not found:
        raise P2Error(f"there is no document of an experiment in {folder}: `p2 practical --help` names them")
    path = folder / NAME
    write_bytes(path, page(found, folder).encode("utf-8", errors="replace"))
    return path


def page(found: list[Document], folder: Path) -> str:
    """The page of some documents, whose pictures are in `folder`."""
    sections = {"Claims": _claims(found)}
    for document in found:
        made = _sections(document, folder)
        name = EXPERIMENTS[document["experiment"]]
        inner = [
            f'<h3 id="{parts.anchor(section["title"])}">{text(section["title"])}</h3>\n{section["html"]}'
            for section in made
        ]
        sections[name] = "\n".join([_inside(made), *inner])
    sections["How it was run"] = _runs(found)
    return parts.page(TITLE, _top(found, list(sections)), sections, "Written by <code>p2 practical</code>.")


def _sections(document: Document, folder: Path) -> list[documents.Section]:
    module = importlib.import_module(f".{document['experiment'].replace('-', '_')}_section", __package__)
    made: list[documents.Section] = module.sections(document, folder)
    return made


def _inside(made: list[documents.Section]) -> str:
    """Links to the parts of one experiment."""
    links = [f'<a href="#{parts.anchor(section["title"])}">{text(section["title"])}</a>' for section in made]
    return f'<p class="note">{" · ".join(links)}</p>'


def _top(found: list[Document], headings: list[str]) -> str:
    claims = [claim for document in found for claim in document["claims"]]
    counts = Counter(claim["verdict"] for claim in claims)
    tiles = [(str(counts[verdict]), f"claims {verdict}") for verdict in get_args(Verdict) if counts[verdict]]
    lead = (
        "A student's report on recurrent networks makes claims about a toy problem, about gradients and"
        " about generated text. Here each stands beside what was measured when its experiments were run"
        " again, with p2's own models and engines."
    )
    return (
        f'<p class="kicker">p2 practical</p>\n<h1>{text(TITLE)}</h1>\n<p class="lead">{text(lead)}</p>\n'
        f"{parts.tiles(tiles)}\n{parts.contents(headings)}"
    )


def _claims(found: list[Document]) -> str:
    """Every claim with its measurement and its verdict, experiment by experiment."""
    pieces = [
        '<p class="prose">Confirmed: what was measured agrees, by a rule that the code states. Explained: the'
        " observation has another cause than the report gives, or one that it does not give. Not measured:"
        " it takes a reader, or another run.</p>"
    ]
    for document in found:
        if document["claims"]:
            pieces.append(f"<h3>{text(EXPERIMENTS[document['experiment']])}</h3>")
            pieces.append(_claim_table(document["claims"]))
    return "\n".join(pieces)


def _claim_table(claims: list[Claim]) -> str:
    rows = [
        f'<tr><td>{text(claim["where"])}</td><th scope="row">{text(claim["seed"])}</th>'
        f"<td>{text(claim['measured'])}</td><td>{verdict(claim['verdict'])}</td></tr>"
        for claim in claims
    ]
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("where", "the report says", "measured", "verdict")
    )
    return parts.table(head, rows, "words claims")


def verdict(found: Verdict) -> str:
    """A verdict as a mark."""
    kind, sign = _MARKS[found]
    return f'<span class="mark {kind}">{sign}&nbsp;{text(found)}</span>'


def _runs(found: list[Document]) -> str:
    """Machine, time and settings of each experiment."""
    pieces = []
    for document in found:
        seconds = document["seconds"]
        took = f"{duration(seconds['wall'])} in all, {duration(seconds['cpu'])} of processor time"
        pieces.append(
            f"<details>\n<summary><b>{text(EXPERIMENTS[document['experiment']])}</b>"
            f"<span>{text(document['mode'])} run · {text(took)} ·"
            f" {text(document['machine'].get('processor'))}</span>"
            f"</summary>\n<div>\n<h3>Machine</h3>\n{listing(document['machine'])}\n<h3>Settings</h3>\n"
            f"{listing(document['settings'])}\n</div>\n</details>"
        )
    return "\n".join(pieces)
