"""Tracing is the slow part of an export, and the same for all models of one cell, depth and float type.

So it is done once in a run of the tests, for all its processes; sizes are put into what was traced
(`export/test_graph.py` proves that nothing else depends on them).
"""

from __future__ import annotations

import fcntl
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from p2.contract.card import Card

if TYPE_CHECKING:
    import onnx

HIDDEN, VOCABULARY = 32, "".join(map(chr, range(32, 62)))
FOLDER: list[Path] = []  # of what was traced


def trace_once() -> None:
    """From now on; a test that needs a trace of its own takes ``inspect.unwrap(graph._trace)``."""
    import onnx

    from p2.export import graph

    original = graph._trace
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def trace(card, dtype):
        small = min(card.hidden, card.vocab) < 3  # the tracer leaves out what a size of 1 makes needless
        traced = card if small else card.with_(hidden=HIDDEN, vocabulary=VOCABULARY)
        name = f"{card.form.name}-{card.layers}-{traced.hidden}-{traced.vocab}-{dtype}"
        content = _kept(name, lambda: original(traced, dtype).SerializeToString())
        found = onnx.load_model_from_string(content)
        return found if small else _resized(found, card)

    graph._trace = trace


def _resized(model: onnx.ModelProto, card: Card) -> onnx.ModelProto:
    """With other sizes; what stands in for weights is replaced by them in any case."""
    from onnx import TensorProto, numpy_helper

    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim[1:]:
            dim.dim_value = card.vocab if value.name == "logits" else card.hidden
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.INT64:  # how wide the parts are that gates are split into
            widths = numpy_helper.to_array(tensor) // HIDDEN * card.hidden
            tensor.CopyFrom(numpy_helper.from_array(widths, tensor.name))
    return model


def _kept(name: str, make: Callable[[], bytes]) -> bytes:
    """Of several processes one makes it, and the others wait."""
    path = FOLDER[0] / name
    with path.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            path.write_bytes(make())
    return path.read_bytes()
