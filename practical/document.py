"""What every experiment of the practical leaves behind: one JSON document, and SVG figures beside it.

``<experiment>.json`` holds:

| key | type | meaning |
| --- | --- | --- |
| experiment | str | ``baum-sweet``, ``gradients`` or ``text`` |
| version | int | of this format: `VERSION` |
| mode | str | ``quick`` or ``full`` |
| seconds | {wall, cpu} | what it took, all pieces of a resumed run added up; cpu counts every process |
| machine | dict | `render.machine.machine` |
| settings | dict | what was asked for |
| results | dict | figures of the experiment, its own keys |
| claims | list of `Claim` | what the report that is reproduced says, beside what was measured |
| figures | list of `Figure` | pictures, in the order of the page |
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypedDict

from ..contract.documents import check, read_document
from ..contract.errors import P2Error
from ..contract.files import is_name, keep_aside, locked, write_json
from ..contract.schema import Measure, shown

VERSION = 1
FOLDER = Path("artifacts/practical")

Experiment = Literal["baum-sweet", "gradients", "text"]
Verdict = Literal["confirmed", "not confirmed", "explained", "not measured"]


class Claim(TypedDict):
    """A claim beside its measurement; `measured` and `verdict` are made from results, never typed in."""

    where: str  # section, figure or table of the report, such as "1.3, figure 1"
    seed: str  # what it says, in our own words
    measured: str  # what was measured, one or two sentences with figures
    verdict: Verdict


class Figure(TypedDict):
    """A picture beside the document."""

    file: str  # name of an SVG in the document's folder
    title: str
    caption: str


class Seconds(TypedDict):
    """What an experiment took, all its pieces together."""

    wall: Measure
    cpu: Measure


ROOMS = {"baum-sweet": "toy", "gradients": "gradients", "text": "text"}
"""Experiment -> the folder of its code."""


class Document(TypedDict):
    """One experiment."""

    experiment: Experiment
    version: int
    mode: str
    seconds: Seconds
    machine: dict[str, Any]
    settings: dict[str, Any]
    results: dict[str, Any]
    claims: list[Claim]
    figures: list[Figure]


class Section(TypedDict):
    """A part of the page: a heading and finished HTML, in which everything foreign is escaped."""

    title: str
    html: str


def write(folder: Path, document: Document) -> Path:
    """Write a document to its place in `folder`, whole or not at all; where it is."""
    path = folder / f"{document['experiment']}.json"
    write_json(path, document)
    return path


@contextlib.contextmanager
def alone(folder: Path, experiment: str) -> Iterator[None]:
    """Keep other p2 processes from the same experiment in `folder`.

    Raises:
        P2Error: one is at it, or the file system refused.
    """
    with locked(folder / f".{experiment}.json.lock", folder / f"{experiment}.json"):
        yield


def make_room(folder: Path, experiment: str, results: dict[str, Any] | None = None) -> str:
    """Keep an earlier run's document, with its figures, before another takes its place.

    Args:
        folder: where both are.
        experiment: of both.
        results: of the new one, where the same results are the same run.

    Returns:
        A line that says where it is; empty if there was none to keep.

    Raises:
        P2Error: the file system refused.
    """
    path = folder / f"{experiment}.json"
    figures = []
    if path.is_file():
        try:
            earlier = read(path)
            if results is not None and earlier["results"] == json.loads(json.dumps(results)):
                return ""
            figures = [folder / Path(figure["file"]).name for figure in earlier["figures"]]
        except P2Error as error:  # damaged: kept all the same
            if isinstance(error.__cause__, OSError):
                raise  # whole perhaps, and its figures would be replaced
    kept = keep_aside(path, *figures)
    return f"the {path} of an earlier run is kept, with its pictures, in {kept}" if kept else ""


def fingerprint(path: Path) -> str:
    """SHA-256 of a document's results, which stay when its claims and figures are made again.

    Empty where there is no document, or none that can be read.
    """
    if not path.is_file():
        return ""
    with contextlib.suppress(P2Error):
        return hashlib.sha256(json.dumps(read(path)["results"], sort_keys=True).encode()).hexdigest()
    return ""


def read(path: Path) -> Document:
    """Read a document.

    Raises:
        P2Error: missing, damaged, or of another version.
    """
    found = read_document(path)
    missing = sorted(Document.__required_keys__ - set(found)) if isinstance(found, dict) else ["everything"]
    if missing:
        raise P2Error(f"{path} is not a document of the practical: {', '.join(missing)} missing")
    if type(found["version"]) is not int or found["version"] != VERSION:
        version = shown(found["version"])
        raise P2Error(f"{path} is of version {version}, not {VERSION}: run its experiment again")
    document: Document = check(found, Document, str(path))
    if document["experiment"] != path.stem:
        raise P2Error(f"{path} is the document of {document['experiment']}: each has a name of its own")
    for figure in document["figures"]:
        if not is_name(figure["file"]):
            raise P2Error(f"{path} is damaged: {shown(figure['file'])} is no name of a figure beside it")
    return document
