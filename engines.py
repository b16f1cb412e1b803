"""Open any engine, whatever its kind, behind `contract.engine.Engine`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from .contract.engine import Engine
from .contract.errors import BackendMissing, UsageError
from .contract.shell import install
from .runtime.backends import CPU_BACKENDS, open_step_engine
from .runtime.locate import locate

# What --backend takes, by the kind of engine that it runs. ONNX Runtime's on a GPU are the keys of
# `runtime.onnxruntime.providers.PROVIDERS`.
_ON_A_GPU = ("onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-rtx")
BACKENDS = {"checkpoint": ("eager", "cuda-graph"), "onnx": (*CPU_BACKENDS, *_ON_A_GPU)}
_KINDS = {"checkpoint": "a checkpoint folder", "onnx": "a .onnx file", "plan": "a .plan file"}


def open_engine(name: str | Path, threads: int | None = None, backend: str | None = None) -> Engine:
    """The engine that a name or path means: a checkpoint folder, a .onnx or a .plan.

    Args:
        name: as given to ``--engine``; `runtime.locate.locate` says where it is looked for.
        threads: processor threads, None to let the engine choose.
        backend: what runs it, one of `BACKENDS`; None runs each kind of file as it usually is.

    Raises:
        UsageError: threads for what runs on the GPU, no such backend, or one for another kind of engine.
        P2Error: it is missing, damaged, breaks the contract, or cannot run here.
    """
    meant = kind_for(backend)
    path, kind = locate(str(name))
    if meant not in (None, kind):
        raise UsageError(f"--backend {backend} runs {_KINDS[meant or kind]}, and {name} is {_KINDS[kind]}")
    if backend in _ON_A_GPU:
        assert backend is not None
        from .runtime.onnxruntime.gpu import open_onnx_gpu

        if threads is not None:
            raise UsageError(
                f"--threads is for engines on the processor; --backend {backend} runs on the GPU"
            )
        return open_onnx_gpu(path, backend)
    if kind == "onnx":
        return open_step_engine(path, threads, backend)
    if kind == "plan":
        from .runtime.tensorrt.engine import open_plan

        if threads is not None:
            raise UsageError("--threads is for engines on the processor; a plan runs on the GPU")
        return open_plan(path, asked=str(name))
    if backend == "cuda-graph":
        if threads is not None:
            raise UsageError(
                "--threads is for engines on the processor; --backend cuda-graph runs on the GPU"
            )
        with _needing_torch():
            from .export.cuda_graph import open_cuda_graph
        return open_cuda_graph(path)
    return open_checkpoint(path, threads)


def kind_for(backend: str | None) -> str | None:
    """The kind of engine that a backend runs, or None without one.

    Raises:
        UsageError: there is no such backend.
    """
    if backend is None:
        return None
    for kind, names in BACKENDS.items():
        if backend in names:
            return kind
    known = ", ".join(name for names in BACKENDS.values() for name in names)
    raise UsageError(f"unknown backend {backend!r}: choose one of {known}")


def open_checkpoint(path: Path, threads: int | None = None) -> Engine:
    """The eager PyTorch engine of a checkpoint; `threads` holds for all of PyTorch in this process.

    Raises:
        BackendMissing: PyTorch is not installed.
    """
    with _needing_torch():
        from .trainer.eager import open_checkpoint as open_eager
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
    return open_eager(path)


@contextlib.contextmanager
def _needing_torch() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise BackendMissing(
            f"running a checkpoint needs PyTorch ({error.name} is not installed): {install('train')},"
            " or run an exported .onnx, which does not"
        ) from error
