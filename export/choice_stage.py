"""Put the choice of the next character behind a step, so that a plan needs no host between two steps."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from ..contract.card import Card
from ..contract.choice import FILTER_COLUMNS, FILTERS, NEXT, NOISE, constants, operators


def add_choice(graph: onnx.GraphProto, card: Card) -> None:
    """Append `contract.choice` to a step.

    Afterwards it has two more inputs, ``noise`` float32 ``[batch, vocab]`` and ``filters`` float32
    ``[batch, 4]``, and one more output, ``next`` int64 ``[batch]``. A graph without the step's ``token``
    and ``logits`` stays as it is: whoever compiles it refuses it.

    Args:
        graph: a step, contract version 1; changed in place.
        card: the model.
    """
    shapes = {value.name: value.type.tensor_type.shape.dim for value in (*graph.input, *graph.output)}
    logits = [dimension.dim_value for dimension in shapes.get("logits", ())]
    if "token" not in shapes or logits[1:] != [card.vocab]:
        return
    batch = shapes["token"][0].dim_param
    graph.node.extend(
        helper.make_node(op, inputs, outputs, name=outputs[0], **attributes)
        for op, inputs, outputs, attributes in operators()
    )
    graph.initializer.extend(
        numpy_helper.from_array(value, name) for name, value in constants(card.vocab).items()
    )
    for name, width in ((NOISE, card.vocab), (FILTERS, len(FILTER_COLUMNS))):
        graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, width]))
    graph.output.append(helper.make_tensor_value_info(NEXT, TensorProto.INT64, [batch]))
