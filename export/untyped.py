"""What TensorRT 8.6 and 9 need, whose networks are not typed by their graph.

They read ONNX up to operator set 17, take 64-bit integers as 32-bit ones (so ``token`` and ``next`` of such
a plan are int32), and choose between the precisions that builder flags allow. From their documentation
and sources; no such library was at hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..contract.card import Card
from ..contract.choice import NEXT
from ..contract.errors import BuilderRefused
from ..runtime.nvidia import Library

OPSET = 17  # of ONNX 1.13, which TensorRT 8.6 was made for

_PRECISIONS = ("float32", "float16")


def is_untyped(trt: Any) -> bool:
    """Whether a TensorRT module is of that age."""
    return not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")


def check_precision(library: Library, path: Path, card: Card) -> None:
    """Make sure that builder flags can say what the graph's types say.

    Raises:
        BuilderRefused: they cannot.
    """
    if card.precision not in _PRECISIONS:
        raise BuilderRefused(
            f"{library} builds float32 and float16 only, and {path} is {card.precision}: install TensorRT 10"
            " or newer, or export with --precision float16"
        )


def configure(trt: Any, config: Any, card: Card) -> None:
    """Allow the precision of the card, and contexts of one profile side by side, a graph's beside another."""
    config.set_preview_feature(trt.PreviewFeature.PROFILE_SHARING_0806, True)
    if card.precision == "float16":
        config.set_flag(trt.BuilderFlag.FP16)
        config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)


def keep_choice_exact(trt: Any, network: Any, card: Card) -> None:
    """Ask that a parsed network chooses the character in float32, as every other engine does."""
    if card.precision != "float16":
        return
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        tensors = [layer.get_input(number) for number in range(layer.num_inputs)]
        tensors += [layer.get_output(number) for number in range(layer.num_outputs)]
        # The parser names a layer after its node (see `contract.choice.operators`).
        chooses = layer.name.startswith(("choice_", NEXT))
        if chooses and any(tensor is not None and tensor.dtype == trt.float32 for tensor in tensors):
            layer.precision = trt.float32
