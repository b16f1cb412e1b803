"""Claims and figures made anew from the results of finished documents: no experiment is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..contract.documents import check
from ..contract.errors import P2Error
from . import document as documents
from .document import Claim, Document, Figure
from .shown import SHOWN

_Claims = Callable[[dict[str, Any]], list[Claim]]
_Draw = Callable[[dict[str, Any], Path], list[Figure]]


def renew(path: Path) -> None:
    """Judge a document's results and draw them again, in the way of this version; the results stay.

    Raises:
        P2Error: the document is damaged, or a file cannot be written.
    """
    document = documents.read(path)
    check(document, SHOWN[document["experiment"]], str(path))
    claims_of, draw = _makers(document)
    try:
        claims, figures = claims_of(document["results"]), draw(document["results"], path.parent)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError) as error:
        raise P2Error(f"{path} is damaged: its results are not those of an experiment ({error!r})") from error
    if (claims, figures) != (document["claims"], document["figures"]):
        documents.write(path.parent, {**document, "claims": claims, "figures": figures})


def _makers(document: Document) -> tuple[_Claims, _Draw]:
    if document["experiment"] == "baum-sweet":
        from .toy import claims as toy_claims
        from .toy import plots as toy_plots

        return toy_claims.claims_of, toy_plots.draw
    if document["experiment"] == "gradients":
        from .gradients import claims as gradients_claims
        from .gradients import plots as gradients_plots

        return gradients_claims.claims_of, gradients_plots.draw
    from .text import claims, figures

    return claims.claims, figures.draw
