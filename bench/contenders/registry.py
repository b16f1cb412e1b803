"""All contenders, in the report's order."""

from __future__ import annotations

from ...contract.card import CPU_PRECISIONS, PRECISIONS
from ...contract.errors import UsageError
from ...runtime.backends import BACKENDS
from ..contender import Contender, Model
from .cuda import CudaEager, CudaGraph, OrtCuda
from .cuda_compile import CudaCompile
from .limited import OpenVinoAvx2, OpenVinoOperatorAvx2, P2Level
from .openvino_contender import OpenVino, OpenVinoOperator
from .operator_graph import ensure
from .ort_operator import OrtOperator
from .p2_gpu import P2Gpu, P2TensorRT
from .p2_onnx import P2Onnx, P2OnnxRuntime
from .torch_cell import TorchCell, TorchCompile
from .torch_modules import TorchEager


def contenders() -> list[Contender]:
    """One of each: p2 first, then its peers, then those that need a GPU."""
    return [
        *(P2Onnx(precision) for precision in PRECISIONS),
        *(P2OnnxRuntime(precision) for precision in CPU_PRECISIONS if precision != "float16"),
        TorchEager(),
        TorchCell(),
        TorchCompile(),
        OrtOperator(),
        OpenVino(),
        OpenVinoOperator(),
        *(P2TensorRT(precision) for precision in PRECISIONS),
        *(
            P2Gpu(backend, precision)
            for backend in BACKENDS.values()
            if backend.gpu and backend.kind != "plan"
            for precision in backend.precisions
        ),
        CudaEager(),
        CudaGraph(),
        CudaCompile(),
        OrtCuda(),
    ]


def on_request() -> list[Contender]:
    """Those that take part only where they are named."""
    levels = ("avx512", "avxvnni", "avx2")
    return [
        *(P2Level(level, precision) for level in levels for precision in PRECISIONS),
        OpenVinoAvx2(),
        OpenVinoOperatorAvx2(),
    ]


def by_key(key: str) -> Contender:
    """The contender of that key.

    Raises:
        UsageError: there is none; the message names those that there are.
    """
    known = {contender.key: contender for contender in (*contenders(), *on_request())}
    if key not in known:
        raise UsageError(f"unknown contender {key!r}: choose from {', '.join(known)}")
    return known[key]


def prepare(model: Model) -> None:
    """Make the files that peers load, as their users would have done before.

    A contender whose file is not there makes it when it is loaded, which then counts as its load time
    and, since that takes PyTorch, as its memory.

    Raises:
        P2Error: as `operator_graph.ensure`.
    """
    ensure(model)
