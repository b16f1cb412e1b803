"""One text read by several engines at once: a text that comes once is read once."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..contract.arguments import MAX_POSITION, whole_number
from ..contract.codec import Codec, Tokens, UnknownCharacter
from ..contract.engine import Engine
from ..contract.errors import P2Error, UsageError
from ..render.progress import Progress
from ..runtime.locate import locate
from ..runtime.opening import kind_for, open_engine
from ..trainer.corpus import describe_sources
from ..trainer.encodings import ENCODING_ERRORS
from ..trainer.reader import Reader
from ..version import __version__
from .predictor import Predictor
from .scores import CLASSES, Score, positions_of


@dataclass(frozen=True)
class Evaluated:
    """How well one engine predicts the text.

    Attributes:
        engine: its name.
        path: the file or folder.
        precision: number format of its weights.
        score: over all characters but the first.
        difference: its bits per character less those of the first engine; None for that one.
        by_position: by the number of characters read since the zero state, the first and the last of a group.
        by_class: by the class of the character that was predicted.
    """

    engine: str
    path: str
    precision: str
    score: Score
    difference: float | None
    by_position: dict[tuple[int, int], Score]
    by_class: dict[str, Score]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        head = {"engine": self.engine, "path": self.path, "precision": self.precision}
        parts = {
            "by_position": [
                {"first": first, "last": last, **score.to_dict()}
                for (first, last), score in self.by_position.items()
            ],
            "by_class": {name: score.to_dict() for name, score in self.by_class.items()},
        }
        return head | self.score.to_dict() | {"difference": self.difference} | parts


@dataclass(frozen=True)
class Evaluation:
    """What engines were found to make of a text.

    Attributes:
        sources: the files of the text, ``-`` for standard input.
        sha256: of the text in UTF-8.
        characters: of the text, without those that were skipped.
        skipped: characters that one of the models does not know.
        window: characters read before the state is zero again; None is never.
        notes: what else a person should know, a sentence each.
        engines: in the order given.
    """

    sources: list[str]
    sha256: str
    characters: int
    skipped: int
    window: int | None
    notes: list[str]
    engines: list[Evaluated]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"p2": __version__, **vars(self)} | {"engines": [engine.to_dict() for engine in self.engines]}


def run_evaluation(
    names: Sequence[str],
    text: str,
    *,
    window: int | None,
    on_unknown: str,
    encoding: str | None,
    encoding_errors: str,
    column: str | None,
    backend: str | None,
    threads: int | None,
    progress: Progress,
) -> Evaluation:
    """Let engines predict a text.

    Args:
        names: at least one engine, as `runtime.locate` finds them; the others are compared with the first.
        text: a file, folder or pattern, or ``-`` for standard input.
        window: characters read before the state is zero again, >= 1; None is never.
        on_unknown: ``error`` or ``skip`` characters that one of the models does not know.
        encoding: of the text; None is UTF-8.
        encoding_errors: what becomes of bytes that cannot be read (`trainer.encodings.ENCODING_ERRORS`).
        column: of the tables that the text is, see `trainer.reader.Reader`.
        backend: what runs the engines of its kind; the others run as they usually do.
        threads: processor threads.
        progress: shows what is being done.

    Raises:
        UsageError: a value cannot be meant.
        UnknownCharacter: names the first character of the text that a model does not know.
        P2Error: an engine cannot be opened or predicts no numbers, or the text cannot be read or is shorter
            than two characters.
    """
    if not names:
        raise UsageError("name at least one engine")
    if window is not None:
        whole_number(window, "window", 1, MAX_POSITION)
    for what, value, known in (
        ("on-unknown", on_unknown, ("error", "skip")),
        ("encoding-errors", encoding_errors, tuple(ENCODING_ERRORS)),
    ):
        if value not in known:
            raise UsageError(f"{what} takes {', '.join(known[:-1])} or {known[-1]}, not {value!r}")
    reader = Reader([text], encoding, encoding_errors, column)
    shown = describe_sources(reader.sources)
    with contextlib.ExitStack() as stack:
        engines = _opened(names, backend, threads, stack)
        total = None
        if reader.size() is not None:  # it can be read again: looked through before any work is spent on it
            progress.phase(f"looking through {shown}")
            tokens = Tokenizer(engines, on_unknown)
            for _ in tokens.of(Reader([text], encoding, encoding_errors, column)):
                pass
            total = tokens.characters
        progress.phase(f"predicting {shown}", total)
        tokens = Tokenizer(engines, on_unknown)
        predictors = [Predictor(engine, path, window) for path, engine in engines]
        for each in tokens.of(reader):
            for predictor, own in zip(predictors, each, strict=True):
                predictor.take(own)
            progress.done(len(each[0]))
        if tokens.characters < 2:
            count = f"{tokens.characters} character{'s' * (tokens.characters != 1)}"
            raise P2Error(f"{shown} is too short: it has {count} that a model knows, and 2 are the least")
        for predictor in predictors:
            predictor.finish()
        notes = list(reader.notes)
        if tokens.skipped:
            notes.append(f"skipped {tokens.skipped:,} characters of {shown} that a model does not know")
        sha256 = tokens.sha256.hexdigest()
        notes += [f"{path} was trained on this text" for path, e in engines if e.card.corpus_sha256 == sha256]
        found = _found(engines, predictors)
    return Evaluation(list(reader.sources), sha256, tokens.characters, tokens.skipped, window, notes, found)


class Tokenizer:
    """The tokens of a text for several engines, whose vocabularies may differ.

    Args:
        engines: with their names.
        on_unknown: ``error`` or ``skip``: a character that one does not know is left out for all.

    Attributes:
        characters: so far, without those that were skipped.
        skipped: so far.
        sha256: of the text so far in UTF-8, with those.

    Raises:
        UsageError: characters are to be skipped, and the vocabularies have none in common.
    """

    def __init__(self, engines: Sequence[tuple[str, Engine]], on_unknown: str) -> None:
        self._vocabularies = [engine.card.vocabulary for _, engine in engines]
        self._codecs = {
            engine.card.vocabulary: (name, Codec(engine.card.vocabulary)) for name, engine in engines
        }
        self._common: Codec | None = None
        if on_unknown == "skip":
            common = set.intersection(*map(set, self._codecs))
            if not common:
                raise UsageError("the models have no character in common")
            self._common = Codec("".join(sorted(common)))
        self.characters = self.skipped = 0
        self.sha256 = hashlib.sha256()

    def of(self, text: Iterable[str]) -> Iterator[list[Tokens]]:
        """For each piece of a text the tokens of every engine, int64 ``[length]`` each.

        Raises:
            UnknownCharacter: names an engine, the first character that it does not know and its position.
        """
        for piece in text:
            self.sha256.update(piece.encode())
            kept = piece
            if self._common is not None:
                kept = self._common.decode(self._common.encode(piece, "skip"))
            self.skipped += len(piece) - len(kept)
            found = {}
            for vocabulary, (name, codec) in self._codecs.items():
                try:
                    found[vocabulary] = codec.encode(kept, start=self.characters)
                except UnknownCharacter as error:
                    raise UnknownCharacter(f"{name}: {error}") from error
            self.characters += len(kept)
            yield [found[vocabulary] for vocabulary in self._vocabularies]


def _opened(
    names: Sequence[str], backend: str | None, threads: int | None, stack: contextlib.ExitStack
) -> list[tuple[str, Engine]]:
    """The engines with their paths; the stack closes them."""
    meant, found = kind_for(backend), [locate(name) for name in names]
    # A backend that runs none of them is refused where it is opened.
    chosen = [
        backend if meant in (kind, None) or all(k != meant for _, k in found) else None for _, kind in found
    ]
    engines = []
    for (path, _), one in zip(found, chosen, strict=True):
        engine = open_engine(path, threads, one)
        stack.callback(engine.close)
        engines.append((str(path), engine))
    return engines


def _found(engines: Sequence[tuple[str, Engine]], predictors: Sequence[Predictor]) -> list[Evaluated]:
    scores = [predictor.by_class.score() for predictor in predictors]
    first = scores[0].bits_per_character
    return [
        Evaluated(
            engine.name,
            path,
            engine.card.precision,
            score,
            score.bits_per_character - first if number else None,
            {positions_of(group): one for group, one in predictor.by_position.scores().items()},
            {CLASSES[group]: one for group, one in predictor.by_class.scores().items()},
        )
        for number, ((path, engine), predictor, score) in enumerate(
            zip(engines, predictors, scores, strict=True)
        )
    ]
