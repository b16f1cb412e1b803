"""Training runs: started, started from other weights, resumed.

    options = TrainOptions(hidden=128, steps=300, out=Path("artifacts/small"))
    result = train(options, load(["novel.txt"]), display.Plain())

A run is a pure function of its options and its text: stopped after any update and resumed, it ends
with the same weights, bit for bit, on the same kind of device with the same number of threads.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..contract.codec import describe, vocabulary_of
from ..contract.errors import P2Error, UsageError
from ..contract.shell import command
from . import checkpoint, curve
from .checkpoint import Checkpoint, holds_checkpoint
from .corpus import BUILT_IN, Corpus, characters_of, load
from .device import choose_device, choose_precision
from .display import Display
from .learner import Learner, scoped
from .options import ARCHITECTURE, TrainOptions, resumed, started_from
from .ranks import ALONE, Ranks
from .record import Record, describe_corpus
from .run import Result, Run, resume_command
from .runfolder import RunFolder
from .sources import STDIN
from .takeover import Replaces, begun, occupied

_NAMED = 5  # unknown characters in a sentence


def begin(given: Mapping[str, Any], texts: list[str], display: Display, ranks: Ranks = ALONE) -> Result:
    """Start a run from the options that were named; the others have their defaults.

    With `init_from` the architecture is the checkpoint's.

    Args:
        given: options by the name of their `TrainOptions` field.
        texts: see `corpus.load`.
        display: where to report to.
        ranks: the processes that train together; all call this alike.

    Raises:
        P2Error: as `train`, and where an option contradicts the checkpoint of `init_from`.
    """
    options = TrainOptions(**given)  # refused before any file is touched
    _check_shared(options, texts, ranks)
    with _occupied(options.out, display, ranks):
        init = checkpoint.load(options.init_from) if options.init_from else None
        if init:
            options = started_from(given, init.card)
        return _begin(options, read(texts, options), display, init, ranks=ranks)


def read(texts: list[str], options: TrainOptions, vocabulary: str = "") -> Corpus:
    """The text of a run.

    Args:
        texts: see `corpus.load`.
        options: how to read it.
        vocabulary: of the model of a run that has begun, which may have left other characters out.
    """
    corpus = load(texts, options.encoding, options.encoding_errors, options.column)
    return corpus.only(vocabulary) if vocabulary and options.on_unknown == "skip" else corpus


def train(
    options: TrainOptions, corpus: Corpus, display: Display, replaces: Replaces | None = None
) -> Result:
    """Start a run. One that is already in `options.out` moves to ``<out>.old-N``, and is never deleted.

    That happens when the new run has its first checkpoint: one that is refused, diverges or is killed
    before has changed nothing.

    Args:
        options: of the run.
        corpus: its text.
        display: where to report to.
        replaces: told the folder of the earlier run, says whether it need not be kept.

    Raises:
        P2Error: another run is going on in the folder, the text does not fit, the device is not there,
            the file system refuses, or the training diverges.
    """
    with occupied(options.out, display.note, replaces):
        init = checkpoint.load(options.init_from) if options.init_from else None
        return _begin(options, corpus, display, init, replaces)


def resume(
    given: Mapping[str, Any],
    texts: list[str],
    display: Display,
    corpus: Corpus | None = None,
    ranks: Ranks = ALONE,
) -> Result:
    """Go on with the run in the folder `out`, from its ``last`` checkpoint.

    Args:
        given: options that were named, by field; they must agree with the run's own, but for
            those that `options.CHANGEABLE` lists.
        texts: the run's text again; none re-reads its recorded sources.
        display: where to report to.
        corpus: the run's text itself, for a run whose text is not the whole of its sources.
        ranks: the processes that train together, not necessarily as many as began; all call this alike.

    Raises:
        P2Error: there is nothing to go on from, it is damaged, or the text has changed.
        UsageError: an option contradicts the run.
    """
    path = given.get("out", TrainOptions.out)
    with _occupied(path, display, ranks) as run:
        return _resume(run, given, texts, display, corpus, ranks)


@contextlib.contextmanager
def _occupied(path: Path, display: Display, ranks: Ranks) -> Iterator[RunFolder]:
    """The first process keeps the folder; the others look into it when it has been put right."""
    with contextlib.ExitStack() as stack:
        run = stack.enter_context(occupied(path, display.note)) if ranks.first else RunFolder(path)
        ranks.meet()
        yield run


def _check_shared(options: TrainOptions, texts: list[str], ranks: Ranks) -> None:
    ranks.rows(options.batch_size)
    if ranks.size > 1 and STDIN in texts:
        raise UsageError("several processes cannot read one standard input: put the text into a file")


def _resume(
    run: RunFolder,
    given: Mapping[str, Any],
    texts: list[str],
    display: Display,
    corpus: Corpus | None,
    ranks: Ranks,
) -> Result:
    if not holds_checkpoint(run.last):
        raise P2Error(
            f"there is no run to go on with in {run.path}: start one with"
            f" `{command('p2', 'train', '--out', str(run.path))}`"
        )
    found = checkpoint.load(run.last)
    record = found.record
    recorded = TrainOptions.from_dict(record.options, run.path, str(found.folder / checkpoint.MANIFEST))
    options = resumed(recorded, {name: value for name, value in given.items() if name != "out"})
    if record.step >= options.steps:
        more = f"; `{resume_command(run.path, record)} --steps {2 * record.step}` goes on"
        display.note(
            f"nothing to do: {record.step} of {options.steps} updates are done"
            + ("" if options.is_bound else more)
        )
        if ranks.first:
            curve.catch_up(run, display.note)
        return Result(run.path, record, options.steps)
    _check_shared(options, texts, ranks)
    corpus = _same_text(corpus or _text_again(texts, run.path, found, recorded), run.path, record)
    training_state = checkpoint.load_training_state(found)
    ranks.check_same({"the text": corpus.sha256, f"the checkpoint {run.last}": found.card.checkpoint_sha256})
    device = choose_device(options.device, ranks)
    ranks.compute_on(device)
    with scoped(device, options.threads):
        tokens = corpus.encode(found.card.vocabulary)
        learner = Learner(found.card, options, tokens, device, found.model_state, ranks)
        learner.restore(training_state, record.step)
        record.options, record.software = options.to_dict(), _software(device)
        display.note(f"going on after update {record.step}")
        return Run(found.card, learner, record, run, display, ranks).go()


def _begin(
    options: TrainOptions,
    corpus: Corpus,
    display: Display,
    init: Checkpoint | None,
    replaces: Replaces | None = None,
    ranks: Ranks = ALONE,
) -> Result:
    if init:
        if options.on_unknown == "skip":
            corpus = corpus.only(init.card.vocabulary)
        _check_fits(init, options, corpus)
    device = choose_device(options.device, ranks)
    precision = choose_precision(options.precision, device, options.cell)
    options = dataclasses.replace(options, precision=precision)
    vocabulary = init.card.vocabulary if init else corpus.vocabulary
    if options.vocab_from:
        vocabulary = vocabulary_of(vocabulary + _vocabulary_in(options.vocab_from, options))
    card = options.card(vocabulary, corpus.sha256)
    ranks.check_same({"the text": corpus.sha256, "the vocabulary": vocabulary, "the precision": precision})
    ranks.compute_on(device)
    with scoped(device, options.threads):
        weights = init.model_state if init else None
        learner = Learner(card, options, corpus.encode(vocabulary), device, weights, ranks)
        record = Record(options.to_dict(), describe_corpus(corpus), _software(device))
        with begun(options.out, replaces) if ranks.first else _beside(options.out) as run:
            for note in corpus.notes:
                display.note(note)
            display.note(
                f"text: {corpus.describe()}: {len(corpus):,} characters, {len(corpus.vocabulary)} distinct,"
                f" {len(corpus) - learner.train_characters:,} held out"
            )
            if options.vocab_from:
                more = card.vocab - len(corpus.vocabulary)
                display.note(
                    f"vocabulary: {card.vocab} characters, {more} of them only in {options.vocab_from}"
                )
            return Run(card, learner, record, run, display, ranks).go()


def _beside(path: Path) -> contextlib.AbstractContextManager[RunFolder]:
    """The folder for a process that does not write in it."""
    return contextlib.nullcontext(RunFolder(path))


def _check_fits(init: Checkpoint, options: TrainOptions, corpus: Corpus) -> None:
    for name in ARCHITECTURE:
        if getattr(options, name) != getattr(init.card, name):
            raise UsageError(
                f"the options' {name} {getattr(options, name)} contradicts the checkpoint {init.folder},"
                f" which has {getattr(init.card, name)}"
            )
    unknown = set(corpus.vocabulary) - set(init.card.vocabulary)
    if unknown:
        position = corpus.first_of(unknown)
        first = corpus.at(position)
        others = [repr(character) for character in sorted(unknown - {first})]
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        also = f" (nor {', '.join(others[:_NAMED])}{more})" if others else ""
        raise UsageError(
            f"the text holds {describe(first)} at position {position:,}, which the checkpoint {init.folder}"
            f" does not know{also}, and a run with --init-from keeps its vocabulary: --on-unknown skip leaves"
            " such characters out; one that is trained with --vocab-from and this text knows them"
        )


def _vocabulary_in(path: Path, options: TrainOptions) -> str:
    """The characters of a checkpoint, or of a text that is read like the run's own."""
    if any(holds_checkpoint(folder) for folder in (path, path / "best", path / "last")):
        return checkpoint.load(path).card.vocabulary
    return characters_of([str(path)], options.encoding, options.encoding_errors, options.column)


def _text_again(texts: list[str], path: Path, found: Checkpoint, options: TrainOptions) -> Corpus:
    """The text that is named, or else that of the recorded sources."""
    record, vocabulary = found.record, found.card.vocabulary
    if texts:
        return read(texts, options, vocabulary)
    if STDIN in record.sources:
        raise UsageError(
            f"the run's text came from standard input: give it again, `{resume_command(path, record)} < TEXT`"
        )
    try:
        return read([] if record.sources == [BUILT_IN] else record.sources, options, vocabulary)
    except P2Error as error:
        raise P2Error(f"{error}; {_named_again(path, record)}") from error


def _same_text(corpus: Corpus, path: Path, record: Record) -> Corpus:
    """The text, if it is the one that the run began with."""
    if corpus.sha256 != record.corpus.get("sha256"):
        raise P2Error(
            f"the text ({corpus.describe()}) is not the one that the run began with (SHA-256 differs): a run"
            f" only goes on with its own text; {_named_again(path, record)}"
        )
    return corpus


def _named_again(path: Path, record: Record) -> str:
    return f"if that has moved, name it: `{resume_command(path, record)} NEW/PATH`"


def _software(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return {"torch": torch.__version__, "device": name, "threads": str(torch.get_num_threads())}
