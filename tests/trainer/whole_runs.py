"""What tests of whole runs have in common: what was said meanwhile, and what was saved last."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from p2.trainer import checkpoint
from p2.trainer.display import Silent
from p2.trainer.metrics import Report


class Notes(Silent):
    """Remembers what was said, and acts at one update."""

    def __init__(self, at: int = 0, act: Callable[[], object] = lambda: None) -> None:
        self.notes: list[str] = []
        self._at = at
        self._act = act

    def note(self, text: str) -> None:
        self.notes.append(text)

    def update(self, report: Report) -> None:
        if report.step == self._at:
            self._act()


def last(folder: Path) -> tuple[checkpoint.Checkpoint, checkpoint.Tensors]:
    found = checkpoint.load(folder / "last")
    return found, checkpoint.load_training_state(found)
