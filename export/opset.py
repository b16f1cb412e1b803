"""Operator sets: which one a step is written in, and the same step in another one."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from ..contract.errors import UsageError
from ..contract.precisions import TABLE

OPSET = 21  # the first with block-wise DequantizeLinear and weights of 4 bits
LOWEST = {precision.key: precision.opset for precision in TABLE.values()}


def check_opset(opset: int, precision: str) -> None:
    """Make sure that a step can be written in an operator set.

    Raises:
        UsageError: it cannot; the message names the lowest that the precision has, or the highest.
    """
    lowest = LOWEST[precision]
    if opset < lowest:
        raise UsageError(f"--opset {opset}: the lowest for {precision} is {lowest} ({TABLE[precision].why})")
    if opset > OPSET:
        raise UsageError(f"--opset {opset}: the highest is {OPSET}, which later runtimes read as well")


def at_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    """A copy of a step, with or without the choice, as operator set `opset`, 13 to 21, writes it.

    What differs in between: Split into equal parts counts its outputs from 18 on, and ReduceMax and ReduceMin
    take their axes as an input; before, they would overlook that and reduce all axes. The file's format
    version is the lowest that goes with the set: an older runtime refuses any newer one.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    newer = opset >= 18
    constants = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        names = [attribute.name for attribute in node.attribute]
        if node.op_type in ("ReduceMax", "ReduceMin") and not newer and len(node.input) == 2:
            axes = numpy_helper.to_array(constants[node.input.pop()]).tolist()
            node.attribute.append(helper.make_attribute("axes", axes))
        elif node.op_type == "Split" and len(node.input) == 1:
            if newer and "num_outputs" not in names:
                node.attribute.append(helper.make_attribute("num_outputs", len(node.output)))
            elif not newer:
                kept = [attribute for attribute in node.attribute if attribute.name != "num_outputs"]
                del node.attribute[:]
                node.attribute.extend(kept)
    del copy.opset_import[:]
    copy.opset_import.append(helper.make_opsetid("", opset))
    copy.ir_version = helper.find_min_ir_version_for(list(copy.opset_import))
    return copy
