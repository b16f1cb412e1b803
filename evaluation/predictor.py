"""An engine that predicts a text piece by piece, in constant memory."""

from __future__ import annotations

import numpy as np

from ..contract.codec import Tokens
from ..contract.engine import Engine, State, largest_batch, predictions
from ..contract.errors import P2Error
from .scores import class_groups, judge, position_groups, tallies

_LOGITS = 1 << 20  # numbers that are looked at together
_SIDE_BY_SIDE = 64  # windows, and what plans are built for
_WAITING = 1 << 18  # characters of windows that wait for others beside them


class Predictor:
    """Predicts a text from a zero state, once or anew for each window, and adds up how well that went.

    Every character but the first is predicted once: windows of N characters follow one another, and a window
    predicts the N that come after its own.

    Args:
        engine: any backend.
        name: of the engine, for the error message.
        window: characters read before the state is zero again; None is never.

    Attributes:
        by_position: by the characters read since the zero state (`scores.position_groups`).
        by_class: by the class of the character (`scores.CLASSES`).
    """

    def __init__(self, engine: Engine, name: str, window: int | None = None) -> None:
        self._engine, self._name, self._window = engine, name, window
        self._steps = max(1, _LOGITS // engine.card.vocab)
        beside = 1 if window is None else max(1, min(_SIDE_BY_SIDE, _WAITING // window))
        self._rows = largest_batch(engine, beside)
        self._classes = class_groups(engine.card.vocabulary)
        self._held = np.zeros(0, np.int64)
        self._state: State = None
        self._position = 0  # characters read since the zero state
        self._done = 0
        self.by_position, self.by_class = tallies()

    def take(self, tokens: Tokens) -> None:
        """Take the next characters, int64 ``[length]``.

        Raises:
            P2Error: the engine predicts no numbers.
        """
        self._held = np.concatenate([self._held, tokens])
        whole = self._rows * self._window if self._rows > 1 and self._window else self._steps
        while len(self._held) > whole:
            self._go_on()

    def finish(self) -> None:
        """Predict what was held back, for the text has ended.

        Raises:
            P2Error: as `take`.
        """
        while len(self._held) > 1:
            self._go_on()

    def _go_on(self) -> None:
        """Predict as much of what is held as goes together."""
        left = len(self._held) - 1
        if self._window is None:
            return self._predict(1, min(left, self._steps))
        if self._rows > 1 and not self._position and left >= self._window:
            windows = left // self._window
            rows = self._rows if windows >= self._rows else largest_batch(self._engine, windows)
            return self._predict(rows, self._window)
        return self._predict(1, min(left, self._steps, self._window - self._position))

    def _predict(self, rows: int, length: int) -> None:
        """Predict what comes after each of ``rows * length`` characters."""
        tokens = self._held[: rows * length + 1]
        inputs, targets = tokens[:-1].reshape(rows, length), tokens[1:].reshape(rows, length)
        if not self._position:
            self._state = self._engine.zero_state(rows)
        steps = max(1, self._steps // rows)
        for start in range(0, length, steps):
            read = np.ascontiguousarray(inputs[:, start : start + steps])
            logits = predictions(self._engine, read, self._state)
            finite = np.isfinite(logits).all(axis=-1)
            if not finite.all():
                row, column = np.unravel_index(int(finite.argmin()), finite.shape)
                raise P2Error(
                    f"{self._name} predicts NaN or infinity after"
                    f" {self._done + int(row) * length + start + int(column) + 1:,} characters of the text"
                )
            came = targets[:, start : start + steps].reshape(-1)
            nats, ranks = judge(logits.reshape(len(came), -1), came)
            positions = position_groups(self._position + start + 1, read.shape[1])
            self.by_position.add(np.tile(positions, rows), nats, ranks)
            self.by_class.add(self._classes[came], nats, ranks)
        self._held = self._held[rows * length :]
        self._done += rows * length
        self._position += length
        if self._position == self._window:
            self._position = 0
