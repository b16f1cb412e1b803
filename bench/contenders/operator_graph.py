"""The model as everybody exports it: a graph with ONNX's own LSTM, GRU or RNN operator.

What torch.onnx.export makes of nn.Embedding, nn.LSTM and nn.Linear, in the form that suits runtimes
best: the sequence comes first, so that nothing is transposed, and every layer's state is an input of
its own, so that nothing is sliced or put together.

| name | type | shape |
| --- | --- | --- |
| ``tokens`` | int64 | ``[length, batch]`` |
| ``h_00_in`` ... (``c_00_in`` ...) | float32 | ``[1, batch, hidden]``, one per layer |
| ``logits`` | float32 | ``[length, batch, vocab]`` |
| ``h_00_out`` ... (``c_00_out`` ...) | float32 | as the inputs |
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...contract.card import Card
from ...contract.cells import order
from ...contract.errors import P2Error
from ...contract.files import write_bytes
from ..contender import Model

Arrays = dict[str, npt.NDArray[np.float32]]

OPSET = 17
IR_VERSION = 8  # what came with that operator set: every runtime reads it


def ensure(model: Model) -> Path:
    """The file with a model's operator graph, beside its float32 step; made if it is not there.

    The name carries the weights' checksum, so another model's graph is never taken for this one's.

    Raises:
        P2Error: the checkpoint cannot be read, is too large for one file, or the file cannot be written.
    """
    path = model.steps["float32"].with_name(f"operator-{model.card.checkpoint_sha256[:16]}.onnx")
    if not path.exists():
        from ...export.graph import MAX_BYTES
        from ...trainer import checkpoint

        found = checkpoint.load(model.checkpoint)
        arrays = {name: tensor.numpy() for name, tensor in found.model_state.items()}
        size = sum(array.nbytes for array in arrays.values())
        if size > MAX_BYTES:
            raise P2Error(
                f"{model.name} takes {size / 2**30:.1f} GiB with recurrent operators, and one ONNX file holds"
                " at most 2 GiB: choose a smaller model"
            )
        write_bytes(path, operator_graph(found.card, arrays))
    return path


def operator_graph(card: Card, parameters: Arrays) -> bytes:
    """The graph as the bytes of an .onnx file.

    Args:
        card: the model.
        parameters: float32 under the names of ``CharModel.state_dict``.
    """
    from onnx import TensorProto, helper, numpy_helper

    floats, states = TensorProto.FLOAT, card.state_names
    state_shape = [1, "batch", card.hidden]
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["length", "batch"])]
    outputs = [helper.make_tensor_value_info("logits", floats, ["length", "batch", card.vocab])]
    for name in states:
        inputs.append(helper.make_tensor_value_info(f"{name}_in", floats, state_shape))
        outputs.append(helper.make_tensor_value_info(f"{name}_out", floats, state_shape))

    nodes = [helper.make_node("Gather", ["embedding", "tokens"], ["x_00"])]
    weights: dict[str, npt.NDArray[Any]] = {
        "embedding": parameters["embedding.weight"],
        "direction": np.array([1], np.int64),
        "w_out": np.ascontiguousarray(parameters["output.weight"].T),
        "b_out": parameters["output.bias"],
    }
    attributes: dict[str, Any] = {"hidden_size": card.hidden} | dict(card.form.attributes)
    for layer in range(card.layers):
        weights |= _layer_weights(card, parameters, layer)
        own = [name for name in states if name.endswith(f"_{layer:02d}")]
        given = [f"x_{layer:02d}", *(f"{kind}_{layer:02d}" for kind in ("w", "r", "b")), ""]
        nodes += [
            helper.make_node(
                card.form.title,
                [*given, *(f"{name}_in" for name in own)],
                [f"y_{layer:02d}", *(f"{name}_out" for name in own)],
                **attributes,
            ),
            helper.make_node("Squeeze", [f"y_{layer:02d}", "direction"], [f"x_{layer + 1:02d}"]),
        ]
    nodes += [
        helper.make_node("MatMul", [f"x_{card.layers:02d}", "w_out"], ["product"]),
        helper.make_node("Add", ["product", "b_out"], ["logits"]),
    ]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "operators", inputs, outputs, tensors)
    opset = [helper.make_opsetid("", OPSET)]
    proto = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="p2")
    data: bytes = proto.SerializeToString()
    return data


def _layer_weights(card: Card, parameters: Arrays, layer: int) -> Arrays:
    """W ``[1, G*H, inputs]``, R ``[1, G*H, H]`` and B ``[1, 2*G*H]`` of a layer, in ONNX's gate order."""

    def reorder(name: str) -> npt.NDArray[np.float32]:
        gates = np.split(parameters[f"rnn.{name}_l{layer}"], card.gates)
        return np.concatenate([gates[index] for index in order(card.form.torch_gates, card.form.onnx_gates)])

    biases = np.concatenate([reorder("bias_ih"), reorder("bias_hh")])
    return {
        f"w_{layer:02d}": reorder("weight_ih")[None],
        f"r_{layer:02d}": reorder("weight_hh")[None],
        f"b_{layer:02d}": biases[None],
    }
