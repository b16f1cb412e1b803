"""Weights in floats shorter than the arithmetic: how a step graph stores them, and how a GPU multiplies.

bfloat16 has 8 significant bits: enough for a weight, too few for a state that adds up over thousands of
steps (a cell at 256 could no longer count by one). So states, biases and the cell's arithmetic are float32.
The file widens its weights with a Cast in front of each product, for ONNX Runtime and others have no product
of bfloat16 numbers; a plan multiplies in bfloat16, inputs rounded as well: GPUs have fast units for that.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def store(graph: onnx.GraphProto) -> None:
    """Keep the matrices of a float32 step in bfloat16, in place, and widen what is read of them."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in tensors:
            _shorten(tensors[node.input[1]])
            nodes.append(_cast(node.input[1], f"{node.input[1]}_float"))
            node.input[1] = f"{node.input[1]}_float"
            nodes.append(node)
        elif node.op_type == "Gather" and node.input[0] in tensors:
            _shorten(tensors[node.input[0]])
            out = node.output[0]
            node.output[0] = f"{out}_short"
            nodes += [node, _cast(node.output[0], out)]
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def multiplied(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which products with stored bfloat16 weights are products of bfloat16 numbers."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {tensor.name for tensor in copy.graph.initializer if tensor.data_type == TensorProto.BFLOAT16}
    widened = {n.output[0]: n for n in copy.graph.node if n.op_type == "Cast" and n.input[0] in stored}
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        if node.op_type == "MatMul" and node.input[1] in widened:
            value, out = node.input[0], node.output[0]
            nodes.append(_cast(value, f"{out}_given", TensorProto.BFLOAT16))
            node.input[0], node.input[1] = f"{out}_given", widened[node.input[1]].input[0]
            node.output[0] = f"{out}_short"
            nodes += [node, _cast(f"{out}_short", out)]
        else:
            nodes.append(node)
    read = {name for node in nodes for name in node.input}
    del copy.graph.node[:]
    copy.graph.node.extend(n for n in nodes if n.output[0] in read or n.output[0] not in widened)
    return copy


def _shorten(tensor: TensorProto) -> None:
    """Finite float32 to the nearest bfloat16, its upper half; ties to even."""
    bits = np.ascontiguousarray(numpy_helper.to_array(tensor), np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16
    raw = rounded.astype("<u2").tobytes()
    tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.BFLOAT16, tensor.dims, raw, raw=True))


def _cast(value: str, out: str, to: int = TensorProto.FLOAT) -> onnx.NodeProto:
    return helper.make_node("Cast", [value], [out], name=f"Cast_{out}", to=to)
