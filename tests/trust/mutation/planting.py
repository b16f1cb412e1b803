"""Plant a fault in a copy of p2, and see whether the tests notice."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .worker import Answer

ROOT = Path(__file__).parents[3]
NATIVE = Path("runtime/native")
SECONDS = 600  # that a run may take
_SUFFIXES = {".py", ".c", ".h", ".cu", ".cuh", ".cpp", ".html", ".toml", ".typed", ".pyc", ".so"}
_LEFT_OUT = {"artifacts", "build", "docs", "shared"}
# What a trace of the step depends on: one that was made before would hide such a fault.
_TRACED = ("trainer/cells.py", "contract/cells.py", "export/step.py", "export/graph.py")


@dataclass(frozen=True)
class Mutant:
    """A fault to plant.

    Attributes:
        name: what is wrong, in words.
        path: of the file, from the root.
        old: text that stands there once.
        new: what stands there instead.
        caught_by: the test that must fail, or several.
    """

    name: str
    path: str
    old: str
    new: str
    caught_by: str | tuple[str, ...]

    @property
    def checks(self) -> tuple[str, ...]:
        """The tests, from the root."""
        names = (self.caught_by,) if isinstance(self.caught_by, str) else self.caught_by
        return tuple(f"tests/{name}" for name in names)

    def planted(self, root: Path = ROOT) -> str:
        """The text of the file with the fault in it.

        Raises:
            AssertionError: the old text does not stand there once.
        """
        text = (root / self.path).read_text(encoding="utf-8")
        assert text.count(self.old) == 1, (
            f"{self.name}: {self.old!r} is {text.count(self.old)} times in {self.path}"
        )
        return text.replace(self.old, self.new)


class Nursery:
    """A copy of p2 in which tests run, one fault at a time.

    Args:
        folder: for the copy; it is there, and empty.
        shared: for what is made once for all copies.
        level: that the decoder in C runs on, so that what all levels share is compiled for it alone; None:
            nothing is.
    """

    def __init__(self, folder: Path, shared: Path, level: str | None) -> None:
        self._folder, self._shared, self._runs = folder, shared, 0
        self._level = "" if level is None else folder_of(level)
        _copy(ROOT, folder / "p2")
        if level is not None:
            self._use_decoder(_linked(_objects(shared), shared / "decoder.so"))
        environment = os.environ | {"PYTHONPATH": "", "OMP_NUM_THREADS": "1", "PYTEST_XDIST_WORKER": "gw0"}
        command = [sys.executable, Path(__file__).with_name("worker.py")]
        pipe = subprocess.PIPE
        self._worker = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True)
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        self._asked, self._answers = self._worker.stdin, self._worker.stdout

    def close(self) -> None:
        """End the process that waits for more."""
        self._asked.close()
        self._worker.wait()
        self._answers.close()

    def run(self, tests: Sequence[str], traces: str = "") -> Answer:
        """Run tests by their ids from the root, up to the first that fails.

        Args:
            tests: at least one.
            traces: runs with the same word share what was traced of the step; without one, with the tests
                outside.
        """
        self._runs += 1
        own = self._shared / traces / f"{self._folder.name}-{self._runs}"
        own.parent.mkdir(exist_ok=True)
        options = ["-q", "-x", "-p", "no:cacheprovider", f"--basetemp={own}"]
        asked = {"folder": str(self._folder), "arguments": [*options, *tests], "seconds": SECONDS}
        print(json.dumps(asked), file=self._asked, flush=True)
        answer: Answer = json.loads(self._answers.readline())
        shutil.rmtree(own, ignore_errors=True)
        return answer

    @contextlib.contextmanager
    def planted(self, mutant: Mutant) -> Iterator[None]:
        """As long as this lasts, the copy has the fault."""
        text, path = mutant.planted(self._folder / "p2"), self._folder / "p2" / mutant.path
        original, status = path.read_bytes(), path.stat()
        path.write_text(text, encoding="utf-8")
        # Python tells by seconds and sizes which of its compiled files still hold.
        os.utime(path, (status.st_atime, status.st_mtime + 10 + self._runs))
        try:
            if path.suffix in (".c", ".h"):
                self._use_decoder(self._compiled(path))
            yield
        finally:
            path.write_bytes(original)
            os.utime(path, (status.st_atime, status.st_mtime))
            if path.suffix in (".c", ".h"):
                self._use_decoder(self._shared / "decoder.so")

    def _compiled(self, changed: Path) -> Path:
        """The decoder with one changed source; a changed header is compiled into all that know it."""
        objects = dict.fromkeys(_objects(self._shared))
        sources = [changed]
        if changed.suffix == ".h":
            native = self._folder / "p2" / NATIVE
            known = _including(changed, native)
            tried = {NATIVE.name, changed.parent.name, self._level}
            knowing = [path for path in sorted(native.rglob("*.c")) if _includes(path) & known]
            sources = [path for path in knowing if path.parent.name in tried]
        made = []
        for source in sources:
            name = _object_name(source)
            objects.pop(self._shared / "objects" / name)
            made.append(_compile(source, self._folder / name))
        return _linked([*objects, *made], self._folder / "decoder.so")

    def _use_decoder(self, library: Path) -> None:
        target = self._folder / "p2" / NATIVE / "_decoder.so"
        target.unlink(missing_ok=True)
        shutil.copy(library, target)


def folder_of(level: str) -> str:
    """Where a level's sources are."""
    return "avx512" if level in ("amx", "avx512") else "avx2" if level.startswith("avx") else "neon"


def traces_of(mutant: Mutant) -> str:
    """The word of those that a run with this fault may use: some are of traces of their own."""
    return "" if mutant.path not in _TRACED else mutant.name.replace(" ", "-").replace("/", "-")


def _copy(source: Path, target: Path) -> None:
    """What runs, its tests, and what Python has compiled of it."""
    for folder, folders, files in os.walk(source):
        here = Path(folder)
        folders[:] = [f for f in folders if not f.startswith(".") and (here != source or f not in _LEFT_OUT)]
        place = target / here.relative_to(source)
        place.mkdir(parents=True)
        for name in files:
            if Path(name).suffix in _SUFFIXES:
                shutil.copy2(here / name, place / name)


def _objects(shared: Path) -> list[Path]:
    """The decoder's sources, compiled without a fault, once for all processes."""
    folder = shared / "objects"
    with (shared / "objects.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            part = shared / "objects.part"
            part.mkdir()
            for source in sorted((ROOT / NATIVE).rglob("*.c")):
                _compile(source, part / _object_name(source))
            part.rename(folder)
    return sorted(folder.glob("*.o"))


def _object_name(source: Path) -> str:
    """Files of several folders have one name."""
    return f"{source.parent.name}-{source.stem}.o"


def _compile(source: Path, target: Path) -> Path:
    subprocess.run(["gcc", "-O1", "-pthread", "-fPIC", "-c", source, "-o", target], check=True)
    return target


def _linked(objects: Sequence[Path], target: Path) -> Path:
    part = target.with_name(f"{target.name}.{os.getpid()}")
    subprocess.run(["gcc", "-shared", "-pthread", *objects, "-o", part, "-lm"], check=True)
    part.replace(target)
    return target


def _includes(path: Path) -> set[Path]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return {(path.parent / line.split('"')[1]).resolve() for line in lines if line.startswith('#include "')}


def _including(header: Path, folder: Path) -> set[Path]:
    """A header, and those that include it, however far."""
    known, headers = {header.resolve()}, sorted(folder.resolve().rglob("*.h"))
    while more := {path for path in headers if _includes(path) & known} - known:
        known |= more
    return known
