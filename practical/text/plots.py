"""The pictures of the experiment, drawn from its results: SVG beside the document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...trainer.drawing import COLOURS, PALE, legend
from ..document import Figure
from ..figure_files import drawing
from . import seed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

Results = dict[str, Any]

_MEAN, _SEED, *_CHECKPOINTS = (COLOURS[place] for place in (0, 1, 6, 2, 3, 5))
_LINE = COLOURS[4]
_WIDTH, _HEIGHT = 10.5, 3.7  # inches; the page scales


def draw(results: Results, folder: Path) -> list[Figure]:
    """Write every picture into `folder`."""
    made: list[Figure] = []
    for name, title, caption, paint in _FIGURES:
        with drawing(folder / name, _WIDTH, _HEIGHT) as figure:
            paint(figure, results)
            legend(figure)
        made.append({"file": name, "title": title, "caption": caption})
    return made


def label(checkpoint: dict[str, Any]) -> str:
    """A checkpoint in a few words."""
    asked = checkpoint["asked"]
    return f"accuracy {asked:g}" if asked is not None else f"newest, {checkpoint['running_accuracy']:.3f}"


def _training(figure: Drawing, results: Results) -> None:
    left, right = figure.subplots(1, 2)
    curve = results["curve"]
    for axes, name, theirs in ((left, "loss", seed.LOSS), (right, "accuracy", seed.ACCURACY)):
        axes.plot(curve["step"], curve[name], color=PALE, lw=0.8, label="one batch")
        axes.plot(curve["step"], curve[f"running_{name}"], color=_MEAN, lw=1.8, label="running mean")
        shown = {step: value for step, value in theirs.items() if step <= 1.05 * curve["step"][-1]}
        axes.plot(list(shown), list(shown.values()), "D", color=_SEED, ms=4.5, label="the report")
        axes.set(xlabel="batches", ylabel=name if name == "accuracy" else "loss, nats per character")
    for checkpoint in results["checkpoints"]:
        right.plot(checkpoint["step"], checkpoint["running_accuracy"], "o", color=_LINE, ms=5, mfc="white")
    right.axhline(results["ceiling"]["mean"], color=_LINE, lw=1, ls=":", label="best possible")
    right.set_ylim(0, 1)


def _positions(figure: Drawing, results: Results) -> None:
    left, right = figure.subplots(1, 2)
    ceiling = results["ceiling"]["by_position"]
    places = range(1, len(ceiling) + 1)
    left.plot(places, ceiling, color=_LINE, ls=":", lw=1.6, label="best possible")
    for checkpoint, colour in zip(results["checkpoints"], _CHECKPOINTS, strict=False):
        found = checkpoint["windows"]["by_position"]
        left.plot(places, found, "o-", ms=3, color=colour, label=label(checkpoint))
        missing = [best - value for best, value in zip(ceiling, found, strict=True)]
        right.plot(places, missing, "o-", ms=3, color=colour, label=label(checkpoint))
    left.set(ylabel="accuracy", ylim=(0, 1.02))
    right.set(ylabel="short of the best possible by")
    for axes in (left, right):
        axes.set_xlabel("characters of the window that have been read")


_KINDS = (("0.5", "tau 0.5"), ("1", "tau 1"), ("2", "tau 2"), ("greedy", "greedy"))


def _texts(checkpoint: dict[str, Any], kind: str) -> dict[str, Any]:
    return dict(checkpoint["greedy"] if kind == "greedy" else checkpoint["sampled"][kind])


def _words_and_copies(figure: Drawing, results: Results) -> None:
    left, right = figure.subplots(1, 2)
    _bars(left, results, lambda texts: texts["wording"]["real_words"] or 0.0, "words that the book has")
    _bars(right, results, lambda texts: texts["copied"], "characters copied from the book")
    right.axhline(results["book"]["repeats"], color=_LINE, lw=1, ls=":")


def _bars(axes: Axes, results: Results, value: Callable[[dict[str, Any]], float], title: str) -> None:
    checkpoints = results["checkpoints"]
    width = 0.8 / len(checkpoints)
    for index, (checkpoint, colour) in enumerate(zip(checkpoints, _CHECKPOINTS, strict=False)):
        places = [place + (index - (len(checkpoints) - 1) / 2) * width for place in range(len(_KINDS))]
        shares = [100 * value(_texts(checkpoint, kind)) for kind, _ in _KINDS]
        axes.bar(places, shares, width * 0.92, color=colour, label=label(checkpoint))
    axes.set_xticks(range(len(_KINDS)), [name for _, name in _KINDS])
    axes.grid(axis="x", visible=False)
    axes.set(title=title, ylim=(0, 103), ylabel="%")


def _loops(figure: Drawing, results: Results) -> None:
    axes = figure.add_subplot()
    length = max(c["greedy"]["characters"] / c["greedy"]["texts"] for c in results["checkpoints"])
    for checkpoint, colour in zip(results["checkpoints"], _CHECKPOINTS, strict=False):
        texts = checkpoint["greedy"]
        seen = texts["loops_seen_after"]
        places = [0, *seen, length]
        shares = [100 * index / texts["texts"] for index in (*range(len(seen) + 1), len(seen))]
        axes.step(places, shares, where="post", color=colour, lw=2, label=label(checkpoint))
    axes.set(
        xlabel="characters written", ylabel="% of greedy texts in a loop", ylim=(-2, 103), xlim=(0, length)
    )


_FIGURES: tuple[tuple[str, str, str, Callable[[Drawing, Results], None]], ...] = (
    (
        "text-training.svg",
        "Loss and accuracy while training",
        "On the training batch, as in the report's figure 3, whose points are drawn in. Circles: where the"
        " checkpoints were kept. Dotted: what no model can exceed on windows of this book that begin with a"
        " zero state.",
        _training,
    ),
    (
        "text-positions.svg",
        "Accuracy by position in the window",
        "Of the exported engines, on the same windows at random places of the book. Dotted: the best"
        " possible, by counting which character follows most often. Right: what each engine lacks of it.",
        _positions,
    ),
    (
        "text-words-copies.svg",
        "Real words and copied characters",
        "Left: of the words of three letters or more, those that the book has. Right: of all characters,"
        " those in pieces of 30 or more that stand in the book; dotted: what the book repeats of itself.",
        _words_and_copies,
    ),
    (
        "text-loops.svg",
        "Greedy texts that have run into a loop",
        "One text from every character of the vocabulary. A loop counts when it has gone round three times.",
        _loops,
    ),
)
