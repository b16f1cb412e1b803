"""Trainings in worker processes, each kept as soon as it is finished, in a file named by its settings.

Two processes of one thread each are faster than one of two threads, since the products are small.
What is there is not trained again: the same command goes on where a killed one stopped, and other settings
make other files.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import queue
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict

from ...contract.documents import read_document
from ...contract.errors import P2Error
from ...contract.files import make_folder, remove_leftovers, write_json
from ...contract.schema import Count, Measure, Within
from ...render.progress import Progress
from ..document import Seconds
from .training import ToyOptions

VERSION = 1
"""Of what a training does: another version does not go on with the files of this one."""

_TELL_EVERY = 10  # updates
_LISTEN_SECONDS = 0.2

Record = dict[str, Any]
"""A finished training: ``options``, ``loss`` and ``accuracy`` of every update, ``converged``, ``tests``,
``parameters``, ``seconds`` (``wall`` and ``cpu`` of its own, ``elapsed`` since the one kept before it)."""


class Runs:
    """The trainings of a plan in a folder.

    Args:
        folder: where their files are; others of other plans may be there too.
        plan: the trainings.

    Raises:
        P2Error: the folder cannot be written to.
    """

    def __init__(self, folder: Path, plan: Sequence[ToyOptions]) -> None:
        self.folder = make_folder(folder)
        remove_leftovers(self.folder)
        self.plan = list(plan)
        self._kept = time.perf_counter()

    @property
    def missing(self) -> list[ToyOptions]:
        """Trainings that are not finished."""
        return [one for one in self.plan if not self.path(one).exists()]

    @property
    def others(self) -> int:
        """How many trainings of other settings are there."""
        return len({*self.folder.glob("*.json")} - {self.path(one) for one in self.plan})

    def path(self, options: ToyOptions) -> Path:
        """Where a training's record is."""
        return self.folder / f"{name(options)}.json"

    def keep(self, options: ToyOptions, record: Record) -> None:
        """Write a finished training, with its share of the time that all of them take together."""
        now = time.perf_counter()
        record["seconds"]["elapsed"] = now - self._kept
        write_json(self.path(options), record)
        self._kept = now

    def records(self) -> list[Record]:
        """All trainings, in the order of the plan.

        Raises:
            P2Error: a file is missing or damaged.
        """
        return [_record(self.path(one), one) for one in self.plan]


class _Test(TypedDict):
    numbers: Measure | None
    tested: Count
    right: Count


_Tests = TypedDict("_Tests", {"0": _Test, "1": _Test})


class _Took(Seconds):
    elapsed: Measure


class _Parameters(TypedDict):
    recurrent: Count
    output: Count


class _Kept(TypedDict):
    """The type of a kept training."""

    options: dict[str, Any]
    converged: int | None
    parameters: _Parameters
    tests: dict[str, _Tests]
    seconds: _Took
    loss: Annotated[list[Measure], Within(1)]
    accuracy: Annotated[list[Measure], Within(1)]


def _record(path: Path, options: ToyOptions) -> Record:
    found: Record = read_document(path, _Kept)
    if found["options"] != dataclasses.asdict(options):
        raise P2Error(f"{path} is damaged: its options are not those of its name; remove it to train anew")
    if len(found["loss"]) != len(found["accuracy"]):
        raise P2Error(f"{path} is damaged: loss and accuracy differ in length; remove it to train anew")
    return found


def seconds_of(records: Sequence[Record]) -> Seconds:
    """Wall time of every piece together, and processor time of every training."""
    return {
        "wall": sum(one["seconds"]["elapsed"] for one in records),
        "cpu": sum(one["seconds"]["cpu"] for one in records),
    }


def name(options: ToyOptions) -> str:
    """A file name that tells a training from all others."""
    content = json.dumps({"version": VERSION, **dataclasses.asdict(options)}, sort_keys=True)
    key = hashlib.sha256(content.encode()).hexdigest()[:8]
    return f"{options.cell}-T{options.magnitude}-{options.sampling}-seed{options.seed}-{key}"


def run_all(runs: Runs, workers: int, progress: Progress) -> None:
    """Train what is missing.

    Raises:
        P2Error: a training failed, or a worker was killed; what is finished stays.
    """
    missing = runs.missing
    done = len(runs.plan) - len(missing)
    if done:
        progress.say(
            f"{done} of {len(runs.plan)} trainings are in {runs.folder}"
            + (": going on" if missing else "; remove them to train anew")
        )
    elif runs.others:
        progress.say(f"the {runs.others} trainings in {runs.folder} have other settings: starting anew")
    progress.phase("training", len(runs.plan))
    progress.done(done)
    if not missing:
        return
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    with _pool(context, min(workers, len(missing)), told) as pool:
        waiting = {pool.submit(_train, options): options for options in missing}
        keys, running = {name(options) for options in missing}, dict[str, int]()
        while waiting:
            finished, _ = wait(waiting, timeout=_LISTEN_SECONDS, return_when=FIRST_COMPLETED)
            for future in finished:
                options = waiting.pop(future)
                record = _result(future, options)
                runs.keep(options, record)
                progress.say(f"  {describe(options)}: {outcome(record)}")
                progress.done()
            running |= {key: updates for key, updates in _told(told) if key in keys}
            for key in keys - {name(options) for options in waiting.values()}:
                running.pop(key, None)
            progress.now(", ".join(f"{key.rsplit('-', 1)[0]}: {n}" for key, n in sorted(running.items())))


def describe(options: ToyOptions) -> str:
    """A training in a few words."""
    return f"{options.cell} T={options.magnitude} {options.sampling} seed {options.seed}"


def outcome(record: Record) -> str:
    """How it went."""
    converged = record["converged"]
    how = (
        f"converged after {converged} updates"
        if converged
        else f"not converged in {len(record['loss'])} updates"
    )
    return f"{how}, {record['seconds']['wall']:.0f} s"


def _result(future: Future[Record], options: ToyOptions) -> Record:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise P2Error(
            "a worker process was killed (was there enough memory?): the same command goes on"
        ) from error
    except P2Error as error:
        raise P2Error(f"{describe(options)}: {error}") from error


def _told(told: Any) -> Iterator[tuple[str, int]]:
    while True:
        try:
            yield told.get_nowait()
        except queue.Empty:
            return


@contextmanager
def _pool(context: Any, workers: int, told: Any) -> Iterator[ProcessPoolExecutor]:
    """Worker processes that are gone afterwards, whatever happens."""
    pool = ProcessPoolExecutor(workers, context, initializer=_begin, initargs=(told, os.getpid()))
    try:
        yield pool
    except BaseException:
        for process in list(pool._processes.values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: dict[str, Any] = {}


def _begin(told: Any, parent: int) -> None:
    """A worker process begins: one thread, and Ctrl-C is the parent's affair."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    _worker.update(told=told, parent=parent)


def _train(options: ToyOptions) -> Record:
    from .training import train

    key = name(options)

    def tell(updates: int) -> None:
        if updates % _TELL_EVERY == 0:
            if os.getppid() != _worker["parent"]:
                os._exit(1)  # the parent was killed: nobody waits for this training
            _worker["told"].put((key, updates))

    return to_record(options, train(options, tell))


def to_record(options: ToyOptions, run: Any) -> Record:
    """A finished training as JSON; curves to five digits, for the files' sake."""
    return {
        "options": dataclasses.asdict(options),
        "converged": run.converged,
        "parameters": run.model.parameter_count(),
        "tests": run.tests,
        "seconds": run.seconds,
        "loss": [float(f"{value:.5g}") for value in run.loss],
        "accuracy": [round(value, 6) for value in run.accuracy],
    }
