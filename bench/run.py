"""The whole benchmark: the machine, the models one after the other, the report."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.card import Card
from ..contract.errors import P2Error, UsageError
from ..contract.files import keep_aside, locked, make_folder, read_text, write_bytes, write_json
from ..contract.locks import scratch_folder
from ..render.machine import machine, memory_available
from ..render.progress import Progress
from ..runtime.processor import processors
from ..trainer.options import TrainOptions
from ..version import __version__
from . import copying, entries, markdown, models, race, racer, rates, rendering, startup, targets, training
from .document import SCHEMA, Document, Entry, Measured, Rates
from .memory import fits, preparing_bytes, too_large
from .models import Prepared
from .options import FULL, QUICK, BenchOptions, Effort, shape_name
from .plugins import Entrant, choose
from .quality import DIFFERENCE_LIMITS

if TYPE_CHECKING:
    from rich.console import Console

SMALL_MODEL = "model"  # folder beside the report
SCRATCH = "p2-bench-"  # how the folders of models begin that are made to be measured


@dataclass(frozen=True)
class Source:
    """A model that is to be measured: what it is, and how its files are made in a folder."""

    name: str
    card: Card
    describe: str
    prepare: Callable[[Path], Prepared]


def run(options: BenchOptions, console: Console) -> list[Path]:
    """Measure, show, and write the report; it is written anew after every model.

    A report that was there before is kept, in ``<report>.old-N``.

    Args:
        options: what to measure.
        console: where the tables go; progress goes to stderr.

    Returns:
        the files written: JSON, HTML, Markdown.

    Raises:
        UsageError: a contender is unknown, or a text does not fit its model.
        P2Error: a checkpoint is missing or damaged, a file cannot be written, or the machine's rates
            cannot be measured.
    """
    effort = QUICK if options.quick else FULL
    if options.batches:
        effort = dataclasses.replace(effort, batches=options.batches)
    entrants = choose(options.contenders, options.precisions)
    if options.text is not None:
        read_text(options.text)  # refused before anything is measured
    files = [options.out, *(options.out.with_suffix(suffix) for suffix in rendering.SUFFIXES)]
    with Progress() as progress:
        sources = list_sources(options, entrants, progress)
        lock = make_folder(options.out.parent) / f".{options.out.name}.lock"
        with locked(lock, options.out):
            document = _begin(options, effort, entrants)
            _measure_command(document, effort, options.threads, progress)
            for source in sources:
                _measure(source, document, effort, entrants, options.threads, progress)
                document["targets"] = targets.overall(document)
                _write(document, files, progress, first=source is sources[0])
                progress.say(f"{source.name} is done: {files[0]}")
    markdown.terminal(document, console)
    return files


def list_sources(options: BenchOptions, entrants: Sequence[Entrant], progress: Progress) -> list[Source]:
    """The models that were asked for; with none, the one of `p2 train`, else a small one trained here.

    Raises:
        P2Error: a checkpoint is missing or damaged.
    """
    from ..trainer import checkpoint

    paths = list(options.models)
    if not paths and not options.cards:
        there = any(checkpoint.holds_checkpoint(TrainOptions.out / name) for name in ("", "best", "last"))
        paths = [
            TrainOptions.out if there else models.small_model(options.out.parent / SMALL_MODEL, progress)
        ]
    # The float32 step is made in any case: peers load it too.
    precisions = list(dict.fromkeys(["float32", *(entrant.contender.precision for entrant in entrants)]))
    sources = []
    for path in paths:
        found = checkpoint.load(path)
        name = f"{path} ({shape_name(found.card)})"

        def trained(folder: Path, path: Path = path, name: str = name) -> Prepared:
            return models.from_checkpoint(name, path, precisions, folder, options.text)

        sources.append(Source(name, found.card, f"checkpoint {found.folder}", trained))
    for card in options.cards:

        def made(folder: Path, card: Card = card) -> Prepared:
            return models.from_shape(card, precisions, folder)

        sources.append(Source(shape_name(card), card, models.RANDOM, made))
    return sources


def _begin(options: BenchOptions, effort: Effort, entrants: Sequence[Entrant]) -> Document:
    return Document(
        schema=SCHEMA,
        p2=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        quick=options.quick,
        machine=machine(),
        settings=_settings(options, effort, entrants),
        models=[],
        targets=[],
    )


def _settings(options: BenchOptions, effort: Effort, entrants: Sequence[Entrant]) -> dict[str, Any]:
    """How everything was measured, for the reader of the report."""
    settings = dataclasses.asdict(effort)
    return settings | {
        "batches": list(effort.batches),
        "contenders": [entrant.address for entrant in entrants],
        "turns": "a process for each contender; they take turns, round after round, with a rest before each"
        " turn and an eighth of the turn untimed; in its turn it writes one text and reads a prompt",
        "ratios": "medians over the rounds of the ratio within a round",
        "beside": "in each turn of a float32 peer with one text p2's float32 writes and reads as well, after"
        " it and before it by turns; their ratio is that of these figures",
        "growth": "in each turn with a batch p2 writes with the batch before as well, and with it once more",
        "rest_seconds": race.REST_SECONDS,
        "threads": options.threads or "each contender's own choice",
        "sampling": "temperature 1; random numbers, the choice and the loop are inside every figure",
        "latency": f"calls of {race.LATENCY_CHUNK} characters; of one, where a character takes longer than"
        f" {race.LATENCY_CHUNK_SECONDS * 1e3:g} ms",
        "batch_limit": f"a peer leaves the batches where {race.LEAST_STEPS} steps take longer than"
        f" {race.BATCH_LIMIT_SECONDS:g} s",
        "load": "in a new process: imports, reading the files, building what is run",
        "first_character": "from the start of a new process of the benchmark, median",
        "peak_memory": "of the contender's process with its libraries, after writing one text at a time",
        "rates": f"in processes of their own, medians of {rates.ROUNDS} rounds: before each turn with one"
        f" text, reading at least {rates.READ_BYTES >> 20} MiB and {rates.CACHES} times the last cache"
        f" with 1 or {options.threads or processors()} threads;"
        f" before and after all turns, the best of them, float32 products of {rates.MATRIX} x {rates.MATRIX}"
        " matrices by numpy and PyTorch; of a GPU, before each turn on it, copying"
        f" {copying.BYTES['cuda'] >> 20} MiB there, bytes read and written, and after all turns"
        f" {copying.MATRIX} x {copying.MATRIX} by PyTorch",
        "difference_limits": DIFFERENCE_LIMITS,
        "held_out": str(options.text) if options.text else "the tail of the text that training held out",
        "texts": f"compared with the first of {', '.join(racer.TEXT_REFERENCES)} that ran,"
        " as far as both wrote",
        "start_up": None,
        "training": None,
        "notes": [],
    }


def _measure_command(document: Document, effort: Effort, threads: int | None, progress: Progress) -> None:
    """The command itself, and training: what does not depend on the models."""
    settings = document["settings"]
    progress.phase("starting p2")
    try:
        with scratch_folder(SCRATCH) as folder:
            settings["start_up"] = startup.measure(effort.start_up_runs, folder)
        if effort.training_rounds:
            progress.phase("training, and a hand-written loop")
            settings["training"] = training.measure(effort.training_rounds, threads)
    except P2Error as error:
        _note(settings, progress, str(error))


def _measure(
    source: Source,
    document: Document,
    effort: Effort,
    entrants: Sequence[Entrant],
    threads: int | None,
    progress: Progress,
) -> None:
    """Measure one model and put it into the document."""
    settings = document["settings"]
    with scratch_folder(SCRATCH) as folder:
        progress.phase(f"{source.name}: making its files")
        prepared, reason = _prepare(source, folder)
        progress.phase(f"{source.name}: what the machine can do")
        count = threads or processors()
        products = [rates.measure(count)]
        with rates.Bandwidth(count) as memory, contextlib.ExitStack() as stack:
            bandwidths, on_gpu = [memory.read()], None
            if prepared is None:
                found = [entries.blank(entrant.contender, reason) for entrant in entrants]
                _note(settings, progress, f"{source.name}: {reason}")
            else:
                if prepared.held_out is None:
                    _note(settings, progress, f"{source.name}: no quality, {prepared.note}")
                bandwidth = {"cpu": memory.read}
                able = [e for e in entrants if e.contender.missing(source.card) is None]
                if any(entrant.contender.device == "cuda" for entrant in able):
                    gpu = stack.enter_context(copying.Copying("cuda"))
                    bandwidth["cuda"] = gpu.read
                measuring = race.Race(prepared, effort, threads, progress, bandwidth)
                found = measuring.run(entrants)
                settings["notes"] += measuring.notes
                bandwidths += measuring.bandwidths.get("cpu", [])
                progress.phase(f"{source.name}: what the machine can do now")
                products.append(rates.measure(count))
                if copies := measuring.bandwidths.get("cuda"):
                    on_gpu = copying.observed(copies, gpu)
    observed = rates.combine(bandwidths, *products)
    if on_gpu:
        observed["gpu"] = on_gpu
    document["models"].append(_measured(source, found, observed))
    document["models"][-1]["targets"] = targets.for_model(document["models"][-1], document["machine"])


def _prepare(source: Source, folder: Path) -> tuple[Prepared | None, str]:
    """The model with its files, or None and why it cannot be measured here."""
    need, available = preparing_bytes(source.card), memory_available()
    if not fits(need, available):
        return None, f"to make its files, {too_large(need, available)}"
    try:
        return source.prepare(folder), ""
    except UsageError:
        raise
    except P2Error as error:
        return None, str(error)


def _measured(source: Source, found: list[Entry], observed: Rates) -> Measured:
    weights = models.count_weights(source.card)
    for entry in found:
        entries.add_matmul_share(entry, observed, weights)
    return Measured(
        name=source.name,
        card=source.card.to_dict(),
        source=source.describe,
        weights=weights,
        rates=observed,
        entries=found,
        targets=[],
    )


def _note(settings: dict[str, Any], progress: Progress, text: str) -> None:
    settings["notes"].append(text)
    progress.say(text)


def _write(document: Document, files: Sequence[Path], progress: Progress, *, first: bool) -> None:
    beside = rendering.rendered(document, files[0])  # before any file is touched
    kept = keep_aside(*files) if first else None
    if kept is not None:
        progress.say(f"the report that was in {files[0]} is kept in {kept}")
    write_json(files[0], document)
    for path, data in beside.items():
        write_bytes(path, data)
