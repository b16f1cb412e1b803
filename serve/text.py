"""One text of a request: what is asked for, and what has been written of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from ..contract.agreement import log_softmax
from ..contract.codec import Codec, Tokens
from ..contract.engine import Draw, Snapshot
from ..contract.errors import P2Error
from ..contract.noise import first_tokens
from ..contract.sampling import Sampling
from ..runtime.generate import Cutter

if TYPE_CHECKING:
    from .inbox import Inbox

# A piece of a text costs the same however long it is, so there are not more of them than are of use, and with
# many texts fewer: a millisecond between two of all texts' leaves nine tenths of a processor to the engine.
PIECE_SECONDS, PIECE_SECONDS_EACH = 0.04, 0.001

# Where a text is.
WAITING, IN_BATCH, PAUSED, ENDED = range(4)


class Scored(NamedTuple):
    """A character, the natural logarithm of its probability, and those of the most probable ones.

    Of the first character of a prompt nothing is known: None.
    """

    character: str
    logprob: float | None
    tops: dict[str, float] | None


class Piece(NamedTuple):
    """What is new of a text.

    Attributes:
        shown: characters.
        scores: of each of them, where the request asks for it.
        end: ``stop``, ``length`` or ``error`` with the last piece, else empty.
        error: why it ended so.
    """

    shown: str
    scores: Sequence[Scored] = ()
    end: str = ""
    error: P2Error | None = None


@dataclass(eq=False)
class Text:
    """A text in a batcher. Only the batcher's thread changes what stands below `inbox`.

    Attributes:
        prompt: int64 ``[length]``; empty starts from a random character.
        length: characters to write.
        seed, stream, sampling: how they are chosen, as `contract.engine.Draw`.
        stop: it ends before the first of these.
        scores: None, or how many of the most probable characters are wanted beside each written one.
        echo: whether the prompt is part of the text.
        index: which choice of its request it is.
        inbox: where the pieces go.
        place: WAITING, IN_BATCH, PAUSED or ENDED.
        cancelled: nobody wants it any more.
        sent: something of it went to the inbox.
        pieces_behind, behind: pieces, and characters, that went there and have not reached the reader.
        read: characters of the prompt that the state has seen.
        written: characters so far, those after a stop string included.
        last: the newest character, not yet fed.
        handed: when a piece of it was handed out last.
        state: its row, while it is in no batch.
    """

    prompt: Tokens
    length: int
    seed: int
    stream: int
    sampling: Sampling
    stop: tuple[str, ...]
    scores: int | None
    echo: bool
    index: int
    inbox: Inbox
    place: int = WAITING
    cancelled: bool = False
    sent: bool = False
    pieces_behind: int = 0
    behind: int = 0
    read: int = 0
    written: int = 0
    last: int = 0
    state: Snapshot | None = None
    handed: float = 0.0
    _pending: list[Scored] = field(default_factory=list)
    _held: str = ""

    def __post_init__(self) -> None:
        self._cutter = Cutter(self.stop)

    @property
    def unread(self) -> int:
        """Characters of the prompt that are to be read before the first can be written."""
        return max(0, len(self.prompt) - 1 - self.read)

    @property
    def left(self) -> int:
        """Characters that are still to be written."""
        return self.length - self.written

    def most_unread(self, beside: int) -> int:
        """With so much of the prompt, or less, it can be written, if an engine reads `beside` characters so.

        Where probabilities are wanted the whole prompt is read before.
        """
        return beside if self.scores is None else 0

    @property
    def newest(self) -> int:
        """The character that the state is to see next."""
        return int(self.prompt[self.read]) if self.unread else self.last

    def following(self, count: int) -> Tokens:
        """At most so many characters of the prompt that come after the newest."""
        return self.prompt[self.read + 1 : self.read + 1 + count]

    def draw(self) -> Draw:
        """How its next characters are chosen."""
        return Draw(self.seed, self.stream, self.written, self.sampling)

    def begin(self, codec: Codec) -> Piece | None:
        """The prompt has been read: what can be shown before anything is decoded, or None."""
        shown, scores, vocab = "", self._pending, len(codec.vocabulary)
        self._pending = []
        if self.echo:
            shown = codec.decode(self.prompt)
            if self.scores is not None and shown:
                scores = [Scored(shown[0], None, None), *scores]
        if len(self.prompt):
            self.last = int(self.prompt[-1])
        elif self.length:
            first = first_tokens(self.seed, [self.stream], vocab)
            self.last, self.written = int(first[0]), 1
            if self.scores is not None:
                self._pending = score(codec, np.zeros((1, vocab), np.float32), first, self.scores)
            piece = self._show(codec.decode(first))
            return Piece(shown + piece.shown, [*scores, *piece.scores], piece.end)
        end = "" if self.left else "length"
        return Piece(shown, scores, end) if shown or end else None

    def advance(self, tokens: Tokens, characters: str, codec: Codec, now: float, apart: float) -> list[Piece]:
        """What can be shown now that the state has seen the newest character and all of these but the last.

        Args:
            tokens: the rest of the prompt, or so much of it as there is room for, and what was written.
            characters: the same.
            codec: of the model.
            now, apart: as for `push`.
        """
        known = min(self.unread, len(tokens))
        pieces = []
        if known:
            self.read += known
            if self.unread:
                return []
            if piece := self.begin(codec):
                pieces.append(piece)
        if known < len(tokens) and self.left:
            self.last = int(tokens[-1])
            if piece := self.push(characters[known:], now, apart):
                pieces.append(piece)
        return pieces

    def take_scores(self, scores: list[Scored]) -> None:
        """Of characters that have been read or are about to be shown."""
        self._pending += scores

    def push(self, characters: str, now: float, apart: float = PIECE_SECONDS) -> Piece | None:
        """What can be shown now that these have been written; those beyond the length are left out.

        None keeps it for the next time: a piece that comes less than `apart` seconds after another costs more
        than a reader has of it.
        """
        characters = characters[: self.left]
        self.written += len(characters)
        self._held += characters
        if self.left and self.sent and now - self.handed < apart and not self.stop:
            return None
        characters, self._held = self._held, ""
        piece = self._show(characters)
        if piece.shown or piece.end:
            self.handed = now
            return piece
        return None

    def _show(self, characters: str) -> Piece:
        shown = self._cutter.push(characters)
        end = "stop" if self._cutter.stopped else "" if self.left else "length"
        if end == "length":
            shown += self._cutter.finish()
        scores, self._pending = self._pending[: len(shown)], self._pending[len(shown) :]
        return Piece(shown, scores, end)


def score(codec: Codec, logits: npt.NDArray[np.float32], tokens: Tokens, tops: int) -> list[Scored]:
    """How probable characters were.

    Args:
        codec: of the model.
        logits: before each character, float32 ``[length, vocab]``.
        tokens: the characters, int64 ``[length]``.
        tops: how many of the most probable ones are wanted beside each.
    """
    known = log_softmax(logits)
    found = []
    for row, token in zip(known, tokens.tolist(), strict=True):
        best = np.argsort(-row, kind="stable")[:tops].tolist()
        listed = {codec.vocabulary[index]: float(row[index]) for index in best}
        found.append(Scored(codec.vocabulary[token], float(row[token]), listed))
    return found
