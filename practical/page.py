"""One self-contained page of whatever experiments have left their documents."""

from __future__ import annotations

import importlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from ..contract.errors import P2Error
from ..contract.files import is_kept_aside, write_bytes
from ..render.html import parts
from ..render.html.parts import listing, text
from ..trainer.display import duration
from . import document as documents
from . import shown
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


def documents_in(folder: Path) -> list[Path]:
    """The documents in a folder, then those in the folders inside it: other runs of the same experiments."""
    inside = sorted(path for path in folder.glob("[!.]*/") if path.is_dir() and not is_kept_aside(path))
    return [
        path
        for place in (folder, *inside)
        for name in EXPERIMENTS
        if (path := place / f"{name}.json").is_file()
    ]


def write(folder: Path) -> Path:
    """Make the page of the documents in `folder` and in those inside it; where it is.

    Raises:
        P2Error: there is no document, or one is damaged.
    """
    runs = [Run(shown.read(path), path.parent, path.parent != folder) for path in documents_in(folder)]
    if not runs:
        raise P2Error(f"there is no document of an experiment in {folder}: `p2 practical --help` names them")
    path = folder / NAME
    write_bytes(path, page(runs).encode("utf-8", errors="replace"))
    return path


@dataclass(frozen=True)
class Run:
    """An experiment as it was run.

    Attributes:
        document: what it left.
        folder: where its pictures are.
        other: whether it stands beside the page's own runs, in a folder of its own.
    """

    document: Document
    folder: Path
    other: bool = False

    @property
    def title(self) -> str:
        """What it is called in the page."""
        name = EXPERIMENTS[self.document["experiment"]]
        return f"{name}: {self.folder.name}" if self.other else name


def page(runs: list[Run]) -> str:
    """The page of some runs; claims are counted of the page's own."""
    sections = {"Claims": _claims(runs)}
    for run in runs:
        made = _sections(run)
        inner = [
            f'<h3 id="{_anchor(run, section)}">{text(section["title"])}</h3>\n{section["html"]}'
            for section in made
        ]
        links = [f'<a href="#{_anchor(run, section)}">{text(section["title"])}</a>' for section in made]
        sections[run.title] = "\n".join([f'<p class="note">{" · ".join(links)}</p>', *inner])
    sections["How it was run"] = _runs(runs)
    return parts.page(TITLE, _top(runs, list(sections)), sections, "Written by <code>p2 practical</code>.")


def _anchor(run: Run, section: documents.Section) -> str:
    return parts.anchor(f"{run.folder.name} {section['title']}" if run.other else section["title"])


def _sections(run: Run) -> list[documents.Section]:
    room = documents.ROOMS[run.document["experiment"]]
    module = importlib.import_module(f".{room}.section", __package__)
    made: list[documents.Section] = module.sections(run.document, run.folder)
    return made


def _top(runs: list[Run], headings: list[str]) -> str:
    own = [run for run in runs if not run.other] or runs
    claims = [claim for run in own for claim in run.document["claims"]]
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


def _claims(runs: list[Run]) -> str:
    """Every claim with its measurement and its verdict, experiment by experiment."""
    pieces = [
        '<p class="prose">Confirmed: what was measured agrees, by a rule that the code states. Explained: the'
        " observation has another cause than the report gives, or one that it does not give. Not measured:"
        " it takes a reader, or another run.</p>"
    ]
    for run in runs:
        if run.document["claims"]:
            pieces.append(f"<h3>{text(run.title)}</h3>")
            pieces.append(_claim_table(run.document["claims"]))
    return "\n".join(pieces)


def _claim_table(claims: list[Claim]) -> str:
    rows = [
        f'<tr><td>{text(claim["where"])}</td><th scope="row">{text(claim["seed"])}</th>'
        f"<td>{text(claim['measured'])}</td><td>{verdict(claim['verdict'])}</td></tr>"
        for claim in claims
    ]
    head = parts.heads(("where", "the report says", "measured", "verdict"))
    return parts.table(head, rows, "words claims")


def verdict(found: Verdict) -> str:
    """A verdict as a mark."""
    kind, sign = _MARKS[found]
    return f'<span class="mark {kind}">{sign}&nbsp;{text(found)}</span>'


def _runs(runs: list[Run]) -> str:
    """Machine, time and settings of each experiment."""
    pieces = []
    for run in runs:
        document = run.document
        seconds = document["seconds"]
        took = f"{duration(seconds['wall'])} in all, {duration(seconds['cpu'])} of processor time"
        pieces.append(
            f"<details>\n<summary><b>{text(run.title)}</b>"
            f"<span>{text(document['mode'])} run · {text(took)} ·"
            f" {text(document['machine'].get('processor'))}</span>"
            f"</summary>\n<div>\n<h3>Machine</h3>\n{listing(document['machine'])}\n<h3>Settings</h3>\n"
            f"{listing(document['settings'])}\n</div>\n</details>"
        )
    return "\n".join(pieces)
