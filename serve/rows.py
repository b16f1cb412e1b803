"""Texts side by side, and what an engine does with all of them: a text is a row, of a fixed size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.codec import Codec, Tokens
from ..contract.engine import Engine, PromptedEngine, Snapshot
from ..contract.errors import NotFinite
from ..runtime.host_states import HostStates
from ..runtime.mixed import draw_each
from .text import ENDED, Text, score


class Rows:
    """A batch that texts join and leave between two calls of the engine.

    The engine's state is put together when it is asked for: however many texts come and go at a border, all
    rows are copied once.

    Args:
        engine: of the model.
        begin: called when all is ready for the engine, just before it is called.

    Attributes:
        texts: one for each row of the state.
    """

    def __init__(self, engine: Engine, begin: Callable[[], None] = lambda: None) -> None:
        self._engine, self._begin = engine, begin
        self._codec = Codec(engine.card.vocabulary)
        self._beside = engine if isinstance(engine, PromptedEngine) else None
        self._plain = isinstance(engine, HostStates)  # its states are arrays, and need no copy to be read
        self._zeros = engine.snapshot(engine.zero_state(1))
        self.clear()

    @property
    def reads_beside(self) -> bool:
        """Whether the ends of prompts can be read while others are written."""
        return self._beside is not None

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
            self.state = whole if self._plain else self._engine.restore(whole)
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
        self.texts = [*(self.texts[row] for row in stay), *joining]
        self._places = [self._places[row] for row in stay]
        for text in joining:
            self._places.append(self._zeros if text.state is None else text.state)
            text.state = None

    def read(self, steps: int) -> NotFinite | None:
        """All see so many characters of their prompts.

        Returns:
            what ends some of the texts, if anything does; the others have read on.

        Raises:
            P2Error: the engine refuses; nothing has changed.
        """
        tokens = np.stack([text.prompt[text.read : text.read + steps] for text in self.texts])
        wanted = [text.echo and text.scores is not None for text in self.texts]
        state = self.state
        logits, problem = self._feed(state, tokens, any(wanted))
        self.state = state  # which has moved on
        for row, text in enumerate(self.texts):
            if wanted[row] and logits is not None and text.scores is not None:
                text.take_scores(score(self._codec, logits[row], text.following(steps), text.scores))
            text.read += steps
        return problem

    def _feed(
        self, state: Any, tokens: Tokens, logits: bool
    ) -> tuple[npt.NDArray[np.float32] | None, NotFinite | None]:
        self._begin()
        try:
            return self._engine.feed(state, tokens, logits=logits), None
        except NotFinite as error:
            return error.result, error

    def write(self, steps: int) -> tuple[Tokens, NotFinite | None]:
        """So many characters of each: the rest of its prompt, if the engine `reads_beside`, and new ones.

        Returns:
            int64 ``[texts, steps]``, of which the state has not seen the last column; what ends some of the
            texts, if anything does.

        Raises:
            P2Error: the engine refuses; nothing has changed.
        """
        texts = self.texts
        last = np.array([text.newest for text in texts], np.int64)
        draws = [text.draw() for text in texts]
        scored = [row for row, text in enumerate(texts) if text.scores is not None]
        before = self.copy_of(scored) if scored else None

        def ask(state: Any, rows: Sequence[int], steps: int) -> tuple[Tokens, Any]:
            how = [draws[row] for row in rows]
            if self._beside is None:
                return draw_each(self._engine, state, last[rows], how, steps)
            known = [texts[row].following(steps) for row in rows]
            return self._beside.write_each(state, last[rows], known, how, steps), state

        state, problem = self.state, None
        held = dict(state) if self._plain else None  # its arrays are replaced, not changed
        self._begin()
        try:
            tokens, state = ask(state, range(len(texts)), steps)
        except NotFinite as error:
            problem = error
            tokens, state = error.result if self._beside is None else (error.result, state)
            if held is not None:
                problem = self._within(problem, steps, lambda row, own: ask(_row(held, row), [row], own)[0])
        self.state = state
        if scored:
            fed = np.concatenate([last[scored, None], tokens[scored, :-1]], axis=1)
            logits, _ = self._feed(before, fed, True)
            assert logits is not None
            for row, found in zip(scored, logits, strict=True):
                texts[row].take_scores(score(self._codec, found, tokens[row], texts[row].scores or 0))
        return tokens, problem

    def _within(
        self, problem: NotFinite, steps: int, alone: Callable[[int, int], Tokens]
    ) -> NotFinite | None:
        """What comes after the end of a text, in the rest of a chunk, is no fault of it.

        Args:
            problem: of a chunk; its result is put right where there is none.
            steps: of the chunk.
            alone: writes so many tokens of a row, by itself.
        """
        lost = []
        tokens = problem.result[0] if self._beside is None else problem.result
        for row in problem.rows:
            own = self.texts[row].unread + self.texts[row].left
            try:
                if own < steps:
                    tokens[row, :own] = alone(row, own)[0]
                else:
                    lost.append(row)
            except NotFinite:
                lost.append(row)
        return NotFinite(str(problem), lost, problem.result) if lost else None

    def copy_of(self, rows: Sequence[int]) -> Any:
        """A state of some rows, apart from that of the batch."""
        assert self.state is not None
        return self._engine.restore(self._copy(rows))

    def _copy(self, rows: Sequence[int]) -> Snapshot:
        return {name: values[list(rows)] for name, values in self._snapshot().items()}

    def _snapshot(self) -> Snapshot:
        if self._held is None:
            self._held = self._state if self._plain else self._engine.snapshot(self._state)
        return self._held


def _row(state: Snapshot, row: int) -> Snapshot:
    """One text's, apart."""
    return {name: values[row : row + 1].copy() for name, values in state.items()}
