"""Weight-only quantisation inside the graph: DequantizeLinear in front of every MatMul.

Symmetric. With 8 bits every output has one float32 scale; float8 is E4M3 and has 4 significant bits at every
size from 2^-6 to 448 of them. With 4 bits each run of up to 128 weights of an output has a scale
(`contract.card.block_for`), and the output layer keeps 8 bits (`contract.card.weight_bits`).
Standard operators (opset 21), so ONNX Runtime, TensorRT and TensorRT-RTX all read the same file. The
folded table and the biases stay in float: a step reads one row of them.

An input width that is no multiple of 16 gets one scale per output, which costs accuracy at 4 bits.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..contract.card import block_for, weight_bits
from ..contract.precisions import TABLE

FLOAT8_MAX = 448.0
SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7)


def quantize_blocks(
    weights: npt.NDArray[np.float32], bits: int, block: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round weights to signed integers of `bits` bits, a scale for each block of rows.

    With 8 bits scale = max|w| / 127 over the block, q = round(w / scale): the largest weight of a block
    is represented exactly, and no error exceeds half a scale. With 4 bits the scale is that of
    max|w| / 7 times `SHRINKS` with the least squared error over the block: 16 values lie closer together when
    the largest weights are cut off a little.

    Args:
        weights: float32 ``[inputs, outputs]``.
        bits: 8 or 4.
        block: weights that share a scale; divides the inputs.

    Returns:
        q int8 ``[inputs, outputs]`` and scales float32 ``[inputs / block, outputs]``.
    """
    rows, columns = weights.shape
    grouped = weights.reshape(rows // block, block, columns)
    top = 2 ** (bits - 1) - 1
    widest = np.abs(grouped).max(axis=1) / np.float32(top)
    widest[widest == 0] = 1.0  # an all-zero block: any scale reproduces it
    scales, least = widest, np.full(widest.shape, np.inf, np.float32)
    for shrink in SHRINKS if bits == 4 else ():
        tried = widest * np.float32(shrink)
        error = np.square(_round(grouped, tried, top) * tried[:, None] - grouped).sum(axis=1)
        scales, least = np.where(error < least, tried, scales), np.minimum(error, least)
    return _round(grouped, scales, top).astype(np.int8).reshape(rows, columns), scales


def quantize_float8(
    weights: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Round weights to float8 E4M3 (no infinities), a scale for each column: max|w| / 448.

    Args:
        weights: float32 ``[inputs, outputs]``.

    Returns:
        the bytes, uint8 ``[inputs, outputs]``, and scales float32 ``[1, outputs]``.
    """
    import torch

    scales = np.abs(weights).max(axis=0, keepdims=True) / np.float32(FLOAT8_MAX)
    scales[scales == 0] = 1.0
    # Division by a scale too small for its own bits may exceed the largest float8.
    inside = np.clip(weights / scales, -FLOAT8_MAX, FLOAT8_MAX)
    rounded = torch.from_numpy(inside).to(torch.float8_e4m3fn)
    return rounded.view(torch.uint8).numpy(), scales


def _round(
    grouped: npt.NDArray[np.float32], scales: npt.NDArray[np.float32], top: int
) -> npt.NDArray[np.float32]:
    rounded: npt.NDArray[np.float32] = np.clip(np.rint(grouped / scales[:, None]), -top - 1, top)
    return rounded


def quantize(graph: onnx.GraphProto, precision: str) -> None:
    """Replace the weights of every MatMul in `graph` by integers and a DequantizeLinear, in place.

    Args:
        graph: a traced float32 step.
        precision: ``float8``, ``int8`` or ``int4``.
    """
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in initializers:
            name = node.input[1]
            weights = numpy_helper.to_array(initializers[name])
            bits = weight_bits(precision, name)
            assert bits is not None
            block = block_for(len(weights), bits)
            if not TABLE[precision].integers:
                packed, scales = quantize_float8(weights)
                tensor = helper.make_tensor(
                    f"{name}_q", TensorProto.FLOAT8E4M3FN, packed.shape, packed.tobytes(), raw=True
                )
            else:
                q, scales = quantize_blocks(weights, bits, block)
                tensor = _integers(q, f"{name}_q", bits, TABLE[precision].element)
            # One scale per column is spelt as a scale per output, without blocks.
            whole = block == len(weights)
            layout = {"axis": 1} if whole else {"axis": 0, "block_size": block}
            initializers[name].CopyFrom(tensor)
            graph.initializer.append(numpy_helper.from_array(scales[0] if whole else scales, f"{name}_scale"))
            nodes.append(
                helper.make_node(
                    "DequantizeLinear",
                    [f"{name}_q", f"{name}_scale"],
                    [f"{name}_float"],
                    name=f"DequantizeLinear_{name}",
                    **layout,
                )
            )
            node.input[1] = f"{name}_float"
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _integers(q: npt.NDArray[np.int8], name: str, bits: int, element: int) -> TensorProto:
    if bits == 8:
        return numpy_helper.from_array(q, name)
    # ONNX packs two of 4 bits into a byte, the first in the low half, over the flattened tensor.
    flat = q.reshape(-1).view(np.uint8) & 0x0F
    if len(flat) % 2:
        flat = np.append(flat, np.uint8(0))
    packed = flat[0::2] | (flat[1::2] << 4)
    return helper.make_tensor(name, element, q.shape, packed.tobytes(), raw=True)
