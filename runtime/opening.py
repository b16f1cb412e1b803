"""Open an engine: whatever `--engine` names, by whatever backend runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..contract.engine import Engine
from ..contract.errors import BackendMissing, UsageError
from .backends import BACKENDS, KINDS, Backend, selectable
from .locate import locate
from .step_file import StepFile, open_step


class ProcessorEngine(Engine, Protocol):
    """An engine on the processor.

    Attributes:
        threads: with which it writes one text.
    """

    threads: int


def open_engine(name: str | Path, threads: int | None = None, backend: str | None = None) -> Engine:
    """The engine that a name or path means: a checkpoint folder, a .onnx or a .plan.

    Args:
        name: as given to ``--engine``; `locate` says where it is looked for.
        threads: processor threads, None to let the engine choose.
        backend: what runs it, a key of `BACKENDS`; None runs each kind of file as it usually is: a .onnx on
            an NVIDIA GPU (`Backend.preferred`), if there is one and `threads` does not ask for the processor.

    Raises:
        UsageError: `threads` out of 1 to 256, or for what runs on the GPU; no such backend, or one for
            another kind of engine.
        P2Error: it is missing, damaged, breaks the contract, or cannot run here.
    """
    if threads is not None and not 1 <= threads <= 256:
        raise UsageError(f"threads must be 1 to 256, not {threads}")
    meant = kind_for(backend)
    path, kind = locate(str(name))
    if meant not in (None, kind):
        raise UsageError(f"--backend {backend} runs {KINDS[meant or kind]}, and {name} is {KINDS[kind]}")
    if kind == "plan":
        from .tensorrt.engine import open_plan

        if threads is not None:
            raise UsageError("--threads is for engines on the processor; a plan runs on the GPU")
        return open_plan(path, asked=str(name))
    if kind == "onnx" and backend is None and threads is None and (able := _preferred_here()):
        step = open_step(path)
        if first := _fitting(able, step):
            engine: Engine = first.open(step)
            return engine
    chosen = _on_the_processor(kind)[0] if backend is None else BACKENDS[backend]
    if kind == "onnx" and not chosen.gpu:
        return open_step_engine(path, threads, backend)
    return open_file(path, chosen, threads)


def _preferred_here() -> list[Backend]:
    """Those that are taken by themselves, before any on the processor, if this machine can run them."""
    return [one for one in BACKENDS.values() if one.preferred and not one.why_not()]


def _fitting(backends: list[Backend], step: StepFile) -> Backend | None:
    return next((one for one in backends if one.unfit_for(step) is None), None)


def open_file(path: Path, backend: Backend, threads: int | None = None) -> Engine:
    """Open a file of the backend's kind.

    Raises:
        UsageError: threads for what runs on the GPU.
        P2Error: it is missing, damaged, breaks the contract, or the backend cannot run it here.
    """
    if backend.gpu and threads is not None:
        raise UsageError(
            f"--threads is for engines on the processor; --backend {backend.key} runs on the GPU"
        )
    engine: Engine = backend.open(open_step(path) if backend.kind == "onnx" else path, threads)
    return engine


def open_checkpoint(path: Path, threads: int | None = None) -> Engine:
    """The eager PyTorch engine of a checkpoint; `threads` holds for all of PyTorch in this process.

    Raises:
        BackendMissing: PyTorch is not installed.
        P2Error: there is no checkpoint, or it is damaged.
    """
    return open_file(path, _on_the_processor("checkpoint")[0], threads)


def open_step_engine(path: Path, threads: int | None = None, backend: str | None = None) -> ProcessorEngine:
    """Load a step graph on the processor.

    The choice is by processor and model, never by the batch: a text must not depend on its neighbours.

    Args:
        path: of the .onnx file.
        threads: processor threads; None measures what is best.
        backend: what runs it; None is the first of the table that can.

    Raises:
        UsageError: no such backend on the processor.
        P2Error: the file cannot be read, breaks the contract, or the backend cannot run it here.
    """
    known = _on_the_processor("onnx")
    able = [one for one in known if backend in (None, one.key)]
    if not able:
        names = " or ".join(one.key for one in known)
        raise UsageError(f"the processor runs a .onnx file by {names}, not {backend!r}")
    step = open_step(path)
    *better, last = able
    chosen = next((one for one in better if one.unfit_for(step) is None), last)
    engine: ProcessorEngine = chosen.open(step, threads)
    return engine


def usable_backends(path: Path, *, gpu: bool = False) -> list[str | None]:
    """Those that can run a step graph on the processor, the one that is taken by itself first.

    Args:
        path: of the .onnx file.
        gpu: before them the one that is taken by itself where there is a GPU.

    Raises:
        BackendMissing: none can.
        P2Error: the file cannot be read, or breaks the contract.
    """
    step = open_step(path)
    reasons = {one.key: one.unfit_for(step) for one in _on_the_processor("onnx")}
    found: list[str | None] = [key for key, reason in reasons.items() if reason is None]
    if gpu and (first := _fitting(_preferred_here(), step)):
        found.insert(0, first.key)
    if not found:
        raise BackendMissing(str([*reasons.values()][-1]))  # the last runs every step, once it is installed
    return found


def kind_for(backend: str | None) -> str | None:
    """The kind of engine that a backend runs, or None without one.

    Raises:
        UsageError: there is no such backend.
    """
    if backend is None:
        return None
    known = [one.key for backends in selectable().values() for one in backends]
    if backend not in known:
        raise UsageError(f"unknown backend {backend!r}: choose one of {', '.join(known)}")
    return BACKENDS[backend].kind


def _on_the_processor(kind: str) -> list[Backend]:
    return [one for one in BACKENDS.values() if one.kind == kind and not one.gpu]
