"""Figures of the toy problem."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...trainer.drawing import BAND, COLOURS, GREY, legend
from ..document import Figure
from ..figure_files import drawing
from .counts import entropy, prior
from .problem import BaumSweet
from .results import AT, Group, Results, data_for, is_core
from .settings import CELLS, MAGNITUDES, NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVES_SAY = (
    "Mean over the seeds of the mean over the latest 21 updates, the band one standard deviation. A"
    " training ends 100 updates after it has converged, when its accuracy rounds to 1.00; from there on its"
    " last value is drawn."
)
_ENTROPIES_SAY = (
    "The dotted lines are the entropy of the share of the classes: the loss of a model that knows this"
    " share and has not read a digit."
)
ANCHORS = (300, 850)
"""Updates within which others' models with the same set-up converge."""
_BASELINES = (
    ("majority", "majority", "-"),
    ("length_only", "length only", "--"),
    ("cue", "single zeros only", ":"),
)
ENTROPY_MAGNITUDES = range(2, 16)


def draw(results: Results, folder: Path) -> list[Figure]:
    """Draw everything that there are trainings for.

    Raises:
        P2Error: a file cannot be written.
    """
    core = [g for g in results["groups"] if is_core(g, results)]
    balanced = [g for g in results["groups"] if g["sampling"] == "balanced" and g["magnitude"] <= 6]
    long = [g for g in results["groups"] if g["magnitude"] >= 10]
    figures = [
        *(_curves(results, core, cell, folder) for cell in CELLS),
        _balanced(balanced, folder),
        _convergence(results, folder),
        _entropy(results, folder),
        _long(results, long, folder),
    ]
    return [figure for figure in figures if figure]


def _curves(results: Results, core: Sequence[Group], cell: str, folder: Path) -> Figure | None:
    groups = [g for g in core if g["cell"] == cell]
    if not groups:
        return None
    file = f"baum-sweet-{cell}.svg"
    with drawing(folder / file, 9.5, 3.9) as figure:
        loss, accuracy = figure.subplots(1, 2)
        for group in groups:
            colour = COLOURS[MAGNITUDES.index(group["magnitude"])]
            _band(loss, group, "loss", colour, f"T = {group['magnitude']}")
            _band(accuracy, group, "accuracy", colour, f"T = {group['magnitude']}")
            line = data_for(results, group["magnitude"], "rejection")["entropy"]
            loss.axhline(line, color=colour, ls=":", lw=1.5, label=f"entropy {line:.3f}")
        _dress(loss, accuracy)
        legend(figure)
    number = {"lstm": "Figure 1, ", "gru": "Figure 2, "}.get(cell, "")
    return Figure(
        file=file,
        title=f"{number}{NAMES[cell]}: loss and accuracy with the documented samples",
        caption=f"{CURVES_SAY} {_ENTROPIES_SAY}",
    )


def _balanced(groups: Sequence[Group], folder: Path) -> Figure | None:
    cells = list(dict.fromkeys(g["cell"] for g in groups))
    if not groups:
        return None
    file = "baum-sweet-balanced.svg"
    with drawing(folder / file, 9.5, 3.4 * len(cells) + 0.5) as figure:
        rows = figure.subplots(len(cells), 2, squeeze=False)
        for (loss, accuracy), cell in zip(rows, cells, strict=True):
            for group in (g for g in groups if g["cell"] == cell):
                colour = COLOURS[MAGNITUDES.index(group["magnitude"])]
                _band(loss, group, "loss", colour, f"T = {group['magnitude']}")
                _band(accuracy, group, "accuracy", colour, f"T = {group['magnitude']}")
            loss.axhline(entropy(0.5), color=GREY, ls=":", lw=1.5, label="entropy of a fair coin, 0.693")
            _dress(loss, accuracy, f"{NAMES[cell]}: ")
        legend(figure)
    return Figure(
        file=file,
        title="The same with the classes balanced at every T",
        caption=f"The dotted line is the entropy of a fair coin. {CURVES_SAY}",
    )


def _convergence(results: Results, folder: Path) -> Figure | None:
    groups = [g for g in results["groups"] if g["magnitude"] <= 6]
    file = "baum-sweet-convergence.svg"
    labels = [_kind(g, results) for g in groups]
    with drawing(folder / file, 9.5, 0.26 * len(groups) + 1.2) as figure:
        axes = figure.subplots()
        axes.axvspan(*ANCHORS, color=BAND, zorder=0, label=f"{ANCHORS[0]} to {ANCHORS[1]} updates")
        for row, group in enumerate(groups):
            colour = COLOURS[MAGNITUDES.index(group["magnitude"])]
            done = [c for c in group["converged"] if c is not None]
            never = [n for n, c in zip(group["updates_done"], group["converged"], strict=True) if c is None]
            axes.plot(done, [row] * len(done), "o", color=colour, ms=5.5, alpha=0.85)
            axes.plot(never, [row] * len(never), "x", color=colour, ms=6)
        axes.set_yticks(range(len(groups)), labels)
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("updates until the 21-step mean accuracy first reaches 0.99")
        legend(figure)
    return Figure(
        file=file,
        title="Updates until convergence, one point for each seed",
        caption="The band is the range of other reports on the same assignment. A cross is a training that"
        " ended without converging.",
    )


def _kind(group: Group, results: Results) -> str:
    words = [f"{NAMES[group['cell']]}, T = {group['magnitude']}"]
    if group["sampling"] != "rejection":
        words.append(group["sampling"])
    elif not is_core(group, results):
        words.append(f"embedding {group['embedding']}, gain {group['gain']:.2f}, fan {group['fan']}")
    return ", ".join(words)


def _entropy(results: Results, folder: Path) -> Figure:
    file = "baum-sweet-entropy.svg"
    values = [entropy(prior(BaumSweet(magnitude))) for magnitude in ENTROPY_MAGNITUDES]
    groups = [
        g
        for g in results["groups"]
        if g["sampling"] == "rejection"
        and g["cell"] in ("lstm", "gru")
        and (is_core(g, results) or g["magnitude"] > 6)
    ]
    with drawing(folder / file, 9.5, 3.8) as figure:
        axes = figure.subplots()
        axes.plot(
            list(ENTROPY_MAGNITUDES), values, "-", color=GREY, label="entropy of the share of the classes"
        )
        for cell, colour, marker in (("lstm", COLOURS[0], "o"), ("gru", COLOURS[1], "s")):
            mine = [g for g in groups if g["cell"] == cell]
            if mine:
                axes.errorbar(
                    [g["magnitude"] for g in mine], [g["early_loss"]["mean"] for g in mine],
                    [g["early_loss"]["std"] for g in mine], fmt=marker, color=colour, capsize=3,
                    label=f"{NAMES[cell].split(',')[0]}, mean loss of updates 21 to 100",
                )  # fmt: skip
        axes.set_xlabel("T")
        axes.set_ylabel("nats")
        axes.set_ylim(bottom=0)
        legend(figure)
    return Figure(
        file=file,
        title="What the early plateau is",
        caption="The documented rejection rate balances the classes at T = 6 only; beyond it nearly every"
        " sample is of class 0. Bars: one standard deviation over the seeds.",
    )


def _long(results: Results, groups: Sequence[Group], folder: Path) -> Figure | None:
    kinds = list(dict.fromkeys((g["magnitude"], g["sampling"]) for g in groups))
    if not kinds:
        return None
    file = "baum-sweet-long.svg"
    columns = 2
    height = 3.1 * -(-len(kinds) // columns) + 0.6
    with drawing(folder / file, 4.75 * columns, height) as figure:
        panels = figure.subplots(-(-len(kinds) // columns), columns, squeeze=False).ravel()
        for axes in panels[len(kinds) :]:
            axes.remove()
        for axes, kind in zip(panels, kinds, strict=False):
            data = data_for(results, *kind)
            for group in (g for g in groups if (g["magnitude"], g["sampling"]) == kind):
                _band(axes, group, "accuracy", COLOURS[CELLS.index(group["cell"])], NAMES[group["cell"]])
            for key, label, style in _BASELINES:
                axes.axhline(data[key], color=GREY, ls=style, lw=1.4, label=label)
            axes.set_title(f"T = {kind[0]} ({data['steps']} steps), {kind[1]}")
            axes.set_ylim(0.45, 1.02)
            axes.set_xlabel("updates")
            axes.set_ylabel("accuracy")
        legend(figure)
    return Figure(
        file=file,
        title="Much longer sequences, classes balanced",
        caption="Baselines: always the commoner class; the number of digits alone; whether a block of"
        f" exactly one zero is seen, wherever. {CURVES_SAY}",
    )


def _band(axes: Axes, group: Group, what: str, colour: str, label: str) -> None:
    curves = group["curves"]
    mean, std = curves[f"{what}_mean"], curves[f"{what}_std"]
    axes.plot(curves["update"], mean, color=colour, lw=1.8, label=label)
    if len(group["seeds"]) > 1:
        low, high = ([m + sign * s for m, s in zip(mean, std, strict=True)] for sign in (-1, 1))
        axes.fill_between(curves["update"], low, high, color=colour, alpha=0.18, lw=0)


def _dress(loss: Axes, accuracy: Axes, title: str = "") -> None:
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        axes.set_title(f"{title}{name}" if title else name)
        axes.set_xlabel("updates")
    loss.set_ylabel("cross entropy, nats")
    loss.set_ylim(0, 0.9)
    accuracy.set_ylim(0.45, 1.02)
    accuracy.axvline(AT, color=GREY, lw=0.8, ls="--")
