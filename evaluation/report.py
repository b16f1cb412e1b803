"""What was found of engines, as tables for a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..render.numbers import NOTHING, percent, printable
from ..render.terminal import titled
from .run import Evaluated, Evaluation
from .scores import Score

if TYPE_CHECKING:
    from rich.table import Table

_HEADS = ["bits per character", "perplexity", "accuracy", "top 5"]


def tables(found: Evaluation) -> list[Table]:
    """One of the engines, one by position, one by class of character."""
    several = len(found.engines) > 1
    heads = [*_HEADS[:1], *["difference"] * several, *_HEADS[1:]]
    each = titled(f"{found.characters - 1:,} characters predicted", ["engine", "run by", *heads], words=2)
    each.columns[0].overflow = "fold"  # the ends of paths tell engines apart
    each.columns[2].min_width = len("character")
    for column in each.columns[3:]:
        column.no_wrap = True
    for one in found.engines:
        bits, *rest = _cells(one.score)
        apart = NOTHING if one.difference is None else f"{round(one.difference, 4) + 0.0:+.4f}"
        each.add_row(printable(one.path), printable(one.engine), bits, *[apart] * several, *rest)
    since = "in the text" if found.window is None else f"in windows of {found.window:,}"
    return [
        each,
        _groups(found, f"by position {since}", _by_position),
        _groups(found, "by class of character", lambda one: one.by_class),
    ]


def _by_position(one: Evaluated) -> dict[str, Score]:
    return {
        f"{first:,}" if first == last else f"{first:,}–{last:,}": score
        for (first, last), score in one.by_position.items()
    }


def _groups(found: Evaluation, title: str, part: Callable[[Evaluated], Mapping[str, Score]]) -> Table:
    """All figures of one engine, the bits of several."""
    several = len(found.engines) > 1
    heads = [printable(Path(one.path).name) for one in found.engines] if several else _HEADS
    title = f"{'Bits per character' if several else 'Predictions'} {title}"
    table = titled(title, ["", "characters", *heads])
    for column in table.columns:
        column.overflow = "fold"
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    columns = [part(one) for one in found.engines]
    for name, score in columns[0].items():
        cells = [_cells(one[name])[0] for one in columns] if several else _cells(score)
        table.add_row(name, f"{score.characters:,}", *cells)
    return table


def _cells(score: Score) -> list[str]:
    """What `_HEADS` name."""
    perplexity = NOTHING if score.perplexity is None else f"{score.perplexity:.3f}"
    bits = f"{score.bits_per_character:.4f}"
    return [bits, perplexity, percent(score.accuracy), percent(score.top5_accuracy)]
