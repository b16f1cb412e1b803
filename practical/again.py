"""An experiment's results judged and drawn: when it has ended, and anew for a document that is finished."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..contract.errors import P2Error
from ..render.machine import machine
from . import document as documents
from . import shown
from .document import Claim, Document, Experiment, Figure, Seconds

_Claims = Callable[[dict[str, Any]], list[Claim]]
_Draw = Callable[[dict[str, Any], Path], list[Figure]]


def finish(
    folder: Path,
    experiment: Experiment,
    *,
    mode: str,
    seconds: Seconds,
    settings: dict[str, Any],
    results: dict[str, Any],
) -> Document:
    """Judge and draw results, and write the document; see `document` for what it holds.

    Raises:
        P2Error: a file cannot be written.
    """
    claims_of, draw = _makers(experiment)
    document = Document(
        experiment=experiment,
        version=documents.VERSION,
        mode=mode,
        seconds=seconds,
        machine=machine(),
        settings=settings,
        results=results,
        claims=claims_of(results),
        figures=draw(results, folder),
    )
    documents.write(folder, document)
    return document


def renew(path: Path) -> None:
    """Judge a document's results and draw them again, in the way of this version; the results stay.

    Raises:
        P2Error: the document is damaged, or a file cannot be written.
    """
    document = shown.read(path)
    claims_of, draw = _makers(document["experiment"])
    try:
        claims, figures = claims_of(document["results"]), draw(document["results"], path.parent)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError) as error:
        raise P2Error(f"{path} is damaged: its results are not those of an experiment ({error!r})") from error
    if (claims, figures) != (document["claims"], document["figures"]):
        documents.write(path.parent, {**document, "claims": claims, "figures": figures})


def _makers(experiment: str) -> tuple[_Claims, _Draw]:
    room = f".{documents.ROOMS[experiment]}"
    claims, plots = (importlib.import_module(f"{room}.{name}", __package__) for name in ("claims", "plots"))
    return claims.claims_of, plots.draw
