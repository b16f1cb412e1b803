"""Tokens out of an engine: keeps track of what has been written and which noise comes next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.arguments import check_last, check_snapshot, whole_number
from ..contract.codec import Tokens
from ..contract.engine import DrawingEngine, Engine, Snapshot, State, predictions
from ..contract.errors import NotFinite, UsageError
from ..contract.noise import Address, Noise, NoiseSource
from ..contract.sampling import Sampling, scale_noise

# Noise for at most this many numbers at a time, so that memory does not grow with the length.
NOISE_NUMBERS = 1 << 20
_LAUNCH = 64  # characters that a GPU's loop writes in one launch; what is left over it writes one by one

MAX_POSITION = (1 << 64) - 1  # of a character in its text, as the noise is addressed


def noise_steps(batch: int, vocab: int) -> int:
    """Characters of every stream whose noise is made at a time: whole launches, where it can be."""
    steps = max(1, NOISE_NUMBERS // (batch * vocab))
    return steps - steps % _LAUNCH if steps > _LAUNCH else steps


class Decoder:
    """A batch of texts being written.

    Every stream draws its noise by (seed, stream, position), so what it writes depends neither on
    its neighbours in the batch nor on how the writing is cut into calls.

    Where a model computes NaN for some texts, reading and writing raise `NotFinite` when they are done: the
    others have been advanced, and what was written of them is in its `result`.

    Args:
        engine: any backend.
        sampling: how characters are chosen.
        seed: key of the noise.
        streams: the stream number of each row; ``range(batch)`` by default gives one.
    """

    def __init__(
        self, engine: Engine, sampling: Sampling, seed: int = 0, streams: Sequence[int] = (0,)
    ) -> None:
        self.engine = engine
        self.sampling = sampling
        self.seed = seed
        self.streams = tuple(streams)
        self.position = 0
        self._state = engine.zero_state(len(self.streams))
        self._last: Tokens | None = None
        self._source: NoiseSource | None = None
        self._drawing = engine if isinstance(engine, DrawingEngine) else None
        self._lost: set[int] = set()  # rows that have no more characters
        self._problem = ""

    def begin(self, texts: Sequence[Tokens]) -> None:
        """Read a text of its own for every stream, before anything else.

        Args:
            texts: one for each stream, int64 ``[length]``, of any lengths >= 1.
        """
        self._last = np.array([text[-1] for text in texts], np.int64)
        try:
            self._state = read_texts(self.engine, [text[:-1] for text in texts])
        except NotFinite as error:
            self._state = error.result
            self._lose(error)
            raise

    def prompt(self, tokens: Tokens) -> None:
        """Read known text, int64 ``[batch, length]``, length >= 1, before writing."""
        if self._last is not None:
            tokens = np.concatenate([self._last[:, None], tokens], axis=1)
        self._last = np.ascontiguousarray(tokens[:, -1])
        try:
            self.engine.feed(self._state, tokens[:, :-1])
        except NotFinite as error:
            self._lose(error)
            raise

    def write(self, count: int) -> Tokens:
        """The next `count` characters of every stream, int64 ``[batch, count]``.

        With no prompt the first character is drawn uniformly from the vocabulary.

        Raises:
            NotFinite: some streams have no more characters; `result` is the characters of all.
        """
        pieces = []
        if self._last is None and count > 0:
            self._last = self._here().first_tokens()
            pieces.append(self._last[:, None])
            self.position += 1
            count -= 1
        limit = noise_steps(len(self.streams), self.engine.card.vocab)
        while count > 0 and len(self._lost) < len(self.streams):
            assert self._last is not None
            now = min(count, limit)
            try:
                tokens = self._write(self._last, now)
            except NotFinite as error:
                self._lose(error)
                if len(self._lost) == len(self.streams):
                    break
                tokens = error.result
                tokens[[*self._lost]] = 0
            self._last = np.ascontiguousarray(tokens[:, -1])
            self.position += now
            count -= now
            pieces.append(tokens)
        written = np.concatenate(pieces, axis=1) if pieces else np.zeros((len(self.streams), 0), np.int64)
        if self._lost:
            raise NotFinite(self._problem, sorted(self._lost), written)
        return written

    def predict(self) -> npt.NDArray[np.float32]:
        """Logits of the next character of every stream, float32 ``[batch, vocab]``; nothing is advanced.

        Raises:
            UsageError: nothing has been read or written yet.
        """
        if self._last is None:
            raise UsageError("there is nothing to predict from yet: read or write something first")
        state = self.engine.restore(self.engine.snapshot(self._state))
        return predictions(self.engine, self._last[:, None], state)[:, 0]

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order."""
        index = np.asarray(rows, np.int64)
        state = {name: values[index] for name, values in self.engine.snapshot(self._state).items()}
        self._lost = {place for place, row in enumerate(rows) if row in self._lost}
        self._state = self.engine.restore(_without(state, self._lost))
        self._last = None if self._last is None else self._last[index]
        self.streams = tuple(self.streams[row] for row in rows)
        self._source = None

    def snapshot(self) -> dict[str, Any]:
        """Everything needed to go on from here, on this or another backend."""
        return {
            "state": self.engine.snapshot(self._state),
            "last": None if self._last is None else self._last.copy(),
            "position": self.position,
        }

    def restore(self, snapshot: dict[str, Any]) -> None:
        """Go on from a snapshot.

        Args:
            snapshot: what `snapshot` gave, of this model with as many streams; on any backend.

        Raises:
            P2Error: it is something else; nothing has changed then.
        """
        if not isinstance(snapshot, dict) or snapshot.keys() != {"state", "last", "position"}:
            raise UsageError("a snapshot has the keys state, last and position: give what snapshot() gave")
        card, last = self.engine.card, snapshot["last"]
        if last is not None:
            last = check_last(card, last, len(self.streams)).copy()
        position = whole_number(snapshot["position"], "position", 0, MAX_POSITION)
        batch = check_snapshot(card, snapshot["state"])
        if batch != len(self.streams):
            raise UsageError(f"a snapshot of {batch} texts cannot go on as {len(self.streams)}")
        self._state = self.engine.restore(snapshot["state"])
        self._last, self.position = last, position

    def _lose(self, error: NotFinite) -> None:
        self._lost |= {*error.rows}
        self._problem = str(error)

    def _write(self, last: Tokens, count: int) -> Tokens:
        if self._drawing is None:
            return self.engine.decode(self._state, last, self._noise(count), self.sampling)
        address = Address(self.seed, self.streams, self.position)
        return self._drawing.draw(self._state, last, address, count, self.sampling)

    def _noise(self, count: int) -> Noise:
        if self.sampling.greedy:
            return np.zeros((count, len(self.streams), self.engine.card.vocab), np.float32)
        return scale_noise(self._here().gumbel(count), self.sampling)

    def _here(self) -> NoiseSource:
        """The noise from this position on."""
        if self._source is None or self._source.position != self.position:
            self._source = NoiseSource(self.seed, self.streams, self.engine.card.vocab, self.position)
        return self._source


def read_texts(engine: Engine, texts: Sequence[Tokens]) -> State:
    """The state that each text leaves behind, one row for each.

    An engine reads rectangles. So all rows advance together to the end of the shortest text, those
    that end there stay behind, and the others go on; a text that occurs several times is read once.

    Args:
        engine: any backend.
        texts: at least one, each int64 ``[length]``, length >= 0.

    Raises:
        NotFinite: some of them lead nowhere; `result` is the state of all.
    """
    place: dict[bytes, int] = {}
    index = [place.setdefault(text.tobytes(), len(place)) for text in texts]
    distinct = [np.frombuffer(text, np.int64) for text in place]
    lengths = np.array([len(text) for text in distinct])
    state, rows, read = engine.zero_state(len(distinct)), np.arange(len(distinct)), 0
    ends = engine.snapshot(state)
    lost: set[int] = set()
    problem = ""
    for length in np.unique(lengths):
        try:
            engine.feed(state, np.stack([distinct[row][read:length] for row in rows]))
        except NotFinite as error:
            lost, problem = lost | {int(rows[row]) for row in error.rows}, str(error)
        there = {at for at, row in enumerate(rows) if row in lost}
        read, reached = length, _without(engine.snapshot(state), there)
        ending = lengths[rows] == length
        for name, values in reached.items():
            ends[name][rows[ending]] = values[ending]
        rows = rows[~ending]
        if len(rows):
            state = engine.restore({name: values[~ending] for name, values in reached.items()})
    whole = engine.restore({name: values[index] for name, values in ends.items()})
    if lost:
        raise NotFinite(problem, [at for at, text in enumerate(index) if text in lost], whole)
    return whole


def _without(snapshot: Snapshot, lost: Iterable[int]) -> Snapshot:
    """With zeros for the rows that are lost: no state is made of anything else than numbers."""
    for values in snapshot.values():
        values[[*lost]] = 0
    return snapshot
