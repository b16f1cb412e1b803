"""Open any engine, whatever its kind, behind `spec.engine.Engine`."""

from __future__ import annotations

from pathlib import Path

from ..runtime.locate import locate
from ..spec.engine import Engine
from ..spec.errors import BackendMissing, UsageError

# What --backend takes: where a .onnx runs. The GPU's are the keys of `runtime.onnx_providers.PROVIDERS`.
BACKENDS = ("onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-rtx")


def open_engine(name: str | Path, threads: int | None = None, backend: str | None = None) -> Engine:
    """The engine that a name or path means: a checkpoint folder, a .onnx or a .plan.

    Args:
        name: as given to ``--engine``; `runtime.locate.locate` says where it is looked for.
        threads: processor threads, None to let the engine choose.
        backend: one of `BACKENDS`; None runs each kind of file as it usually is, a .onnx on the processor.

    Raises:
        UsageError: the backend is unknown or does not run this kind of file, or threads are given for
            one that runs on the GPU.
        P2Error: it is missing, damaged, breaks the contract, or cannot run here.
    """
    if backend is not None and backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}: choose one of {', '.join(BACKENDS)}")
    path, kind = locate(str(name))
    if backend is not None and kind != "onnx":
        what = "a plan" if kind == "plan" else "a checkpoint"
        raise UsageError(f"--backend {backend} runs .onnx files, and {path} is {what}")
    if backend is not None and backend != "onnxruntime-cpu":
        from ..runtime.onnx_gpu import open_onnx_gpu

        if threads is not None:
            raise UsageError(f"--threads is for engines on the processor; {backend} runs on the GPU")
        return open_onnx_gpu(path, backend)
    if kind == "onnx":
        from ..runtime.onnx_engine import open_onnx

        return open_onnx(path, threads)
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
