"""Hand hostile inputs to a reader in a child process: it must say a sentence, soon, with little memory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from p2.contract.errors import P2Error

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "artifacts" / "trust" / "inputs"  # what a reader stumbled over

MOST_SECONDS = 5.0  # of a processor: others may have this machine too
SLACK = 64 << 20  # bytes that a reader may take beyond twice the file
KINDS = 12  # good files of a reader, at most: every cell in every precision
MOST_FAULTS = 5  # that one process goes on after
ADDRESSES = 16 << 30  # bytes of addresses a child may have: what asks for more is refused by the system

Files = dict[str, bytes]
"""Name in the folder -> content."""


@dataclass
class Reader:
    """Something that reads files.

    Attributes:
        name: in the report.
        good: files that are right, by number, from 0 to `KINDS` - 1.
        forge: the same, hostile.
        read: reads what is in a folder, and uses it a little; a `P2Error` refuses it.
        inputs: how many in `make trust`.
        weight: of its share of a limited time.
    """

    name: str
    good: Callable[[int], Files]
    forge: Callable[[Files, random.Random], Files]
    read: Callable[[Path], object]
    inputs: int = 500
    weight: float = 60


@dataclass
class Told:
    """What a batch of inputs came to."""

    inputs: int = 0
    refused: int = 0
    read: int = 0
    seconds: float = 0.0  # the slowest
    extra: float = 0.0  # MiB beyond twice the file, the most
    faults: list[str] = field(default_factory=list)


def try_batch(
    reader: Reader, folder: Path, rnd: random.Random, count: int, until: float | None = None
) -> Told:
    """Try so many inputs, or as many as there is time for, in a child; faults come back, the input is kept.

    Args:
        reader: of them.
        folder: for an input.
        rnd: what they are made by.
        count: at most so many.
        until: seconds of the epoch.
    """
    folder.mkdir(parents=True, exist_ok=True)
    inside, said = folder / "input", folder / "told.json"
    said.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            _child(reader, inside, said, rnd, count, until)
        except BaseException:  # a fault of the check itself
            said.write_text(json.dumps({"faults": [traceback.format_exc()]}))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        words = "it did not answer" if name in ("SIGALRM", "SIGPROF") else f"the process ended by {name}"
        return Told(count, faults=[f"{reader.name}: {words}; {kept(inside, reader.name)}"])
    return Told(**json.loads(said.read_text()))


def _child(
    reader: Reader, inside: Path, said: Path, rnd: random.Random, count: int, until: float | None
) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silent = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silent, stream)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    told = Told()
    write(inside, reader.good(0))
    reader.read(inside)  # imports and first uses are no input's
    for number in range(count):
        if until is not None and number and time.time() >= until:
            break
        try_one(reader, inside, reader.forge(reader.good(number % KINDS), rnd), told)
        if len(told.faults) > MOST_FAULTS:
            break
    said.write_text(json.dumps(vars(told)))


def try_one(
    reader: Reader, inside: Path, files: Files, told: Told, slack: int = SLACK, most: float = MOST_SECONDS
) -> None:
    """Try one input, and tell of it; this process ends where that takes far too long.

    Args:
        reader: of it.
        inside: the folder for it.
        files: the input.
        told: is added to.
        slack: bytes that it may take beyond twice the input.
        most: seconds of a processor that it may take.
    """
    write(inside, files)
    before = _peak(reset=True)
    started = time.process_time()
    signal.setitimer(signal.ITIMER_PROF, 4 * most)
    signal.alarm(int(60 * most))
    fault = ""
    try:
        reader.read(inside)
        told.read += 1
    except P2Error as error:
        told.refused += 1
        if not str(error).isprintable() or not 0 < len(str(error)) < len(str(inside)) + 1000:
            fault = f"no sentence: {str(error)!a:.2000}"
    except BaseException:
        fault = traceback.format_exc()
    signal.setitimer(signal.ITIMER_PROF, 0)
    signal.alarm(0)
    seconds = time.process_time() - started
    size = sum(map(len, files.values()))
    extra = _peak() - before - 2 * size
    told.inputs += 1
    told.seconds = max(told.seconds, seconds)
    told.extra = max(told.extra, extra / 2**20)
    if seconds > most:
        fault = fault or f"{seconds:.1f} seconds"
    if extra > slack:
        fault = fault or f"{extra >> 20} MiB more than twice the {size:,} bytes"
    if fault:
        told.faults.append(f"{reader.name}: {fault.strip()}; {kept(inside, reader.name)}")


def write(folder: Path, files: Files) -> None:
    """Lay an input, and nothing else, into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def kept(inside: Path, name: str) -> str:
    """Keep an input; where it is."""
    place = KEPT / f"{name.replace(' ', '-').replace('/', '-')}-{time.time_ns()}"
    with contextlib.suppress(OSError):
        shutil.copytree(inside, place)
    return f"the input is {place}"


def _peak(reset: bool = False) -> int:
    """Bytes that this process held at most since the last reset; with a reset, those that it holds."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    key = "VmRSS:" if reset else "VmHWM:"
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
