"""A step graph that p2 did not write, fitted to a processor: what ONNX Runtime would do worse in every step
is done once, before the loop.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ...contract.precisions import TABLE
from ..onnx_format import Graph, Node
from ..onnx_tensors import FLOAT, FLOAT8, FLOAT16, INT8, INT32, INT64, Tensor
from .products import COLUMN_BLOCK, block_product, pack_blocks

Floats = npt.NDArray[np.float32]

_WIDE = (INT32, INT64)  # integers that float32 does not hold exactly

_SHORT = [precision.element for precision in TABLE.values() if precision.bits == 16]
_SCALED = [precision.element for precision in TABLE.values() if precision.is_scaled]


def fit_to_cpu(graph: Graph) -> tuple[list[Node], dict[str, Tensor]]:
    """Operators and constants of a step that p2 did not write, as a CPU runs it best, numerically the same
    or closer to float32.

    Shorter floats are widened once, now, instead of around every operator in every step.
    DequantizeLinear and MatMul become one product on integers.
    """
    tensors = dict(graph.tensors)
    nodes = [Node(n.op, list(n.inputs), list(n.outputs), n.domain, dict(n.attributes)) for n in graph.nodes]
    _widen(nodes, tensors)
    sources = {name for node in nodes if _scaled_matrix(node, tensors) for name in node.inputs}
    nodes = _widen_float8(nodes, tensors)
    nodes = _fold_constants(_fuse_integer_products(nodes, tensors), tensors)
    read = {name for node in nodes for name in node.inputs}
    return nodes, {name: tensor for name, tensor in tensors.items() if name in read or name not in sources}


def _widen(nodes: list[Node], tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.type in _SHORT:
            tensors[name] = Tensor.of(name, np.asarray(tensor.array(), np.float32))
    for node in nodes:
        if node.op == "Cast" and node.integer("to", FLOAT) in _SHORT:
            node.attributes = Node.make("Cast", [], [], to=FLOAT).attributes


def _widen_float8(nodes: list[Node], tensors: dict[str, Tensor]) -> list[Node]:
    """DequantizeLinear(float8, a scale for each output) becomes a float32 constant."""
    kept: list[Node] = []
    for node in nodes:
        found = _scaled_matrix(node, tensors)
        if found is None or found[0].type != FLOAT8 or len(found[1].shape) != 1:
            kept.append(node)
            continue
        q, scales = found
        name = node.outputs[0]
        widened = np.asarray(q.array(), np.float32) * np.asarray(scales.array(), np.float32)
        tensors[name] = Tensor.of(name, widened)
    return kept


def _fold_constants(nodes: list[Node], tensors: dict[str, Tensor]) -> list[Node]:
    """What is left of DequantizeLinear over constants, computed now: ONNX Runtime fails on it in a loop."""
    kept: list[Node] = []
    for node in nodes:
        given = [tensors.get(name) for name in node.inputs if name]
        constant = [tensor for tensor in given if tensor is not None and tensor.type not in _WIDE]
        axis, block = node.integer("axis", 1), node.integer("block_size", 0)
        axis += len(constant[0].shape) if axis < 0 and constant else 0
        if (
            node.op != "DequantizeLinear"
            or len(node.outputs) != 1
            or len(constant) < len(given)
            or not _spread_over(constant, axis, block)
        ):
            kept.append(node)
            continue
        q, scales, *zero = (np.asarray(tensor.array(), np.float32) for tensor in constant)
        tensors[node.outputs[0]] = Tensor.of(node.outputs[0], _dequantised(q, scales, zero, axis, block))
    return kept


def _spread_over(constant: list[Tensor], axis: int, block: int) -> bool:
    """Whether scales and zero points are one number, one for each place on an axis, or one for a block."""
    if len(constant) not in (2, 3):
        return False
    shape, *others = (tensor.shape for tensor in constant)
    if all(math.prod(other) == 1 for other in others):
        return True
    if not 0 <= axis < len(shape) or not 0 <= block <= shape[axis]:
        return False
    in_blocks = (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :]) if block else None
    return all(math.prod(other) == 1 or other in ((shape[axis],), in_blocks) for other in others)


def _dequantised(q: Floats, scales: Floats, zero: list[Floats], axis: int, block: int) -> Floats:
    def spread(values: Floats) -> Floats:
        if values.size == 1:
            return values.reshape(())
        if values.ndim == 1:
            return values.reshape([-1 if number == axis % q.ndim else 1 for number in range(q.ndim)])
        return np.repeat(values, block, axis=axis)[tuple(map(slice, q.shape))]

    return np.asarray((q - (spread(zero[0]) if zero else 0)) * spread(scales), np.float32)


def _scaled_matrix(node: Node, tensors: dict[str, Tensor]) -> tuple[Tensor, Tensor] | None:
    """The constants of a DequantizeLinear as `export.quantize` writes it: a matrix, and its scales for each
    output, or for each block of rows and output; None for any other node.
    """
    if node.op != "DequantizeLinear" or len(node.inputs) != 2 or len(node.outputs) != 1:
        return None
    q, scales = (tensors.get(name) for name in node.inputs)
    if q is None or scales is None or len(q.shape) != 2 or q.type not in _SCALED:
        return None
    rows, columns = q.shape
    block, axis = node.integer("block_size", 0), node.integer("axis", 1)
    by_output = block == 0 and axis == 1 and scales.shape == (columns,)
    by_block = block in (16, 32, 64, 128) and axis == 0 and scales.shape == (-(-rows // block), columns)
    return (q, scales) if (by_output or by_block) and scales.type in (FLOAT, FLOAT16) else None


def _fuse_integer_products(nodes: list[Node], tensors: dict[str, Tensor]) -> list[Node]:
    """DequantizeLinear(q, scale) -> MatMul(x, .) becomes MatMulNBits(x, packed q, scale)."""
    scaled = {}
    for node in nodes:
        found = _scaled_matrix(node, tensors)
        if found is not None and found[0].type != FLOAT8:
            scaled[node.outputs[0]] = node, *found
    kept: list[Node] = []
    for node in nodes:
        product = node.op == "MatMul" and len(node.inputs) == 2 and len(node.outputs) == 1
        product = product and node.inputs[1] in scaled
        kept.append(_fuse(node, *scaled[node.inputs[1]], tensors) if product else node)
    unread = scaled.keys() - {name for node in kept for name in node.inputs}
    return [node for node in kept if unread.isdisjoint(node.outputs)]


def _fuse(product: Node, source: Node, q: Tensor, scales: Tensor, tensors: dict[str, Tensor]) -> Node:
    bits = 8 if q.type == INT8 else 4
    rows, columns = q.shape
    block = source.integer("block_size", 0)
    by_block = np.asarray(scales.array(), np.float32)
    if block == 0:  # a scale per output: every block repeats it
        block = COLUMN_BLOCK
        by_block = np.tile(by_block, (-(-rows // block), 1))
    name = source.outputs[0]  # a tensor may be shared: the packed form has a name of its own
    packed, by_output = f"{name}_packed", f"{name}_scales"
    tensors[packed] = Tensor.of(packed, pack_blocks(np.asarray(q.array(), np.int8), bits, block))
    tensors[by_output] = Tensor.of(by_output, np.ascontiguousarray(by_block.T).reshape(-1))
    return block_product(
        [product.inputs[0], packed, by_output], product.outputs[0], rows, columns, bits, block
    )
