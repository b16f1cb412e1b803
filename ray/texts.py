"""Texts for any number of prompts, written by the workers of a cluster with Ray Data.

What goes through Ray is which rows are to be written, not the rows: a worker reads its part and writes it.
One that dies is replaced, and its part is written again; what is there is never written twice. Where they die
again and again at the same, the job ends.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..contract.arguments import whole_number
from ..contract.engine import Engine
from ..contract.errors import BackendMissing, P2Error, UsageError
from ..contract.shell import install
from ..runtime.generate import Request, random_seed, sampling_of
from ..runtime.opening import open_engine
from . import job as jobs
from .rows import Part, find, split

ROWS = 1024  # of a part: what is lost when a worker dies
# Deaths at one part, or at a few parts that Ray hands out together; and of one worker, wherever it is.
DEATHS, DEATHS_OF_ONE = 8, 100


@dataclass(frozen=True)
class Done:
    """A part that has been written.

    Attributes:
        path: its file.
        rows: prompts in it.
        worker: process that wrote it.
        node: machine that it ran on.
    """

    path: Path
    rows: int
    worker: int
    node: str


@dataclass(frozen=True)
class Written:
    """What a job has come to.

    Attributes:
        folder: where the texts are; the names of the files sort as their rows do.
        seed: of all texts.
        rows: prompts in all.
        parts: files in all.
        before: of these, files that were there already.
    """

    folder: Path
    seed: int
    rows: int
    parts: int
    before: int


def write_texts(
    engine: str | os.PathLike[str],
    prompts: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    *,
    length: int = 500,
    seed: int | None = None,
    num_samples: int = 1,
    first_stream: int = 0,
    temperature: float | None = None,
    tau: float | None = None,
    greedy: bool = False,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    stop: Iterable[str] = (),
    on_unknown: str = "error",
    column: str = "prompt",
    format: str = "parquet",
    rows: int = ROWS,
    workers: int | None = None,
    cpus: float = 1,
    gpus: float = 0,
    backend: str | None = None,
    threads: int | None = None,
    done: Callable[[Done], None] = lambda _: None,
) -> Written:
    """Write texts for all prompts; called again, it goes on with what is missing.

    Text t, counted over all prompts and samples, has the stream ``first_stream + t``: it is what
    ``p2 generate --first-stream`` writes for it, whoever writes it and however often a worker dies.

    Args:
        engine: a ``.onnx`` or ``.plan`` that every machine of the cluster sees under this path.
        prompts: ``.jsonl`` or ``.parquet`` files, folders of them or patterns, seen by every machine.
        folder: where the texts go, seen by every machine; one job a folder.
        length, seed, num_samples, first_stream, temperature, tau, greedy, top_k, top_p, min_p, stop,
            on_unknown: as `api.request` takes them; the folder keeps a seed that was drawn.
        column: of the prompts. A line of JSON may also be the prompt alone.
        format: of the texts, ``parquet`` or ``jsonl``.
        rows: prompts of one file of texts.
        workers: processes; None is as many as the cluster has processors (or GPUs) for.
        cpus, gpus: of a worker.
        backend: what runs the engine, as ``--backend``.
        threads: of a worker; None is `cpus`, where the processor runs the engine.
        done: is told of every part as it is finished.

    Raises:
        P2Error: the folder holds another job, a prompt cannot be read or written for, the cluster has no room
            for a worker, workers die again and again. What has been written stays.
        UsageError: a value is out of its range.
        BackendMissing: Ray is not installed.
    """
    if format not in ("parquet", "jsonl"):
        raise UsageError(f"format is parquet or jsonl, not {format!r}")
    whole_number(rows, "rows", 1, 1 << 40)
    if workers is not None:
        whole_number(workers, "workers", 1, 1 << 20)
    if seed is not None:
        whole_number(seed, "seed", 0, (1 << 64) - 1)
    if not (cpus >= 0 and gpus >= 0 and cpus + gpus > 0):
        raise UsageError("a worker needs cpus or gpus")
    request = Request(
        length=length,
        seed=random_seed() if seed is None else seed,
        num_samples=num_samples,
        first_stream=first_stream,
        sampling=sampling_of(temperature, tau, greedy, top_k, top_p, min_p),
        stop=(stop,) if isinstance(stop, str) else tuple(stop),
        on_unknown=on_unknown,
    )
    with _needing():
        path, card = jobs.locate_engine(engine)
        if threads is None and not gpus and path.endswith(".onnx"):
            threads = max(1, int(cpus))
        files = find(prompts)
        asked = jobs.Job(path, backend, threads, os.path.abspath(folder), format, column, request)
        parts = split(files, rows, column, _on_the_cluster)
        job = jobs.begin(asked, card, files, rows, seeded=seed is not None)
        missing = [part for part in parts if not job.path(part).exists()]
        if missing:
            _write(job, missing, _workers(workers, len(missing), cpus, gpus), cpus, gpus, done)
    count = sum(part.count for part in parts)
    return Written(Path(folder), job.request.seed, count, len(parts), len(parts) - len(missing))


class Writer:
    """A worker: it opens the model once, and writes part after part."""

    def __init__(self, job: jobs.Job) -> None:
        self._job = job
        self._engine: Engine | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write the part that a row of the dataset stands for."""
        part = Part(**row)
        answer = {"path": str(self._job.path(part)), "rows": part.count, "worker": os.getpid()}
        problem = ""
        try:
            if self._engine is None:
                self._engine = open_engine(self._job.engine, self._job.threads, self._job.backend)
            self._job.write(self._engine, part)
        except P2Error as error:  # Ray would take it for a failure of the worker
            problem = str(error)
        return answer | {"node": os.uname().nodename, "problem": problem}


def _write(
    job: jobs.Job, parts: Sequence[Part], workers: int, cpus: float, gpus: float, done: Callable[[Done], None]
) -> None:
    import ray.data

    context = ray.data.DataContext.get_current()
    shown, context.enable_progress_bars = context.enable_progress_bars, False
    try:
        dataset = ray.data.from_items(
            [asdict(part) for part in parts], override_num_blocks=min(len(parts), 16 * workers)
        ).map(
            Writer,
            fn_constructor_kwargs={"job": job},
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=cpus,
            num_gpus=gpus,
            max_task_retries=DEATHS - 1,
            max_restarts=DEATHS_OF_ONE,
        )
        for row in dataset.iter_rows():
            if row["problem"]:
                raise P2Error(row["problem"])
            done(Done(Path(row["path"]), row["rows"], row["worker"], row["node"]))
    except ray.exceptions.RayActorError as error:
        raise P2Error(
            f"workers died again and again at the same prompts, as they do where memory is short: what has"
            f" been written stays in {job.folder}, and the same call goes on with the rest"
        ) from error
    finally:
        context.enable_progress_bars = shown


def _workers(asked: int | None, parts: int, cpus: float, gpus: float) -> int:
    import ray

    _connect()
    room = ray.cluster_resources()
    each = {name: size for name, size in (("CPU", cpus), ("GPU", gpus)) if size}
    most = min(int(room.get(name, 0) // size) for name, size in each.items())
    if most < (asked or 1):
        wants = ", ".join(f"{size:g} {name}" for name, size in each.items())
        has = ", ".join(f"{room.get(name, 0):g} {name}" for name in each)
        raise P2Error(f"there is no room for {asked or 1} workers of {wants} each: the cluster has {has}")
    return min(asked or most, parts)


def _on_the_cluster(function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
    if len(arguments) < 2:
        return [function(*one) for one in arguments]
    import ray

    _connect()
    remote = ray.remote(function)
    found: list[Any] = ray.get([remote.remote(*one) for one in arguments])
    return found


def _connect() -> None:
    import ray

    if not ray.is_initialized():
        ray.init(log_to_driver=False)


@contextlib.contextmanager
def _needing() -> Iterator[None]:
    try:
        import pyarrow  # noqa: F401
        import ray.data  # noqa: F401

        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in ("ray", "pyarrow", "pandas"):
            raise
        raise BackendMissing(f"{missing} is not installed: {install('ray')}") from error
