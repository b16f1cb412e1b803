"""What `p2 bench` is asked to do, checked before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..contract.card import CELLS, Card, canonical_precision
from ..contract.errors import UsageError

OUT = Path("artifacts/bench/report.json")

# Printable ASCII and the line break: 96 characters, about what an English book has.
VOCABULARY = "\n" + "".join(chr(point) for point in range(32, 127))

MAX_BATCH = 1 << 16
MAX_THREADS = 256


@dataclass(frozen=True)
class Effort:
    """How long and how often things are measured.

    Attributes:
        rounds: turns that each contender gets with one text.
        turn_seconds: about how long a turn writes in long calls, for characters per second.
        latency_seconds: about how long a turn writes in short calls, for the latency.
        batches: texts side by side, ascending.
        batch_rounds: turns that each contender gets at each batch.
        batch_seconds: about how long such a turn lasts.
        prompt_length: characters of known text read in a turn, where `prompt_seconds` is enough for them.
        prompt_seconds: about the longest that reading may take.
        text_length: characters written with the common noise, where `text_seconds` is enough.
        text_seconds: the longest that writing them may take.
        quality_characters: characters of held-out text read.
        first_characters: new processes that are timed up to their first character.
        start_up_runs: times that the `p2` command is started.
        training_rounds: turns of p2's training and of a hand-written loop; 0 leaves training out.
    """

    rounds: int
    turn_seconds: float
    latency_seconds: float
    batches: tuple[int, ...]
    batch_rounds: int
    batch_seconds: float
    prompt_length: int
    prompt_seconds: float
    text_length: int
    text_seconds: float
    quality_characters: int
    first_characters: int
    start_up_runs: int
    training_rounds: int


FULL = Effort(
    rounds=5,
    turn_seconds=0.6,
    latency_seconds=0.3,
    batches=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    batch_rounds=5,
    batch_seconds=0.4,
    prompt_length=10_000,
    prompt_seconds=2.0,
    text_length=2000,
    text_seconds=6.0,
    quality_characters=20_000,
    first_characters=3,
    start_up_runs=5,
    training_rounds=15,
)
QUICK = Effort(
    rounds=3,
    turn_seconds=0.25,
    latency_seconds=0.1,
    batches=(1, 8, 64),
    batch_rounds=3,
    batch_seconds=0.15,
    prompt_length=10_000,
    prompt_seconds=0.4,
    text_length=2000,
    text_seconds=1.0,
    quality_characters=2000,
    first_characters=1,
    start_up_runs=5,
    training_rounds=0,
)


@dataclass(frozen=True)
class BenchOptions:
    """The request, as `parse` made it.

    Attributes:
        models: checkpoints and run folders.
        cards: models to be made with random weights.
        quick: fewer repetitions, sizes and characters.
        contenders: keys or plug-ins (`plugins.find`); None is every built-in one.
        precisions: of the contenders; None is all.
        threads: processor threads of every contender; None lets each choose.
        batches: texts side by side; None leaves it to the plan.
        text: held-out text, instead of the tail that a training held out.
        out: the JSON file; .html and .md go beside it.
    """

    models: tuple[Path, ...] = ()
    cards: tuple[Card, ...] = ()
    quick: bool = False
    contenders: tuple[str, ...] | None = None
    precisions: tuple[str, ...] | None = None
    threads: int | None = None
    batches: tuple[int, ...] | None = None
    text: Path | None = None
    out: Path = OUT


def parse(
    models: Sequence[str] = (),
    shapes: Sequence[str] = (),
    *,
    quick: bool = False,
    contenders: str | None = None,
    precisions: str | None = None,
    threads: int | None = None,
    batches: str | None = None,
    text: Path | None = None,
    out: Path = OUT,
) -> BenchOptions:
    """Read the command line's strings; see `BenchOptions` for what they are.

    Raises:
        UsageError: a value cannot be meant.
    """
    if threads is not None and not 1 <= threads <= MAX_THREADS:
        raise UsageError(f"--threads must be 1 to {MAX_THREADS}, not {threads}")
    if out.suffix != ".json":
        raise UsageError(f"--out names the .json file to write (.html and .md go beside it), not {out}")
    if text is not None and shapes and not models:
        raise UsageError(
            "--text measures what a trained model predicts, and --shape makes random weights:"
            " name a checkpoint as well"
        )
    return BenchOptions(
        models=tuple(dict.fromkeys(Path(model) for model in models)),
        cards=tuple(dict.fromkeys(parse_shape(shape) for shape in shapes)),
        quick=quick,
        contenders=None if contenders is None else _parts("--contenders", contenders),
        precisions=None if precisions is None else _precisions(precisions),
        threads=threads,
        batches=None if batches is None else parse_batches(batches),
        text=text,
        out=out,
    )


def parse_shape(text: str) -> Card:
    """``cell,layers,embedding,hidden`` as a card over `VOCABULARY`.

    Raises:
        UsageError: it is something else, or out of range.
    """
    cell, *sizes = (part.strip() for part in text.split(","))
    if len(sizes) != 3 or not all(size.isdecimal() for size in sizes):
        raise UsageError(
            f"--shape takes cell,layers,embedding,hidden (such as lstm,2,64,128), not {text!r}"
            if cell in CELLS or len(sizes) != 3
            else f"--shape {text}: unknown cell {cell!r}: choose one of {', '.join(CELLS)}"
        )
    layers, embedding, hidden = map(int, sizes)
    try:
        return Card(cell, layers, embedding, hidden, VOCABULARY)
    except UsageError as error:
        raise UsageError(f"--shape {text}: {error}") from error


def shape_name(card: Card) -> str:
    """A card's shape in the notation that `parse_shape` reads; a GRU's other reset is told too."""
    name = f"{card.cell},{card.layers},{card.embedding},{card.hidden}"
    return name if card.form.reset == "after" else f"{name},reset {card.form.reset}"


def parse_batches(text: str) -> tuple[int, ...]:
    """``1,8,64`` as ascending numbers, each once.

    Raises:
        UsageError: a part is not a number from 1 to `MAX_BATCH`.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= MAX_BATCH for part in parts):
        raise UsageError(
            f"--batches takes numbers from 1 to {MAX_BATCH:,} with commas between, such as 1,8,64,"
            f" not {text!r}"
        )
    return tuple(sorted({int(part) for part in parts}))


def _precisions(text: str) -> tuple[str, ...]:
    return tuple(canonical_precision(part) for part in _parts("--precisions", text))


def _parts(option: str, text: str) -> tuple[str, ...]:
    parts = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not parts:
        raise UsageError(f"{option} takes names with commas between, not {text!r}")
    return parts
