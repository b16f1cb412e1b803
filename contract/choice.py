"""The choice of the next character as ONNX operators, for a graph that is compiled whole (a plan).

It says what `contract.sampling.choose` says, in a form that a captured CUDA graph can run: every setting
is an ordinary tensor on the device, and nothing is sorted. A character's position in the order of
the logits is the number of characters that come before it, and the probability before it is their
sum: reductions over a table of pairs that exists in no memory. (TopK takes its k from the host, at most
3840; CumSum is a loop in older TensorRTs. On a CPU sorting is cheaper: `runtime.onnxruntime.compose`.)
Characters with equal logits are kept or dropped together, as the definition's threshold does: with the
first of them, which only better ones precede. The last maximum is taken by reductions as well, since ArgMax
would be a kernel of its own, and its index another.

Inputs, besides the step's ``logits``: ``noise`` float32 ``[batch, vocab]``, scaled by the temperature,
and ``filters`` float32 ``[batch, 4]``, a row of `filter_row` for each stream. Output: ``next`` int64
``[batch]``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from .sampling import Sampling

NOISE, FILTERS, NEXT = "noise", "filters", "next"
FILTER_COLUMNS = ("tau", "top_k", "top_p", "min_p")

Floats = npt.NDArray[np.float32]

_INT64 = 7  # onnx.TensorProto.INT64


class Operator(NamedTuple):
    """One node: ONNX operator, names of its inputs and of its outputs, integer attributes."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, int]


def filter_row(sampling: Sampling, vocab: int) -> Floats:
    """The settings as the graph takes them, float32 ``[4]``: tau, top_k, top_p, min_p.

    What is off has a value that lets everything through, so one graph serves all settings.
    """
    if not sampling.filters:
        return np.array([1.0, vocab, np.inf, 0.0], np.float32)
    # Rounding can carry a sum of probabilities past 1: "all" must be out of its reach.
    top_p = sampling.top_p if sampling.top_p < 1 else np.inf
    return np.array([1.0 / sampling.temperature, sampling.kept(vocab), top_p, sampling.min_p], np.float32)


def operators() -> list[Operator]:
    """The nodes, in order; every name but the inputs and ``next`` begins with ``choice_``."""
    nodes: list[Operator] = []

    def add(op: str, inputs: str, output: str, **attributes: int) -> None:
        names = tuple(n if n in _OUTSIDE else f"choice_{n}" for n in (*inputs.split(), output))
        nodes.append(Operator(op, names[:-1], names[-1:], attributes))

    for index, column in enumerate(FILTER_COLUMNS):
        add("Slice", f"filters at_{index} at_{index + 1} at_1", column)  # [batch, 1]
    add("ReduceMax", "logits at_1", "best", keepdims=1)
    add("Sub", "logits best", "below")
    add("Mul", "below tau", "scaled")
    add("Exp", "scaled", "weights")
    # Pairs [batch, vocab, vocab]: does the other character (last axis) come before this one?
    add("Unsqueeze", "logits at_2", "this")
    add("Unsqueeze", "logits at_1", "other")
    add("Greater", "other this", "greater")
    add("Equal", "other this", "equal")
    add("Less", "other_number this_number", "lower")
    add("And", "equal lower", "ties")
    add("Or", "greater ties", "first")
    add("Where", "first one zero", "counted")
    add("ReduceSum", "counted at_2", "position", keepdims=0)
    add("Where", "greater one zero", "better")
    add("ReduceSum", "better at_2", "rank", keepdims=0)
    add("Unsqueeze", "weights at_1", "other_weights")
    add("Where", "greater other_weights zero", "weights_before")
    add("ReduceSum", "weights_before at_2", "before", keepdims=0)
    add("Less", "position top_k", "in_top_k")
    add("Where", "in_top_k weights zero", "top_weights")
    add("ReduceSum", "top_weights at_1", "total", keepdims=1)
    add("Mul", "total top_p", "limit")
    add("Less", "before limit", "in_top_p")
    add("Less", "rank top_k", "kept_by_k")
    add("GreaterOrEqual", "weights min_p", "in_min_p")
    add("And", "kept_by_k in_top_p", "in_both")
    add("And", "in_both in_min_p", "kept")
    add("Where", "kept logits minus_infinity", "kept_logits")
    add("Add", "kept_logits noise", "noisy_logits")
    add("ReduceMax", "noisy_logits at_1", "highest", keepdims=1)
    add("Equal", "noisy_logits highest", "is_highest")
    add("Where", "is_highest number last_number", "candidates")
    add("ReduceMin", "candidates at_1", "chosen", keepdims=0)
    add("Cast", "chosen", "next", to=_INT64)
    return nodes


_OUTSIDE = ("logits", NOISE, FILTERS, NEXT)


def constants(vocab: int) -> dict[str, npt.NDArray[np.generic]]:
    """The tensors that `operators` reads besides its inputs, by name."""
    numbers = np.arange(vocab, dtype=np.float32)
    values: dict[str, npt.NDArray[np.generic]] = {
        "one": np.array(1, np.float32),
        "zero": np.array(0, np.float32),
        "minus_infinity": np.array(-np.inf, np.float32),
        "last_number": np.array(vocab - 1, np.float32),  # a character, even if no logit is a number
        "number": numbers[None, :],
        "this_number": numbers[None, :, None],
        "other_number": numbers[None, None, :],
    }
    values |= {f"at_{index}": np.array([index], np.int64) for index in range(len(FILTER_COLUMNS) + 1)}
    return {f"choice_{name}": value for name, value in values.items()}
