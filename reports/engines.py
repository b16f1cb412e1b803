"""Open any engine, whatever its kind, behind `spec.engine.Engine`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ..runtime.backends import AUTO, STEP_BACKENDS, open_step_engine
from ..runtime.locate import locate
from ..spec.engine import Engine
from ..spec.errors import BackendMissing, UsageError

# What `--backend` may name, by the kind of file that it runs.
BACKENDS = {"onnx": STEP_BACKENDS, "checkpoint": ("eager", "cuda-graph"), "plan": ()}


def open_engine(name: str | Path, threads: int | None = None, backend: str = AUTO) -> Engine:
    """The engine that a name or path means: a checkpoint folder, a .onnx or a .plan.

    Args:
        name: as given to ``--engine``; `runtime.locate.locate` says where it is looked for.
        threads: processor threads, None to let the engine choose.
        backend: what runs it, one of `BACKENDS`; `AUTO` is the first that can.

    Raises:
        UsageError: threads for what runs on the GPU, no such backend, or one for another kind of file.
        P2Error: it is missing, damaged, breaks the contract, or cannot run here.
    """
    runs = next((kind for kind, known in BACKENDS.items() if backend in known), None)
    if backend != AUTO and runs is None:
        known = ", ".join([AUTO, *(name for names in BACKENDS.values() for name in names)])
        raise UsageError(f"unknown backend {backend!r}: choose one of {known}")
    path, kind = locate(str(name))
    if backend != AUTO and kind != runs:
        is_for = "a checkpoint folder" if runs == "checkpoint" else "a .onnx file"
        is_one = f"a {path.suffix} file" if path.is_file() else "a checkpoint folder"
        raise UsageError(f"--backend {backend} runs {is_for}, and {name} is {is_one}")
    if kind == "onnx":
        return open_step_engine(path, threads, backend)
    if kind == "plan":
        from ..runtime.tensorrt import open_plan

        if threads is not None:
            raise UsageError("--threads is for engines on the processor; a plan runs on the GPU")
        return open_plan(path, asked=str(name))
    if backend == "cuda-graph":
        if threads is not None:
            raise UsageError(
                "--threads is for engines on the processor; --backend cuda-graph runs on the GPU"
            )
        with _needing_torch():
            from ..export.cuda_graph import open_cuda_graph
        return open_cuda_graph(path)
    return open_checkpoint(path, threads)


def open_checkpoint(path: Path, threads: int | None = None) -> Engine:
    """The eager PyTorch engine of a checkpoint; `threads` holds for all of PyTorch in this process.

    Raises:
        BackendMissing: PyTorch is not installed.
    """
    with _needing_torch():
        from ..trainer.eager import open_checkpoint as open_eager
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
            f"running a checkpoint needs PyTorch ({error.name} is not installed): pip install 'p2[train]',"
            " or run an exported .onnx, which does not"
        ) from error
