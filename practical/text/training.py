"""The run on the book: begun or gone on with, and what it left behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ...contract.codec import Codec
from ...contract.errors import P2Error, UsageError
from ...contract.shell import command
from ...trainer import checkpoint, curve, loop
from ...trainer.checkpoint import holds_checkpoint
from ...trainer.corpus import Corpus
from ...trainer.display import Display
from ...trainer.options import TrainOptions, resumed
from ...trainer.record import Record
from ...trainer.run import Result
from ...trainer.runfolder import RunFolder
from ...trainer.sources import STDIN
from ...trainer.takeover import occupied
from .clock import Clock, Timed
from .options import TextOptions

CLOCK = "seconds.json"


@dataclass(frozen=True)
class Kept:
    """A checkpoint that texts are written from.

    Attributes:
        asked: the accuracy it was kept at; None for the newest, where one was not reached.
        folder: where it is.
        record: the run so far when it was kept.
    """

    asked: float | None
    folder: Path
    record: Record


@dataclass(frozen=True)
class Trained:
    """A run that has come to its end.

    Attributes:
        book: the text that was trained on.
        whole: characters of the book, of which `book` may be the first part.
        options: of the run.
        record: of its last update.
        kept: in ascending order of updates.
    """

    book: Corpus
    whole: int
    options: TrainOptions
    record: Record
    kept: list[Kept]


def train(asked: TextOptions, texts: list[str], display: Display, clock: Clock) -> Trained:
    """Train on a book, or go on, or take a run that is done as it is.

    Args:
        asked: see `TextOptions`; with `resume` only what was named counts of its training options.
        texts: the book, see `corpus.load`; with `resume` none reads the recorded sources again.
        display: where to report to.
        clock: what keeps the time.

    Raises:
        P2Error: as `loop.train` and `loop.resume`.
        UsageError: no book is named, or it has not the characters of the prompt.
        KeyboardInterrupt: the run was stopped, and what there is has been saved.
    """
    display = Timed(display, clock)
    if not asked.resume:
        if not texts:
            raise UsageError("name the BOOK to train on (or --resume to go on with a run)")
        whole = loop.read(texts, asked.training)
        book = whole.head(asked.characters) if asked.characters else whole
        _check_prompt(asked, book)
        result = loop.train(asked.training, book, display)
    else:
        with occupied(asked.run, display.note) as run:  # what a kill has left is put right first
            last = _last(asked)
            curve.catch_up(run, display.note)
        record = last.record
        recorded = TrainOptions.from_dict(record.options, asked.run, str(last.folder))
        whole = _again(asked, texts, record, recorded)
        book = whole.head(record.corpus["characters"])
        if book.sha256 != record.corpus["sha256"]:
            raise P2Error(
                f"the book ({book.describe()}) is not the one that the run began with: its text differs;"
                f" {_named_again(asked)}"
            )
        _check_prompt(asked, book)
        wanted = resumed(recorded, asked.given)
        if record.step < wanted.steps:
            result = loop.resume({**asked.given, "out": asked.run}, texts, display, book)
        else:
            result = Result(asked.run, record, record.step)
    if result.interrupted:
        display.note(f"stopped after update {result.record.step}; to go on: {resume_command(asked)}")
        raise KeyboardInterrupt
    found = _last(asked)
    options = TrainOptions.from_dict(found.record.options, asked.run, str(found.folder))
    return Trained(book, len(whole), options, found.record, kept(asked.run, options))


def kept(run: Path, options: TrainOptions) -> list[Kept]:
    """The checkpoints of the accuracies that were reached, and the newest one if not all were."""
    folders: list[tuple[float | None, Path]] = [
        (accuracy, RunFolder(run).accuracy(accuracy)) for accuracy in sorted(options.keep_at_accuracy)
    ]
    reached = [(accuracy, folder) for accuracy, folder in folders if holds_checkpoint(folder)]
    if len(reached) < len(folders) or not folders:
        reached.append((None, RunFolder(run).last))
    return [Kept(accuracy, folder, checkpoint.load(folder).record) for accuracy, folder in reached]


def resume_command(asked: TextOptions, *book: str) -> str:
    """The command that goes on with a run, on its book where that is to be named."""
    return command("p2", "practical", "text", "--resume", *_out(asked), *book)


def _out(asked: TextOptions) -> list[str]:
    return [] if asked.folder == TextOptions.folder else ["--out", str(asked.folder)]


def _check_prompt(asked: TextOptions, book: Corpus) -> None:
    """Say at once, and not after the training, that the model will not know the prompt."""
    if asked.prompt == "":
        raise UsageError("--prompt must not be empty: a completion begins with something")
    Codec(book.vocabulary).encode(asked.prompt or "")


def _last(asked: TextOptions) -> checkpoint.Checkpoint:
    last = RunFolder(asked.run).last
    if not holds_checkpoint(last):
        starting = command("p2", "practical", "text", *_out(asked), "BOOK")
        raise P2Error(f"there is no run to go on with in {asked.run}: start one with `{starting}`")
    return checkpoint.load(last)


def _again(asked: TextOptions, texts: list[str], record: Record, options: TrainOptions) -> Corpus:
    """The book that is named, or else that of the recorded sources."""
    if texts:
        return loop.read(texts, options)
    if STDIN in record.sources:
        going_on = resume_command(asked, STDIN)
        raise UsageError(f"the book came from standard input: give it again, `{going_on} < BOOK`")
    try:
        return loop.read(record.sources, options)
    except P2Error as error:
        raise P2Error(f"{error}; {_named_again(asked)}") from error


def _named_again(asked: TextOptions) -> str:
    return f"if it has moved, name it: `{resume_command(asked, 'NEW/PATH')}`"
