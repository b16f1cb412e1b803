"""Texts side by side, and the state that an engine has of them: a text is a row, of a fixed size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contract.engine import Engine, Snapshot
from .text import Text


class Rows:
    """A batch that texts join and leave between two calls of the engine.

    Attributes:
        texts: one for each row of the state.
        state: the engine's; None while there are no texts.
    """

    def __init__(self, engine: Engine) -> None:
        self.texts: list[Text] = []
        self.state: Any = None
        self._engine = engine

    def __len__(self) -> int:
        return len(self.texts)

    def change(self, leaving: Sequence[Text] = (), joining: Sequence[Text] = ()) -> None:
        """Texts leave, each with its row, and others join with theirs (`Text.state`; None is zeros)."""
        if not leaving and not joining:
            return
        gone = set(map(id, leaving))
        staying = [row for row, text in enumerate(self.texts) if id(text) not in gone]
        parts: list[Snapshot] = []
        if self.texts and (staying or leaving):
            state = self._engine.snapshot(self.state)
            for row, text in enumerate(self.texts):
                if id(text) in gone and not text.cancelled:
                    text.state = {name: values[row : row + 1].copy() for name, values in state.items()}
            if staying:
                parts.append({name: values[staying] for name, values in state.items()})
        fresh = sum(text.state is None for text in joining)
        zeros = self._engine.snapshot(self._engine.zero_state(1)) if fresh else {}
        for text in joining:
            parts.append(zeros if text.state is None else text.state)
            text.state = None
        self.texts = [self.texts[row] for row in staying] + list(joining)
        self.state = None
        if parts:
            names = parts[0]
            self.state = self._engine.restore({n: np.concatenate([part[n] for part in parts]) for n in names})

    def copy_of(self, rows: Sequence[int]) -> Any:
        """A state of some rows, apart from that of the batch."""
        state = self._engine.snapshot(self.state)
        return self._engine.restore({name: values[list(rows)] for name, values in state.items()})
