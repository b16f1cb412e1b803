"""The run folder: where a training run puts its checkpoints, its log and its curve.

``best`` (lowest validation loss), ``last`` (to go on from), ``accuracy-0.65`` and so on are
checkpoints; ``log.jsonl`` has one JSON object per logged update; ``curve.svg`` draws it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ..spec.errors import P2Error, UsageError
from ..spec.files import make_folder, reading, write_bytes, writing
from .checkpoint import holds_checkpoint


class RunFolder:
    """Paths inside a run folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.best = path / "best"
        self.last = path / "last"
        self.log = path / "log.jsonl"
        self.curve = path / "curve.svg"

    def accuracy(self, value: float) -> Path:
        """Where the checkpoint of an accuracy is kept."""
        return self.path / f"accuracy-{value:g}"

    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return self.log.is_file() or holds_checkpoint(self.last) or holds_checkpoint(self.best)

    def begin(self) -> Path | None:
        """Make the folder ready for a new run; a run that is there moves aside.

        Returns:
            Where the earlier run went (in place of the one before it), or None.

        Raises:
            UsageError: the folder has other things in it.
            P2Error: the file system refused.
        """
        moved = None
        if self.holds_run():
            moved = self._move_aside()
        elif self.path.is_dir() and any(not item.name.startswith(".") for item in self.path.iterdir()):
            raise UsageError(
                f"--out {self.path} is not empty and holds no training run: name a new or an empty folder"
            )
        make_folder(self.path)
        return moved

    def _move_aside(self) -> Path:
        full = self.path.resolve()
        old = RunFolder(full.with_name(full.name + ".old"))
        if Path.cwd().is_relative_to(full):
            raise UsageError(f"--out {self.path} is the folder you are in: run p2 from outside it")
        if old.path.exists() and not old.holds_run():
            raise P2Error(
                f"the run in {self.path} cannot move aside: {old.path} is there and is no training run;"
                " name another folder with --out"
            )
        with writing(old.path):
            if old.path.exists():
                shutil.rmtree(old.path)
            full.rename(old.path)
        return self.path.with_name(full.name + ".old")


class Log:
    """``log.jsonl``, open for appending; each line is on its way to the disk when `write` returns."""

    def __init__(self, path: Path, keep_to_step: int) -> None:
        """Open the log, dropping lines past `keep_to_step` and lines that a kill cut short."""
        self._path = path
        kept = [entry for entry in read_log(path) if entry["step"] <= keep_to_step] if path.exists() else []
        write_bytes(path, "".join(_line(entry) for entry in kept).encode())
        with writing(path):
            self._file: TextIO = path.open("a", encoding="utf-8")

    def write(self, entry: dict[str, Any]) -> None:
        """Append one object.

        Raises:
            P2Error: the file system refused.
        """
        with writing(self._path):
            self._file.write(_line(entry))
            self._file.flush()

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing(self._path):
            self._file.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """The readable lines of a log, in order of their steps.

    Raises:
        P2Error: the file cannot be read.
    """
    with reading(path):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return sorted(_entries(lines), key=lambda entry: int(entry["step"]))


def _entries(lines: list[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # cut short by a kill
        if isinstance(entry, dict) and isinstance(entry.get("step"), int):
            yield entry


def _line(entry: dict[str, Any]) -> str:
    return json.dumps(entry) + "\n"
