"""The weights of a step graph, held to its card before any backend computes an address from them.

A checksum says that a file is what somebody wrote, not that it makes sense. Whoever computes a step by the
card (`native`, `cells`, `prefill`) takes the tensors by the contract's names, so exactly those have to be
there, in the forms in which `export.quantize` writes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.card import Card, step_shapes, weight_bits
from ..contract.finite import MOST_WEIGHT, first_not_finite
from ..contract.integers import MOST
from ..contract.precisions import TABLE
from .onnx_format import Graph
from .onnx_tensors import FLOAT, FLOAT16, TYPE_NAMES, Tensor

Shape = tuple[int, ...]
Forms = dict[str, tuple[tuple[int, ...], tuple[Shape, ...]]]  # by name: element types and shapes that will do

_WIDER = "int8"  # what a matrix has that keeps more bits than its file's precision (`weight_bits`)

_ROWS = 64  # of the output layer that are looked at together

_PIECE = 1 << 20  # bytes of a tensor that are looked at together: short floats are widened for it


def expected(card: Card) -> Forms:
    """The forms that every tensor of the contract may have in a file of this card."""
    forms: Forms = {}
    for name, shape in step_shapes(card).items():
        own = card.format
        if not name.startswith("w_") or not own.is_scaled:
            types: tuple[int, ...] = (own.arithmetic,)
            if own.is_widened:
                types = (own.element, own.arithmetic)
            forms[name] = (types, (shape,))
            continue
        allowed = [own]
        if weight_bits(card.precision, name) != own.bits:  # files of 0.1.0 have its own bits there
            allowed.insert(0, TABLE[_WIDER])
        types = tuple(one.element for one in allowed)
        rows, columns = shape
        blocks = {
            block for one in allowed for block in one.blocks or () if block < rows and rows % block == 0
        }
        in_blocks = ((rows // block, columns) for block in sorted(blocks))
        forms[f"{name}_q"] = (types, (shape,))
        forms[f"{name}_scale"] = ((FLOAT,), ((columns,), *in_blocks))
    return forms


def breach(card: Card, graph: Graph) -> str | None:
    """What is wrong with the weights of p2's own nodes, in words; None if they fit the card.

    A name of the contract that no node reads may be missing: equal constants can be one. Such a graph is to
    be run as it stands (`complete`).
    """
    tensors, forms = graph.tensors, expected(card)
    read = {name for node in graph.nodes for name in node.inputs}
    for name, (types, shapes) in forms.items():
        tensor = tensors.get(name)
        if tensor is None:
            if name in read:
                return f"the weights {name} are missing"
            continue
        if tensor.type not in types:
            wanted = " or ".join(map(_type_name, types))
            return f"the weights {name} must be {wanted}, and are {_type_name(tensor.type)}"
        if tensor.shape not in shapes:
            wanted = " or ".join(map(_shown, shapes))
            return f"the weights {name} must be {wanted}, and are {_shown(tensor.shape)}"
        if name.endswith("_scale") and not (np.asarray(tensor.array()) > 0).all():
            return f"the weights {name} must be positive, and are not"
        if card.format.integers and tensor.type == FLOAT and _largest(tensor) > MOST:
            return f"the weights {name} must be below {MOST:g}, and are not"
    for name in step_shapes(card):
        # Whoever takes a matrix by its name must not find another form of it.
        other = next((form for form in (name, f"{name}_q") if form in tensors and form not in forms), None)
        if other:
            return f"there are weights {other} that its precision, {card.precision}, does not have"
    return None


def complete(card: Card, graph: Graph) -> bool:
    """Whether every tensor of the contract is there under its own name."""
    return graph.tensors.keys() >= expected(card).keys()


def not_finite(graph: Graph, as_traced: bool) -> str | None:
    """The name of the first float constant with NaN or an infinity in it; None if there is none.

    Args:
        graph: any.
        as_traced: its constants are weights, none of which is beyond `MOST_WEIGHT` either.
    """
    return first_not_finite(_floats(graph), *([MOST_WEIGHT] if as_traced else []))


def overflows(card: Card, graph: Graph) -> bool:
    """Whether an output layer in float16 could make a logit that is no number, of states within -1 and 1.

    In float32 `MOST_WEIGHT` keeps all sums far from it.
    """
    if card.format.arithmetic != FLOAT16:
        return False
    matrix, bias = (np.asarray(graph.tensors[name].array()) for name in ("w_out", "b_out"))
    sums = np.abs(bias.astype(np.float64))
    for start in range(0, len(matrix), _ROWS):
        sums += np.abs(matrix[start : start + _ROWS].astype(np.float32)).sum(axis=0)
    return bool(sums.max() > np.finfo(np.float16).max)


def _largest(tensor: Tensor) -> float:
    array = np.asarray(tensor.array())
    return float(max(array.max(), -array.min()))


def _floats(graph: Graph) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    sizes = {one.element: one.bits // 8 for one in TABLE.values() if not one.integers}
    for tensor in graph.tensors.values():
        if tensor.type not in sizes:
            continue
        for start in range(0, len(tensor.raw), _PIECE):
            yield tensor.name, _piece(tensor, sizes[tensor.type], start)


def _piece(tensor: Tensor, size: int, start: int) -> npt.NDArray[Any]:
    raw = memoryview(tensor.raw)[start : start + _PIECE]
    return replace(tensor, shape=(len(raw) // size,), raw=raw).array()


def _type_name(code: int) -> str:
    return TYPE_NAMES.get(code, f"type {code}")


def _shown(shape: Shape) -> str:
    return f"[{', '.join(map(str, shape))}]"
