"""The training curve: ``log.jsonl`` as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..contract.errors import P2Error
from ..contract.files import write_bytes
from . import drawing
from .runfolder import RunFolder, read_log

_TRAIN, _VALIDATION = drawing.COLOURS[:2]


def update(run: RunFolder, note: Callable[[str], None]) -> None:
    """Draw the curve of a run, or say why there is none: no run fails for the sake of its picture."""
    try:
        if not draw(run.log, run.curve):
            note("no curve.svg: matplotlib is not installed (it comes with the extra `train`)")
    except P2Error as error:
        note(f"no curve.svg: {error}")
    except Exception as error:  # of matplotlib, or of what somebody has put into the log
        note(f"no curve.svg: {type(error).__name__}: {error}")


def catch_up(run: RunFolder, note: Callable[[str], None]) -> None:
    """Draw the curve of a run that is done where it is missing or behind the log, as after a kill."""
    try:
        behind = not run.curve.exists() or run.curve.stat().st_mtime < run.log.stat().st_mtime
    except OSError:
        behind = False  # no log
    if behind:
        update(run, note)


def draw(log: Path, target: Path) -> bool:
    """Draw bits per character and accuracy over the updates, training and held-out text, as SVG.

    Args:
        log: a ``log.jsonl``; lines that are none of p2's are left out.
        target: the picture.

    Returns:
        Whether it was drawn: without matplotlib it is not.

    Raises:
        P2Error: a file cannot be read or written, or there is no line.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        return False
    entries = read_log(log)
    if not entries:
        raise P2Error(f"{log} has no line that can be drawn")
    with drawing.canvas(10, 4) as figure:
        bits, accuracy = figure.subplots(1, 2)
        _panel(bits, entries, "bits_per_character", "bits per character (loss / ln 2)")
        _panel(accuracy, entries, "accuracy", "accuracy of the next character")
        accuracy.set_ylim(0, 1)
        drawing.legend(figure)
        write_bytes(target, drawing.alone(drawing.svg(figure, "curve")).encode())
    return True


def _panel(axes: Any, entries: list[dict[str, Any]], name: str, title: str) -> None:
    for key, label, colour, style in (
        (name, "training batch", _TRAIN, "-"),
        (f"val_{name}", "held-out text", _VALIDATION, "o-"),
    ):
        points = [(entry["step"], entry[key]) for entry in entries if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), style, color=colour, label=label, markersize=4)
    axes.set_title(title)
    axes.set_xlabel("updates")
    drawing.plain_numbers(axes.xaxis)
