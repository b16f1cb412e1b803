"""Continuous batching: one thread owns an engine, and texts join and leave between two chunks.

What a text says does not depend on the others: its noise is addressed by seed, stream and position
(`contract.noise`). Its state has a fixed size, so that a row is all that it needs.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from ..contract.codec import Codec
from ..contract.engine import Draw, Engine
from ..contract.errors import P2Error
from ..contract.sampling import Sampling
from ..runtime.mixed import draw_each
from .fairness import Turns
from .pace import CHUNK_SECONDS, Pace, chunk
from .rows import Rows
from .settings import Settings
from .text import (
    ENDED,
    IN_BATCH,
    PAUSED,
    PIECE_SECONDS,
    PIECE_SECONDS_EACH,
    WAITING,
    Piece,
    Text,
)

Delivery = list[tuple[Text, Piece]]

# A reader may be so many pieces behind before its text pauses, and so many characters: a fast engine's pieces
# are long. With their probabilities they take some hundred bytes each.
PIECES_BEHIND, BEHIND, BEHIND_SCORED = 8, 65_536, 4_096

# A chunk is a quarter as long where a quarter of its texts wait for a first character.
FIRST_SHARE = 4

# Chunks in which the end of a prompt is read beside the texts that are written. What comes before it is read
# by itself: that is sooner done, and costs more.
BESIDE = 1.75

# Nobody is told to come back later than after so many seconds.
LONGEST_WAIT = 60


class Full(P2Error):
    """There is no room in the queue.

    Attributes:
        seconds: after which there may be some.
    """

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


class Ending(P2Error):
    """The server is about to end, and takes nothing more."""


class Batcher:
    """Writes the texts of everybody who calls one model.

    Args:
        engine: any backend; from the first text on only the batcher's thread uses it.
        settings: limits.
        deliver: is handed what has been written, in the batcher's thread; it must not wait.
        observe: is told, in the batcher's thread, of every chunk: texts, characters of all, seconds.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        deliver: Callable[[Delivery], None],
        observe: Callable[[int, int, float], None] = lambda *_: None,
    ) -> None:
        self.engine = engine
        self.codec = Codec(engine.card.vocabulary)
        self.places = settings.max_streams  # or fewer, where the engine's largest batch is smaller
        self._settings = settings
        self._deliver = deliver
        self._observe = observe
        self._changed = threading.Condition()
        # Under the lock:
        self._waiting: Turns[Text] = Turns()
        self._users: dict[int, str] = {}  # of texts that wait
        self._resumed: deque[Text] = deque()
        self._held = 0  # texts that have not ended
        self._paused: set[Text] = set()
        self._closing = self._closed = False
        self._thread: threading.Thread | None = None
        self._warm = False
        self._rate = 0.0  # characters of all texts in a second
        # Of the thread:
        self._reading, self._writing = Rows(engine, self._hand_out), Rows(engine, self._hand_out)
        self._read_pace, self._pace = Pace(), Pace()
        self._written: Delivery = []  # and not yet handed out

    # Called from other threads.

    def start(self) -> None:
        """Begin before the first text: what is measured once of a model is measured now."""
        with self._changed:
            self._start()

    def submit(self, texts: Sequence[Text], user: str) -> None:
        """Take all of some texts, or none.

        Raises:
            Full: there are too many already.
            Ending: the server is about to end.
        """
        with self._changed:
            if self._closing:
                raise Ending("the server is about to end")
            if self._held + len(texts) > self._settings.max_streams + self._settings.queue:
                raise Full("too many texts are waiting", self._wait())
            self._start()
            for text in texts:
                self._waiting.put(user, text)
                self._users[id(text)] = user
            self._held += len(texts)
            self._changed.notify()

    def cancel(self, texts: Sequence[Text]) -> None:
        """Nobody wants these any more: their rows are free at the next border."""
        with self._changed:
            for text in texts:
                text.cancelled = True
                if text.place == WAITING:
                    self._waiting.drop(self._users[id(text)], text)
                    self._end(text)
                elif text.place == PAUSED:
                    self._end(text)
            self._changed.notify()

    def took(self, text: Text, pieces: int, characters: int) -> None:
        """So much has reached the reader."""
        with self._changed:
            text.pieces_behind -= pieces
            text.behind -= characters
            if text.place == PAUSED and text in self._paused and not _is_behind(text, 0.5):
                self._paused.remove(text)
                self._resumed.append(text)
                self._changed.notify()

    def close(self) -> None:
        """Take no new texts, and end the others at the next border; it waits for that."""
        with self._changed:
            self._closing = self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def refuse(self) -> None:
        """Take no new texts from now on."""
        with self._changed:
            self._closing = True

    @property
    def ready(self) -> bool:
        """Whether a text that comes now would be taken and written at once."""
        return self._warm and self.alive and not self._closing

    @property
    def alive(self) -> bool:
        """Whether the thread could go on."""
        return not self._closed and (self._thread is None or self._thread.is_alive())

    def counts(self) -> dict[str, int]:
        """Texts that are ``waiting``, ``running`` and ``paused``."""
        with self._changed:
            waiting, paused = len(self._waiting), len(self._paused) + len(self._resumed)
            return {"waiting": waiting, "paused": paused, "running": self._held - waiting - paused}

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="p2 batcher", daemon=True)
            self._thread.start()

    def _wait(self) -> int:
        """Seconds after which somebody may try again: when half of what is here may be written."""
        characters = sum(text.left for text in [*self._reading.texts, *self._writing.texts])
        seconds = characters / self._rate / 2 if self._rate else 1
        return max(1, min(LONGEST_WAIT, math.ceil(seconds)))

    # In the thread.

    def _run(self) -> None:
        try:
            self._warm_up()
            while self._wait_for_work():
                self._read()
                self._write()
                if not self._writing:
                    self._hand_out()
        finally:
            with self._changed:
                self._closing = self._closed = True
                rest = [*self._reading.texts, *self._writing.texts, *self._paused, *self._resumed]
                while len(self._waiting):
                    rest.append(self._waiting.take())
                for text in rest:
                    self._end(text)
            lost = Piece("", end="error", error=Ending("the server has ended before the text was finished"))
            self._written += [(text, lost) for text in rest if not text.cancelled]
            self._hand_out()

    def _warm_up(self) -> None:
        """Engines measure how they run a batch when they first meet one of about its size.

        What is too large for one, as for a plan, is not asked of it again.
        """
        sizes = [1 << bits for bits in range(self.places.bit_length()) if 1 << bits < self.places]
        for size in [*sizes, self.places]:
            if self._closed:
                return
            draws = [Draw(0, row, 0, Sampling()) for row in range(size)]
            try:
                draw_each(self.engine, self.engine.zero_state(size), np.zeros(size, np.int64), draws, 1)
            except P2Error:
                if size == 1:
                    raise
                break
            fitting = size
        self.places = fitting
        self._warm = True

    def _wait_for_work(self) -> bool:
        """Let texts leave that nobody wants, and others take their places; False if it is to end."""
        with self._changed:
            while not self._closed:
                gone = [t for rows in (self._reading, self._writing) for t in rows.texts if t.cancelled]
                free = self.places - len(self._reading) - len(self._writing) + len(gone)
                if self._reading or self._writing or (free and (self._waiting or self._resumed)):
                    break
                self._changed.wait()
            if self._closed:
                return False
            for text in gone:
                self._end(text)
            back, fresh = [], []
            while free and self._resumed:
                text = self._resumed.popleft()
                if not text.cancelled:
                    text.place = IN_BATCH
                    back.append(text)
                    free -= 1
            while free and self._waiting:
                text = self._waiting.take()
                del self._users[id(text)]
                text.place = IN_BATCH
                fresh.append(text)
                free -= 1
        # Who is cancelled from here on leaves at the next border: only those in `gone` have been ended.
        beside = self._beside()
        reading = [text for text in fresh if text.unread > text.most_unread(beside)]
        self._reading.change([t for t in gone if t in self._reading.texts], reading)
        self._writing.change([t for t in gone if t in self._writing.texts], back)
        self._begin([text for text in fresh if text not in reading])
        return True

    def _beside(self) -> int:
        """Characters of a prompt that can be read beside the texts that are written."""
        return int(BESIDE * self._pace.steps(len(self._writing) + 1)) if self._writing.reads_beside else 0

    def _begin(self, texts: Sequence[Text]) -> None:
        """Texts whose prompts have been read, or nearly, are written from now on."""
        pieces = [(text, piece) for text in texts if not text.unread and (piece := text.begin(self.codec))]
        ended = self._publish(pieces)
        self._writing.change([], [text for text in texts if text not in ended])

    def _read(self) -> None:
        """Read prompts for about as long as a chunk takes."""
        rows, until = self._reading, time.perf_counter() + CHUNK_SECONDS
        while rows and time.perf_counter() < until:
            beside = self._beside()
            least = min(text.unread - text.most_unread(beside) for text in rows.texts)
            steps = max(1, min(least, self._read_pace.steps(len(rows))))
            started = time.perf_counter()
            try:
                problem = rows.read(steps)
            except P2Error as error:
                self._fail(rows, rows.texts, error)
                return
            if problem is not None:
                self._fail(rows, [rows.texts[row] for row in problem.rows], problem)
            self._read_pace.took(len(rows), steps, time.perf_counter() - started)
            done = [text for text in rows.texts if text.unread <= text.most_unread(beside)]
            if done:
                rows.change(done)
                self._begin(done)

    def _write(self) -> None:
        """Write one chunk."""
        rows = self._writing
        if not rows:
            return
        texts = rows.texts
        most = self._pace.steps(len(rows))
        if FIRST_SHARE * sum(not text.sent for text in texts) >= len(texts):
            most = max(1, most // FIRST_SHARE)
        steps = chunk([text.unread + text.left for text in texts], most)
        written = sum(text.written for text in texts)
        started = time.perf_counter()
        try:
            tokens, problem = rows.write(steps)
        except P2Error as error:
            self._fail(rows, rows.texts, error)
            return
        now = time.perf_counter()
        seconds = now - started
        self._pace.took(len(rows), steps, seconds)
        characters = self.codec.decode(tokens.ravel())
        apart = max(PIECE_SECONDS, PIECE_SECONDS_EACH * len(texts))
        lost = () if problem is None else problem.rows
        pieces = []
        for row, text in enumerate(texts):
            own = characters[row * steps : (row + 1) * steps]
            new = text.advance(tokens[row], own, self.codec, now, apart)
            if row in lost:
                new = [Piece("", end="error", error=problem)]
            pieces += [(text, piece) for piece in new]
        written = sum(text.written for text in texts) - written
        self._rate = written / seconds if not self._rate else (self._rate + written / seconds) / 2
        self._observe(len(rows), written, seconds)
        ended = self._publish(pieces)
        with self._changed:
            going = [text for text in texts if text not in ended and not text.cancelled]
            slow = [text for text in going if _is_behind(text)]
            for text in slow:
                text.place = PAUSED
                self._paused.add(text)
        rows.change([*ended, *slow])

    def _publish(self, pieces: Delivery) -> set[Text]:
        """What can be shown is handed out soon; returns the texts that have ended."""
        shown = [(text, piece) for text, piece in pieces if piece.shown or piece.end]
        ended = {text for text, piece in shown if piece.end}
        with self._changed:
            for text, piece in shown:
                text.sent = True
                text.pieces_behind += 1
                text.behind += len(piece.shown)
            for text in ended:
                self._end(text)
        self._written += shown
        return ended

    def _hand_out(self) -> None:
        """Just before the engine goes on: an event loop that wakes sooner is in the way of the border."""
        pieces, self._written = self._written, []
        if pieces:
            self._deliver(pieces)

    def _fail(self, rows: Rows, texts: Sequence[Text], error: P2Error) -> None:
        """That is the end of these texts, and of no others."""
        self._publish([(text, Piece("", end="error", error=error)) for text in texts])
        rows.change(texts)

    def _end(self, text: Text) -> None:
        """Under the lock: a text no longer counts."""
        if text.place != ENDED:
            text.place = ENDED
            self._paused.discard(text)
            self._users.pop(id(text), None)
            self._held -= 1


def _is_behind(text: Text, share: float = 1.0) -> bool:
    """Whether its reader is further behind than this share of what it may be."""
    most = BEHIND if text.scores is None else BEHIND_SCORED
    return text.pieces_behind > share * PIECES_BEHIND or text.behind > share * most
