"""Trace one step to ONNX: typed tensors, dynamic batch, the contract's names, the card inside."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx
import torch

from ..contract.card import Card, step_shapes
from ..contract.errors import P2Error
from ..contract.finite import MOST_WEIGHT, first_not_finite
from ..contract.precisions import TABLE, Precision
from ..contract.stamp import PROBE, PROBE_LOGITS, stamped
from ..version import __version__
from . import short_weights
from .fold import Weights
from .opset import OPSET, at_opset, check_opset
from .quantize import quantize
from .step import Step

MAX_BYTES = 2**31 - 2**20  # protobuf's limit for one message, less room for the graph itself


def step_graph(card: Card, weights: Weights, opset: int = OPSET) -> onnx.ModelProto:
    """The step of the model as a checked ONNX model, in the precision that the card names.

    Args:
        card: the model; its precision decides the tensors' types.
        weights: float32 tensors from `fold`.
        opset: ONNX operator set, from `opset.LOWEST` of the precision up.

    Raises:
        UsageError: the precision cannot be written in that operator set.
        P2Error: the file would be larger than one ONNX file can be, or a weight is not a finite number in
            that precision.
    """
    check_opset(opset, card.precision)
    size = sum(tensor.numel() for tensor in weights.values()) * card.format.bits // 8
    if not card.format.is_scaled and size > MAX_BYTES:
        smaller = [p.key for p in TABLE.values() if p.bits < card.format.bits and not p.is_widened]
        raise P2Error(
            f"the {card.precision} step would take {size / 2**30:.1f} GiB, and one ONNX file holds at most"
            f" 2 GiB: choose a smaller --precision ({', '.join(smaller[:-1])} or {smaller[-1]})"
        )
    short = not card.format.is_widened and not card.format.is_scaled
    dtype: torch.dtype = getattr(torch, card.precision) if short else torch.float32
    typed = {name: tensor.to(dtype) for name, tensor in weights.items()}
    _check_finite(typed, card.format)
    model = _trace(card, dtype)
    _anonymise(model)
    _fill(model.graph, typed)
    if card.format.is_widened:
        short_weights.store(model.graph)
    elif card.format.is_scaled:
        quantize(model.graph, card.precision)
    if opset != OPSET:
        model = at_opset(model, opset)
    nodes = {"p2.nodes_sha256": json.dumps(nodes_sha256(model.graph))}
    onnx.helper.set_model_props(model, card.to_metadata() | nodes)
    stamp(model)
    onnx.checker.check_model(model, full_check=True)
    return model


def stamp(model: onnx.ModelProto) -> None:
    """Write the checksum of graph and card into the file: the ONNX format itself has none.

    A runtime compares it on loading (`contract.stamp`). Whoever edits a graph on purpose stamps it again.
    """
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    graph = model.graph.SerializeToString(deterministic=True)
    onnx.helper.set_model_props(model, stamped(metadata, graph))


def add_probe(model: onnx.ModelProto, tokens: npt.NDArray[np.int64], logits: npt.NDArray[np.float32]) -> None:
    """Write down what a step says, and stamp it: so it can be told from what a tool may make of it.

    Args:
        model: the step.
        tokens: what it read from a zero state, int64 ``[length]``, at most `contract.stamp.PROBE_TOKENS`.
        logits: what followed, float32 ``[vocab]``.
    """
    rounded = [float(f"{logit:.6g}") for logit in logits[:PROBE_LOGITS]]
    probe = {PROBE: json.dumps({"tokens": tokens.tolist(), "logits": rounded})}
    onnx.helper.set_model_props(model, {e.key: e.value for e in model.metadata_props} | probe)
    stamp(model)


def nodes_sha256(graph: onnx.GraphProto) -> str:
    """SHA-256 over the encoded nodes in file order.

    A runtime that recognises it knows that the nodes are the ones traced here, so it may compute the
    same step in another way; a graph that was edited since is run as it stands.
    """
    digest = hashlib.sha256()
    for node in graph.node:
        digest.update(node.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _check_finite(weights: Weights, format: Precision) -> None:
    """Of the tensors as the file will have them: folding and fewer bits may have overflowed."""
    precision, roomier, kept = format.key, format.roomier, iter(weights.items())
    if format.is_widened:
        dtype = getattr(torch, precision)
        kept = ((name, tensor.to(dtype) if tensor.ndim == 2 else tensor) for name, tensor in kept)
    name = first_not_finite(((name, tensor.float().numpy()) for name, tensor in kept), MOST_WEIGHT)
    if name is not None:
        raise P2Error(
            f"{name} would hold NaN or infinity in {precision}, or a number beyond {MOST_WEIGHT:g}, so"
            " nothing was written"
            + (f": its weights are beyond 65,504, so choose --precision {roomier}" if roomier else "")
        )


def _trace(card: Card, dtype: torch.dtype) -> onnx.ModelProto:
    """The step with stand-ins for its weights.

    The tracer simplifies what it sees: it merges equal constants into one and drops a zero that is added.
    Nodes and names must not depend on what a model has learned, so every stand-in is a number of its own.
    """
    stand_ins = {
        name: torch.full((1,) * len(shape), 2.0 + number, dtype=dtype).expand(shape)
        for number, (name, shape) in enumerate(step_shapes(card).items())
    }
    step = Step(card, stand_ins, dtype).eval()
    batch = torch.export.Dim("batch", min=1, max=2**16)
    # A batch of 2 to trace with: 1 would be taken for a constant.
    token = torch.zeros(2, dtype=torch.int64)
    states = tuple(torch.zeros(2, card.hidden, dtype=dtype) for _ in card.state_names)
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                step,
                (token, *states),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["token", *(f"{name}_in" for name in card.state_names)],
                output_names=["logits", *(f"{name}_out" for name in card.state_names)],
                dynamic_shapes=({0: batch}, tuple({0: batch} for _ in states)),
            )
    except Exception as error:
        # The tracer wraps whatever happens inside it, Ctrl-C too, in errors of its own.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            cause = cause.__cause__ or cause.__context__
        raise P2Error(f"PyTorch could not trace the step: {str(error).splitlines()[0]}") from error
    assert program is not None
    model: onnx.ModelProto = program.model_proto
    return model


def _anonymise(model: onnx.ModelProto) -> None:
    """Leave out what tracing noted about the machine it ran on (source lines with full paths)."""
    model.producer_name, model.producer_version = "p2", __version__
    graph = model.graph
    graph.name = "p2_step"
    graph.ClearField("value_info")
    del model.functions[:], model.metadata_props[:], graph.metadata_props[:]
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{index}"
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    for tensor in graph.initializer:
        if not tensor.HasField("raw_data"):  # the runtime reads raw bytes only
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))


def _fill(graph: onnx.GraphProto, weights: Weights) -> None:
    """Put a model's weights where `_trace` had stand-ins, under the same names."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for name, weight in weights.items():
        tensors[name].CopyFrom(onnx.numpy_helper.from_array(weight.numpy(), name))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracer's remarks about itself (torchvision missing, deprecations) from the person."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
