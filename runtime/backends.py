"""Which of the processor's two ways runs a step graph: the compiled decoder, or ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..contract.errors import BackendMissing, UsageError
from .step_file import open_step

if TYPE_CHECKING:
    from .native.engine import NativeEngine
    from .onnxruntime.engine import OnnxEngine

NATIVE, ONNXRUNTIME = "native", "onnxruntime-cpu"
CPU_BACKENDS = (NATIVE, ONNXRUNTIME)


def open_step_engine(
    path: Path, threads: int | None = None, backend: str | None = None
) -> NativeEngine | OnnxEngine:
    """Load a step graph on the processor.

    The choice is by processor and model, never by the batch: a text must not depend on its neighbours.

    Args:
        path: of the .onnx file.
        threads: processor threads; None measures what is best.
        backend: one of `CPU_BACKENDS`; None is the compiled decoder where it can run the step.

    Raises:
        UsageError: no such backend.
        P2Error: the file cannot be read, breaks the contract, or the backend cannot run it here.
    """
    if backend not in (None, *CPU_BACKENDS):
        raise UsageError(f"the processor runs a .onnx file by {' or '.join(CPU_BACKENDS)}, not {backend!r}")
    step = open_step(path)
    if backend != ONNXRUNTIME:
        from .native.engine import NativeEngine, why_not

        if backend == NATIVE or why_not(step) is None:
            return NativeEngine(step, threads)
    from .onnxruntime.engine import OnnxEngine

    return OnnxEngine(step, threads)


def usable_backends(path: Path) -> list[str | None]:
    """Those that can run a step graph here, the one that is taken by itself first.

    Raises:
        BackendMissing: none can.
        P2Error: the file cannot be read, or breaks the contract.
    """
    from .native.engine import why_not
    from .onnxruntime.session import import_onnxruntime

    step = open_step(path)
    found: list[str | None] = [] if why_not(step) else [NATIVE]
    try:
        import_onnxruntime()
    except BackendMissing:
        if not found:
            raise
    else:
        found.append(ONNXRUNTIME)
    return found
