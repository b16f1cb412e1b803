"""What `p2 gpu-check` is asked to do, read from the command line."""

from __future__ import annotations

from dataclasses import dataclass

from ..contract.cells import FORMS
from ..contract.errors import UsageError
from .check import Check

HIDDEN = 256
BENCH_HIDDEN = (128, 512, 1024, 2048, 4096)
SOAK_CHARACTERS = 100_000
LEAST_CHARACTERS = 1000
LARGEST = 1 << 14

# What `--only` takes to check p2's own decoder, and to race it, in pieces of at most five minutes on an H100.
GROUPS = (
    "noise,updates,capture cuda,snapshot cuda,batches cuda",
    *(f"parity cuda {Check('', 0, cell=f.key, reset=f.reset, hidden=HIDDEN).model}" for f in FORMS),
    "determinism cuda,soak cuda,together cuda,interrupt cuda,start cuda",
    "training",
    *(f"benchmark {hidden}" for hidden in BENCH_HIDDEN),
)


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        rehearse: run on engines on the processor.
        only: words of the names of checks, those of one part all in one name; empty is all.
        hidden: width of the models that are checked.
        bench_hidden: widths that are raced; empty leaves the benchmark out.
        soak_characters: written in one go with the memory watched.
    """

    rehearse: bool = False
    only: tuple[str, ...] = ()
    hidden: int = HIDDEN
    bench_hidden: tuple[int, ...] = BENCH_HIDDEN
    soak_characters: int = SOAK_CHARACTERS


def parse(only: str | None, rehearse: bool, hidden: int, bench_hidden: str, characters: int) -> Options:
    """Read the command line's values; see `Options` for what they are.

    Raises:
        UsageError: a value cannot be meant.
    """
    if not 1 <= hidden <= LARGEST:
        raise UsageError(f"--hidden must be 1 to {LARGEST:,}, not {hidden}")
    if characters < LEAST_CHARACTERS:
        raise UsageError(f"--characters must be at least {LEAST_CHARACTERS:,}, not {characters}")
    parts = [] if bench_hidden == "none" else [part.strip() for part in bench_hidden.split(",")]
    if not all(part.isdecimal() and 1 <= int(part) <= LARGEST for part in parts):
        raise UsageError(
            f"--bench-hidden takes widths from 1 to {LARGEST:,} with commas between, or none,"
            f" not {bench_hidden!r}"
        )
    words = [] if only is None else [word.strip() for word in only.split(",")]
    if not all(words):
        raise UsageError(f"--only takes words with commas between, not {only!r}")
    return Options(rehearse, tuple(words), hidden, tuple(sorted({int(part) for part in parts})), characters)
