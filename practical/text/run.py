"""The experiment from the book to the document."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ...contract.card import stored_parameters
from ...contract.errors import P2Error
from ...export.exporter import export_checkpoint
from ...render.progress import Progress
from ...render.terminal import titled
from ...runtime.opening import open_engine
from ...trainer import display as displays
from ...trainer.display import duration
from ...trainer.options import LATER
from ...trainer.runfolder import RunFolder, read_log
from .. import page
from ..again import finish
from ..document import Document, alone, fingerprint, make_room
from . import plots, training
from .ceiling import best_accuracy
from .clock import Clock
from .measure import Analysis
from .options import WINDOW, TextOptions
from .training import Kept, Trained
from .wording import first_words, openings

if TYPE_CHECKING:
    from rich.console import Console

EXPERIMENT: Final = "text"
CURVE_POINTS = 400
"""Points of the curve that the document keeps."""
_CURVES = ("loss", "accuracy", "running_loss", "running_accuracy")


def run(asked: TextOptions, texts: list[str], console: Console) -> list[Path]:
    """Train, export, write, analyse, and write the document and the page.

    Going on with a run replaces its own document; that of another one is kept, see `document.make_room`.

    Args:
        asked: what is wanted.
        texts: the book, see `trainer.corpus.load`.
        console: where the summary goes.

    Returns:
        The document and the page.

    Raises:
        P2Error: the book cannot be read or does not fit, the run cannot go on, a file cannot be written.
    """
    with alone(asked.folder, EXPERIMENT):
        return _run(asked, texts, console)


def _run(asked: TextOptions, texts: list[str], console: Console) -> list[Path]:
    clock = Clock(asked.run / training.CLOCK, asked.mode, resume=asked.resume)
    trained = training.train(asked, texts, displays.for_stdout(), clock)
    book = trained.book.text
    prompt = first_words(book) if asked.prompt is None else asked.prompt
    with Progress() as progress:
        progress.phase("indexing the book")
        prompts = [opening for opening in openings(book, asked.samples) if opening != prompt]
        analysis = Analysis(book, asked, prompt, prompts)
        results = _about(trained, analysis)
        for kept in trained.kept:
            progress.phase(f"exporting {kept.folder}")
            results["checkpoints"].append(_checkpoint(kept, analysis, asked, trained.options.seed, progress))
    place = asked.folder / f"{EXPERIMENT}.json"
    mine = clock.document and fingerprint(place) == clock.document
    if not mine and (room := make_room(asked.folder, EXPERIMENT)):
        console.print(room, markup=False, highlight=False, soft_wrap=True)
    document = finish(
        asked.folder,
        EXPERIMENT,
        mode=clock.mode,
        seconds=clock.seconds(),
        settings=_settings(asked, trained, prompt),
        results=results,
    )
    clock.wrote(fingerprint(place))
    _summary(document, console)
    return [place, page.write(asked.folder)]


def _about(trained: Trained, analysis: Analysis) -> dict[str, Any]:
    """The results that need no engine."""
    book, options, record = trained.book, trained.options, trained.record
    path = RunFolder(options.out).log
    log = [entry for entry in read_log(path) if all(name in entry for name in _CURVES)]
    if not log:
        raise P2Error(f"{path} has no line of the training: what it was like cannot be told, train again")
    ceiling = best_accuracy(book.text, WINDOW)
    card = options.card("".join(sorted(set(book.text))))
    return {
        "book": {
            "sources": [os.path.basename(source) for source in book.sources],
            "characters": len(book.text),
            "whole": trained.whole,
            "vocabulary": card.vocab,
            "sha256": book.sha256,
            "words": len(analysis.lexicon.words),
            "repeats": analysis.copies.repeated(),
            "entropy_of_random": math.log(card.vocab),
            "wording": analysis.lexicon.count([book.text]).to_dict(),
        },
        "model": {
            "cell": card.cell,
            "layers": card.layers,
            "embedding": card.embedding,
            "hidden": card.hidden,
            "parameters": stored_parameters(card),
        },
        "training": {
            "updates": record.step,
            "batch_size": options.batch_size,
            "window": options.seq_len,
            "precision": options.precision,
            "device": record.software.get("device"),
            "seconds": round(record.seconds, 1),
            "best_accuracy": max(entry["running_accuracy"] for entry in log),
            "final_accuracy": log[-1]["running_accuracy"],
            "final_loss": log[-1]["running_loss"],
        },
        "curve": _curve(log),
        "ceiling": {
            "mean": float(ceiling.mean()),
            "by_position": [round(float(value), 5) for value in ceiling],
        },
        "checkpoints": [],
    }


def _curve(log: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Points of the log, evenly spread, the first and the last among them."""
    last = len(log) - 1
    count = min(CURVE_POINTS, len(log))
    chosen = [log[index * last // max(1, count - 1)] for index in range(count)]
    return {
        "step": [entry["step"] for entry in chosen],
        **{name: [round(entry[name], 4) for entry in chosen] for name in _CURVES},
    }


def _checkpoint(
    kept: Kept, analysis: Analysis, asked: TextOptions, seed: int, progress: Progress
) -> dict[str, Any]:
    """Export a checkpoint, and measure what its engine writes."""
    path = asked.run / f"{kept.folder.name}.onnx"
    exported = export_checkpoint(kept.folder, out=path, engine="none")
    engine = open_engine(path, backend=asked.backend)
    try:
        name = f"accuracy {kept.asked:g}" if kept.asked is not None else "newest checkpoint"
        measured = analysis.measure(engine, seed, lambda what: progress.phase(f"{name}: {what}"))
    finally:
        engine.close()
    assert kept.record.train is not None
    return {
        "asked": kept.asked,
        "step": kept.record.step,
        "seconds": round(kept.record.seconds, 1),
        "running_accuracy": kept.record.train.accuracy,
        "running_loss": kept.record.train.loss,
        "engine": engine.name,
        "export_error": exported.agreement.relative,
        **measured,
    }


def _settings(asked: TextOptions, trained: Trained, prompt: str) -> dict[str, Any]:
    values = trained.options.to_dict()
    unused = {"gru_reset", "stateful", "val_fraction", "val_every", "init_from", "encoding", *LATER}
    kept = {name: value for name, value in values.items() if name not in unused}
    return {**kept, "characters": len(trained.book), **asked.writing(), "prompt": prompt}


def _summary(document: Document, console: Console) -> None:
    """A table of the checkpoints, and how the claims came out."""
    heads = ("checkpoint", "batches", "greedy loops", "copied", "real words, tau 0.5 / 1 / 2")
    table = titled("Texts written by the exported engines", heads)
    for checkpoint in document["results"]["checkpoints"]:
        words = [sampled["wording"]["real_words"] for sampled in checkpoint["sampled"].values()]
        table.add_row(
            plots.label(checkpoint),
            f"{checkpoint['step']:,}",
            f"{checkpoint['greedy']['loops']:.0%}",
            f"{checkpoint['greedy']['copied']:.0%}",
            " / ".join("–" if share is None else f"{share:.0%}" for share in words),
        )
    console.print(table)
    verdicts = [claim["verdict"] for claim in document["claims"]]
    counts = ", ".join(f"{verdicts.count(v)} {v}" for v in dict.fromkeys(verdicts))
    console.print(f"claims: {counts}; {duration(document['seconds']['wall'])} in all", highlight=False)
