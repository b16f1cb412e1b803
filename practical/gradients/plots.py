"""Figures of the gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...trainer.drawing import BAND, COLOURS, legend, plain_log
from ..document import Figure
from ..figure_files import drawing

NAMES = {"rnn": "vanilla RNN", "lstm": "LSTM", "gru": "GRU"}
_LEAST = 1e-20
"""Shares below it are drawn there: a logarithmic axis has no zero."""
_PANELS = (
    ("initial", "all", "at initialisation"),
    ("initial, long", "all", "at initialisation, three times as long"),
    ("trained", "1", "trained, class 1"),
    ("trained", "0", "trained, class 0"),
)


def draw(results: dict[str, Any], folder: Path) -> list[Figure]:
    """Both figures.

    Raises:
        P2Error: a file cannot be written.
    """
    return [_along(results, folder), _terms(results, folder)]


def _along(results: dict[str, Any], folder: Path) -> Figure:
    file = "gradients-along.svg"
    with drawing(folder / file, 9.5, 6.6) as figure:
        grid = figure.subplots(2, 2, sharey="row").ravel()
        for axes, (when, which, title) in zip(grid, _PANELS, strict=True):
            for cell, colour in zip(NAMES, COLOURS, strict=False):
                found = results["cells"][cell][when]
                for what, style in (("h", "-"), ("c", "--")):
                    if what in found:
                        name = NAMES[cell] if what == "h" else f"{NAMES[cell]}, dL/dc"
                        share = [max(value, _LEAST) for value in found[what][which]["share"]]
                        axes.plot(range(1, len(share) + 1), share, style, color=colour, lw=1.8, label=name)
            padding = results["padding, long" if when.endswith("long") else "padding"]
            axes.axvspan(0.5, padding + 0.5, color=BAND, zorder=0)
            axes.set_title(title)
            axes.set_xlabel("step t")
            axes.set_xlim(left=0.5)
            axes.set_yscale("log")
            plain_log(axes.yaxis)
        for axes in grid[::2]:
            axes.set_ylabel("|dL/dh_t| / |dL/dh_T|")
        legend(figure)
    return Figure(
        file=file,
        title="How much of the gradient is left at step t",
        caption="The loss stands behind the last step. Medians over the sequences; grey is padding (its"
        " mean length). An LSTM's h acts on later steps through the gates alone: what its cell carries is"
        " dL/dc (dashed). The rows have axes of their own.",
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
            left.plot(range(2, steps + 1), [t / total for t in terms[1:]], color=colour, lw=1.8, label=name)
            right.plot(range(1, steps + 1), by_hand["jacobians"], color=colour, lw=1.8, label=name)
        left.set_title("What step i adds to dL/dW_hh")
        left.set_ylabel("norm, of the largest")
        right.set_title("The product of the Jacobians")
        right.set_ylabel("largest singular value of dh_T/dh_i")
        for axes in (left, right):
            axes.set_xlabel("step i")
            axes.set_yscale("log")
            plain_log(axes.yaxis)
        legend(figure)
    return Figure(
        file=file,
        title="Question 1.1 by hand: the terms of the sum, vanilla RNN",
        caption="The first step adds nothing, as the state before it is zero. The sum of the terms is"
        f" autograd's gradient to {max(found[w]['by_hand']['w_hh'] for w in ('initial', 'trained')):.0e} of"
        " its largest element.",
    )
