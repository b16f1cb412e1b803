"""The gradients on the page, from their document alone."""

from __future__ import annotations

from pathlib import Path

from ...contract.errors import ContractError
from ...render.html.parts import paragraph
from ..document import Document, Section
from ..page_parts import figure, table
from .plots import NAMES


def sections(document: Document, folder: Path) -> list[Section]:
    """The parts of the page: the gradient along a sequence, the formula by hand, the parameters.

    Args:
        document: as `shown.read` gives it.
        folder: where its figures are.

    Raises:
        ContractError: it is damaged.
        P2Error: a figure is missing.
    """
    if len(document["figures"]) != 2:
        where = folder / "gradients.json"
        raise ContractError(f"{where} is damaged: it has {len(document['figures'])} figures, not 2")
    results, settings = document["results"], document["settings"]
    along, terms = (figure(one, folder) for one in document["figures"])
    intro = (
        f"Sequences of the toy problem, T = {settings['magnitude']}, {results['steps']} steps, classes"
        f" balanced; one layer of {settings['hidden']}. The loss stands behind the last step alone, so the"
        f" norm at step t is what is left of it so far back. Trained: Adam at {settings['lr']:g} until 100"
        f" updates after convergence. It took {document['seconds']['wall']:.0f} s."
    )
    return [
        Section(title="How far the gradient reaches", html=paragraph(intro) + along + _shares(document)),
        Section(
            title="Question 1.1: the gradient by hand",
            html=paragraph(
                "The gradient of the last step's loss with respect to W_hh is a sum over all steps i: dL/dp"
                " dp/dh_T, times the product of the Jacobians diag(1 - h_j²) W_hh from i + 1 to T, times"
                " the derivative of h_i at fixed h_{i-1}. Every product was formed, and the sum compared"
                " with autograd."
            )
            + terms
            + _differences(document),
        ),
        Section(title="Question 1.2 (b): parameters", html=_parameters(document)),
    ]


def _shares(document: Document) -> str:
    rows = []
    cells = document["results"]["cells"]
    for cell, found in ((name, cells[name]) for name in NAMES if name in cells):
        for when, which, name in (
            ("initial", "all", "at initialisation"),
            ("trained", "1", "trained, class 1"),
            ("trained", "0", "trained, class 0"),
        ):
            for what in ("h", "c"):
                if what in found[when]:
                    share = found[when][what][which]["share"]
                    shown = [
                        f"{share[-1 - back]:.2g}" if back < len(share) else "" for back in (1, 5, 10, 20, 30)
                    ]
                    rows.append([f"{NAMES[cell]}, dL/d{what}, {name}", *shown])
    return table(["median share left, steps back", "1", "5", "10", "20", "30"], rows)


def _differences(document: Document) -> str:
    found = document["results"]["cells"]["rnn"]
    rows = [
        [name, f"{found[when]['by_hand']['w_hh']:.1e}", f"{found[when]['by_hand']['w_ph']:.1e}"]
        for when, name in (("initial", "at initialisation"), ("trained", "trained"))
    ]
    return table(["difference from autograd, of the largest element", "dL/dW_hh", "dL/dW_ph"], rows)


def _parameters(document: Document) -> str:
    rows = []
    for one in document["results"]["parameters"]:
        inspect = one.get("inspect")
        rows.append(
            [
                one["model"],
                f"{one['formula']:,}",
                f"{one['counted']:,}",
                f"{one['embedding']:,}",
                f"{inspect['by_formula']:,}" if inspect else "",
                f"{inspect['as_stored']:,}" if inspect else "",
            ]
        )
    heads = (
        "model",
        "formula",
        "counted, one bias per gate",
        "embedding",
        "inspect: by formula",
        "inspect: stored",
    )
    return table(heads, rows)
