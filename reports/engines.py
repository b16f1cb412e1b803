"""Open any engine, whatever its kind, behind `spec.engine.Engine`."""

from __future__ import annotations

from pathlib import Path

from ..runtime.backends import AUTO, open_step_engine
from ..runtime.locate import locate
from ..spec.engine import Engine
from ..spec.errors import BackendMissing, UsageError


def open_engine(name: str | Path, threads: int | None = None, backend: str = AUTO) -> Engine:
    """The engine that a name or path means: a checkpoint folder, a .onnx or a .plan.

    Args:
        name: as given to ``--engine``; `runtime.locate.locate` says where it is looked for.
        threads: processor threads, None to let the engine choose.
        backend: what runs a .onnx file, one of `runtime.backends.BACKENDS`.

    Raises:
        UsageError: threads for a plan, which runs on the GPU; a backend for anything but a .onnx file.
        P2Error: it is missing, damaged, breaks the contract, or cannot run here.
    """
    path, kind = locate(str(name))
    if kind == "onnx":
        return open_step_engine(path, threads, backend)
    if backend != AUTO:
        raise UsageError(f"--backend is for .onnx files, and {path} is none")
    if kind == "plan":
        from ..runtime.tensorrt import open_plan

        if threads is not None:
            raise UsageError("--threads is for engines on the processor; a plan runs on the GPU")
        return open_plan(path, asked=str(name))
    return open_checkpoint(path, threads)


def open_checkpoint(path: Path, threads: int | None = None) -> Engine:
    """The eager PyTorch engine of a checkpoint; `threads` holds for all of PyTorch in this process.

    Raises:
        BackendMissing: PyTorch is not installed.
    """
    try:
        from ..trainer.eager import open_checkpoint as open_eager
    except ModuleNotFoundError as error:
        raise BackendMissing(
            f"running a checkpoint needs PyTorch ({error.name} is not installed): pip install 'p2[train]',"
            " or run an exported .onnx, which does not"
        ) from error
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return open_eager(path)
