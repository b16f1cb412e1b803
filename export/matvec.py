"""Matrix products of a step written as sums, for a plan that serves batch 1 alone and is faster so (`forms`).

TensorRT compiles a MatMul of one row to a kernel of its own, and dequantises int8 and float8 weights in yet
another, which writes them out as float32 before they are read again. ``sum over k of x[k] * w[m, k]`` says
the same in operators that fuse: the cell before the product, the dequantising and the product become
one kernel, so a step of two layers takes three. With larger batches the sum would read the weights once
for each row, so a plan for those keeps its MatMuls.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..contract.precisions import TABLE

_SHORT = tuple(precision.element for precision in TABLE.values() if precision.bits == 16)


def as_sums(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of a step graph in which every product with constant weights is a sum.

    The weights are stored ``[outputs, inputs]``. A GRU's two products of a layer, with the input and with the
    state, become one sum over stacked matrices. Products of 16-bit floats are added in float32.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    _Rewriter(copy.graph).run()
    return copy


class _Rewriter:
    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._scaled = {n.output[0]: n for n in graph.node if n.op_type == "DequantizeLinear"}
        self._nodes: list[NodeProto] = []

    def run(self) -> None:
        products = {self._matrix(node): node for node in self._graph.node if self._matrix(node)}
        used: set[str] = set()
        for node in self._graph.node:
            matrix = self._matrix(node)
            if node.op_type == "DequantizeLinear" or matrix in used:
                continue
            if not matrix:
                self._nodes.append(node)
                continue
            # `w_x_LL` meets the input and `w_LL` the state of the same layer (`contract.card.step_shapes`).
            partner = matrix.replace("w_x_", "w_") if matrix.startswith("w_x_") else ""
            group = [node, products[partner]] if partner in products else [node]
            used.update(self._matrix(member) for member in group)
            self._sum(matrix, group)
        del self._graph.node[:]
        self._graph.node.extend(_in_order(self._nodes))
        read = {name for node in self._nodes for name in node.input}
        kept = [tensor for name, tensor in self._constants.items() if name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)

    def _matrix(self, node: NodeProto) -> str:
        """The contract's name of the weights that a node multiplies by, or the empty string."""
        if node.op_type != "MatMul":
            return ""
        name = str(node.input[1])
        if name in self._scaled:
            return str(self._scaled[name].input[0]).removesuffix("_q")
        return name if name in self._constants else ""

    def _make(self, operator: str, inputs: list[str], outputs: list[str], **attributes: object) -> str:
        name = f"{operator}_{outputs[0]}"
        self._nodes.append(helper.make_node(operator, inputs, outputs, name=name, **attributes))
        return outputs[0]

    def _axis(self, number: int) -> str:
        return self._constant(f"axis_{number}", np.array([number], np.int64))

    def _constant(self, name: str, array: npt.NDArray[np.generic]) -> str:
        self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def _sum(self, name: str, group: list[NodeProto]) -> None:
        """Write the products of `group`, whose matrices have one shape, as one sum."""
        weights, kind = self._weights(name, group)
        rows = [
            self._make("Unsqueeze", [node.input[0], self._axis(1)], [f"{node.output[0]}_row"])
            for node in group
        ]
        if len(rows) == 1:  # [batch, 1, inputs] * [outputs, inputs]
            (row,), last = rows, 2
        else:  # [batch, 2, 1, inputs] * [2, outputs, inputs]
            stacked = self._make("Concat", rows, [f"{name}_stacked"], axis=1)
            row, last = self._make("Unsqueeze", [stacked, self._axis(2)], [f"{name}_rows"]), 3
        terms = self._make("Mul", [row, weights], [f"{name}_terms"])
        if kind in _SHORT:
            terms = self._make("Cast", [terms], [f"{name}_wide"], to=TensorProto.FLOAT)
        outs = [node.output[0] for node in group]
        total = f"{name}_total" if kind in _SHORT or len(group) > 1 else outs[0]
        self._make("ReduceSum", [terms, self._axis(last)], [total], keepdims=0)
        if kind in _SHORT:
            total = self._make("Cast", [total], [f"{name}_sum" if len(group) > 1 else outs[0]], to=kind)
        if len(group) > 1:
            parts = [f"{out}_part" for out in outs]
            self._make("Split", [total], parts, axis=1, num_outputs=len(group))
            for part, out in zip(parts, outs, strict=True):
                self._make("Squeeze", [part, self._axis(1)], [out])

    def _weights(self, name: str, group: list[NodeProto]) -> tuple[str, int]:
        """The matrices of `group`, transposed and stacked, and their element type."""
        matrices = [node.input[1] for node in group]
        if matrices[0] not in self._scaled:
            weights = [numpy_helper.to_array(self._constants[matrix]) for matrix in matrices]
            kind = self._constants[matrices[0]].data_type
            turned = np.stack([w.T for w in weights]) if len(group) > 1 else weights[0].T
            return self._constant(f"{name}_turned", np.ascontiguousarray(turned)), kind
        scaled = [self._scaled[matrix] for matrix in matrices]
        weights, scales = (
            [numpy_helper.to_array(self._constants[node.input[side]]).T for node in scaled] for side in (0, 1)
        )
        # A scale for each output is a vector; blocks of inputs have a matrix, `[outputs, blocks]`.
        blocks = {a.name: a.i for a in scaled[0].attribute}.get("block_size", 0)
        layout = {"axis": 1, "block_size": blocks} if blocks else {"axis": 0}
        q = self._constant(f"{name}_q_turned", np.ascontiguousarray(np.concatenate(weights)))
        scale = self._constant(f"{name}_scale_turned", np.ascontiguousarray(np.concatenate(scales)))
        result = self._make("DequantizeLinear", [q, scale], [f"{name}_turned"], **layout)
        if len(group) > 1:
            shape = self._constant(f"{name}_shape", np.array([len(group), *weights[0].shape], np.int64))
            result = self._make("Reshape", [result, shape], [f"{name}_stack"])
        return result, TensorProto.FLOAT


def _in_order(nodes: list[NodeProto]) -> list[NodeProto]:
    """The nodes, each after those whose results it reads: a stacked product may read what came later."""
    makers = {name: node for node in nodes for name in node.output}
    ordered: dict[str, NodeProto] = {}

    def place(node: NodeProto) -> None:
        if node.output[0] not in ordered:
            for name in node.input:
                if name in makers:
                    place(makers[name])
            ordered[node.output[0]] = node

    for node in nodes:
        place(node)
    return list(ordered.values())
