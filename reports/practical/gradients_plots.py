"""Figures of the gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .document import Figure
from .figure_files import COLOURS, drawing, legend

NAMES = {"rnn": "vanilla RNN", "lstm": "LSTM", "gru": "GRU"}
_LEAST = 1e-12


def draw(results: dict[str, Any], folder: Path) -> list[Figure]:
    """Both figures.

    Raises:
        P2Error: a file cannot be written.
    """
    return [_along(results, folder), _terms(results, folder)]


def _along(results: dict[str, Any], folder: Path) -> Figure:
    panels = (
        ("initial", "all", "at initialisation"),
        ("trained", "1", "trained, class 1"),
        ("trained", "0", "trained, class 0"),
    )
    file = "gradients-along.svg"
    steps = results["steps"]
    with drawing(folder / file, 10.5, 4.1) as figure:
        for axes, (when, which, title) in zip(figure.subplots(1, 3, sharey=True), panels, strict=True):
            for cell, colour in zip(NAMES, COLOURS, strict=False):
                found = results["cells"][cell][when]
                for what, style in (("h", "-"), ("c", "--")):
                    if what not in found:
                        continue
                    curve = found[what][which]
                    name = NAMES[cell] if what == "h" else f"{NAMES[cell]}, dL/dc"
                    shares = [max(share, _LEAST) for share in curve["share"]]
                    axes.semilogy(range(1, steps + 1), shares, style, color=colour, lw=1.8, label=name)
            axes.axvspan(0.5, results["padding"] + 0.5, color="#f1f3f5", zorder=0)
            axes.set_title(title)
            axes.set_xlabel("step t")
            axes.set_xlim(0.5, steps + 0.5)
            axes.set_ylim(bottom=_LEAST)
        figure.axes[0].set_ylabel("|dL/dh_t| / |dL/dh_T|")
        legend(figure)
    return Figure(
        file=file,
        title="How much of the gradient is left, t steps from the beginning",
        caption="The loss stands behind the last step. Medians over the sequences; grey is padding (its mean"
        " length). An LSTM's h acts on later steps through the gates alone: what its cell carries is dL/dc"
        f" (dashed). Shares below {_LEAST:g} are drawn there.",
    )


def _terms(results: dict[str, Any], folder: Path) -> Figure:
    file = "gradients-terms.svg"
    steps = results["steps"]
    found = results["cells"]["rnn"]
    with drawing(folder / file, 9.5, 3.9) as figure:
        left, right = figure.subplots(1, 2)
        for (when, name), colour in zip(
            (("initial", "at initialisation"), ("trained", "trained")), COLOURS, strict=False
        ):
            by_hand = found[when]["by_hand"]
            terms = by_hand["terms"]
            total = max(terms)
            left.semilogy(
                range(2, steps + 1), [t / total for t in terms[1:]], color=colour, lw=1.8, label=name
            )
            right.semilogy(range(1, steps + 1), by_hand["jacobians"], color=colour, lw=1.8, label=name)
        left.set_title("What step i adds to dL/dW_hh")
        left.set_ylabel("norm, of the largest")
        right.set_title("The product of step Jacobians")
        right.set_ylabel("largest singular value of dh_T/dh_i")
        for axes in (left, right):
            axes.set_xlabel("step i")
        legend(figure)
    return Figure(
        file=file,
        title="Question 1.1 by hand: the terms of the sum, vanilla RNN",
        caption="The first step adds nothing, as the state before it is zero. The sum of the terms is"
        " autograd's gradient"
        f" to {max(found[w]['by_hand']['w_hh'] for w in ('initial', 'trained')):.0e} of its largest element.",
    )
