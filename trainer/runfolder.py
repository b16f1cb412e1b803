"""The run folder: where a training run puts its checkpoints, its log and its curve.

``best`` (lowest validation loss), ``last`` (to go on from), ``accuracy-0.65`` and so on are
checkpoints; ``log.jsonl`` has one JSON object per logged update; ``curve.svg`` draws it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NotRequired, TypedDict

from ..contract.documents import parse
from ..contract.errors import ContractError, P2Error
from ..contract.files import reading, remove_leftovers, write_bytes, writing
from ..contract.schema import Count, Measure, problem
from . import checkpoint
from .checkpoint import holds_checkpoint

_LONGEST_LINE = 1 << 16  # bytes; p2's own have some hundred


class RunFolder:
    """Paths inside a run folder.

    Attributes:
        path: of the folder.
        taken: whether `path` is the folder that the run was asked to be in (see `takeover.NewRun`).
    """

    taken = True

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def best(self) -> Path:
        """The checkpoint of the lowest validation loss."""
        return self.path / "best"

    @property
    def last(self) -> Path:
        """The checkpoint to go on from."""
        return self.path / "last"

    @property
    def log(self) -> Path:
        """One JSON object for each logged update."""
        return self.path / "log.jsonl"

    @property
    def curve(self) -> Path:
        """The log, drawn."""
        return self.path / "curve.svg"

    def accuracy(self, value: float) -> Path:
        """Where the checkpoint of an accuracy is kept."""
        return self.path / f"accuracy-{value:g}"

    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return self.log.is_file() or holds_checkpoint(self.last) or holds_checkpoint(self.best)

    def tidy(self) -> None:
        """Remove what killed runs have left of unfinished writes; nobody else may be training here."""
        remove_leftovers(self.path)
        for folder in (self.best, self.last, *self.path.glob("accuracy-*")):
            if folder.is_dir():
                checkpoint.tidy(folder)


class Log:
    """``log.jsonl``: a line is with the system when `write` returns.

    It is for people and for the curve: where it cannot be written, that is said once, and the run goes on.
    """

    def __init__(self, run: RunFolder, keep_to_step: int, note: Callable[[str], None]) -> None:
        """Go on with the log of `run`, dropping lines past `keep_to_step` and lines that a kill cut short."""
        self._run = run
        self._note = note
        self._failed = False
        try:
            entries = read_log(run.log) if run.log.exists() else []
            kept = [entry for entry in entries if entry["step"] <= keep_to_step]
            write_bytes(run.log, "".join(_line(entry) for entry in kept).encode())
        except (OSError, P2Error) as error:
            self._give_up(error)

    def write(self, entry: dict[str, Any]) -> None:
        """Append one object."""
        if self._failed:
            return
        try:
            # Opened anew each time: the folder may have moved.
            with writing(self._run.log), self._run.log.open("a", encoding="utf-8") as file:
                file.write(_line(entry))
        except P2Error as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._failed = True
        self._note(f"{error}: the run goes on without a log")


class Logged(TypedDict):
    """A line of the log, as far as it is read again; quality under ``val_`` is of held-out text."""

    step: Count
    loss: NotRequired[Measure]
    accuracy: NotRequired[Measure]
    bits_per_character: NotRequired[Measure]
    running_loss: NotRequired[Measure]
    running_accuracy: NotRequired[Measure]
    lr: NotRequired[Measure]
    characters_per_second: NotRequired[Measure]
    seconds: NotRequired[Measure]
    val_loss: NotRequired[Measure]
    val_accuracy: NotRequired[Measure]
    val_bits_per_character: NotRequired[Measure]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The readable lines of a log, `Logged` each, in order of their steps.

    Raises:
        P2Error: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        return sorted(_entries(file), key=lambda entry: int(entry["step"]))


def _entries(file: BinaryIO) -> Iterator[dict[str, Any]]:
    whole = True
    for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
        begins, whole = whole, line.endswith(b"\n")
        try:
            entry = parse(line, "a line") if begins else None
        except ContractError:
            continue  # cut short by a kill, or no line of ours
        if entry is not None and not problem(entry, Logged):
            yield entry


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"
