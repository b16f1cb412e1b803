"""Open a graph in ONNX Runtime without copying its weights into a message first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...contract.errors import BackendMissing, ContractError, P2Error
from ...contract.shell import install
from .. import huge_pages
from ..onnx_format import Graph, encode_model
from ..onnx_tensors import Tensor
from ..processor import saturates

if TYPE_CHECKING:
    import onnxruntime as ort

    from ..step_file import StepFile

# Larger tensors are handed over as they lie in memory. This also passes protobuf's limit of 2 GiB.
OUTSIDE = 1 << 16


def import_onnxruntime(gpu: bool = False) -> Any:
    """The onnxruntime module.

    Args:
        gpu: whether it is to run on an NVIDIA GPU.

    Raises:
        BackendMissing: it is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        advice = install("gpu") if gpu else f"{install('cpu')} (or with [gpu])"
        raise BackendMissing(f"running a .onnx engine needs ONNX Runtime: {advice}") from error
    return onnxruntime


def why_not(step: StepFile) -> str | None:  # noqa: ARG001 - the table's signature: it runs every step
    """Why ONNX Runtime cannot run a step here; None if it can."""
    try:
        import_onnxruntime()
    except BackendMissing as error:
        return str(error)
    return None


def first_line(error: Exception) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def answering(what: str, kind: type[P2Error] = ContractError) -> Iterator[None]:
    """Turn whatever ONNX Runtime raises, a class of its own for each status, into one sentence.

    Args:
        what: what was attempted, as the sentence says it: ``x.onnx: ONNX Runtime 1.22 refuses the graph``.
        kind: the error to raise.

    Raises:
        P2Error: of that kind; one that was raised inside passes.
    """
    try:
        yield
    except P2Error:
        raise
    except Exception as error:
        raise kind(f"{what}: {first_line(error)}") from error


def open_session(graph: Graph, opset: int, threads: int, profile: Path | None = None) -> ort.InferenceSession:
    """A session on ONNX Runtime's CPU provider.

    Args:
        graph: what to run.
        opset: ONNX operator set version of its operators.
        threads: threads for each operator.
        profile: where to write ONNX Runtime's trace of every operator; the name is completed by it.

    Raises:
        Exception: one of onnxruntime's own classes, if it refuses the graph (`answering`).
    """
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors reach the person as exceptions: not in the log as well
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if saturates():
        options.add_session_config_entry("session.x64quantprecision", "1")
    large = {name: tensor for name, tensor in graph.tensors.items() if len(tensor.raw) >= OUTSIDE}
    arrays = {name: _aligned(tensor) for name, tensor in large.items()}
    values = [runtime.OrtValue.ortvalue_from_numpy(array) for array in arrays.values()]
    if values:
        options.add_external_initializers(list(arrays), values)
    data = encode_model(graph, opset, outside=frozenset(large))
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    if sum(array.nbytes for array in arrays.values()) >= huge_pages.WORTHWHILE:
        huge_pages.collapse()
    return session


def _aligned(tensor: Tensor) -> npt.NDArray[np.generic]:
    """The elements, in memory that starts where such numbers may start."""
    array = tensor.array()
    return array if array.flags.aligned else array.copy()
