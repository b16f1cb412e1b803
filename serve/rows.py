"""Texts side by side, and the state that an engine has of them: a text is a row, of a fixed size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..contract.engine import Engine, Snapshot
from .text import ENDED, Text


class Rows:
    """A batch that texts join and leave between two calls of the engine.

    The engine's state is put together when it is asked for: however many texts come and go at a border, all
    rows are copied once.

    Attributes:
        texts: one for each row of the state.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.clear()

    def __len__(self) -> int:
        return len(self.texts)

    def clear(self) -> None:
        """Nobody is here any more."""
        self.texts: list[Text] = []
        self.state = None

    @property
    def state(self) -> Any:
        """The engine's, of the texts that are here; None while there are none."""
        if not self.texts:
            self.state = None
        elif self._places != list(range(self._rows)):
            rows = [place for place in self._places if isinstance(place, int)]
            # Texts join behind those that stay, so this is their order.
            parts = [place for place in self._places if not isinstance(place, int)]
            if rows:
                parts.insert(0, self._copy(rows))
            whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            self.state = self._engine.restore(whole)
        return self._state

    @state.setter
    def state(self, state: Any) -> None:
        self._state, self._rows = state, len(self.texts)
        self._held: Snapshot | None = None  # of the state, once it has been needed
        self._places: list[int | Snapshot] = [*range(self._rows)]  # a row of the state, or a state of its own

    def change(self, leaving: Sequence[Text] = (), joining: Sequence[Text] = ()) -> None:
        """Texts leave, each with its row, and others join with theirs (`Text.state`; None is zeros)."""
        gone = set(map(id, leaving))
        stay = []
        for row, (text, place) in enumerate(zip(self.texts, self._places, strict=True)):
            if id(text) not in gone:
                stay.append(row)
            elif text.place != ENDED:
                text.state = self._copy([place]) if isinstance(place, int) else place
        fresh = any(text.state is None for text in joining)
        zeros = self._engine.snapshot(self._engine.zero_state(1)) if fresh else {}
        self.texts = [*(self.texts[row] for row in stay), *joining]
        self._places = [self._places[row] for row in stay]
        for text in joining:
            self._places.append(zeros if text.state is None else text.state)
            text.state = None

    def copy_of(self, rows: Sequence[int]) -> Any:
        """A state of some rows, apart from that of the batch."""
        assert self.state is not None
        return self._engine.restore(self._copy(rows))

    def _copy(self, rows: Sequence[int]) -> Snapshot:
        return {name: values[list(rows)] for name, values in self._snapshot().items()}

    def _snapshot(self) -> Snapshot:
        if self._held is None:
            self._held = self._engine.snapshot(self._state)
        return self._held
