"""The number formats of a step's weights: what each is called, how it is stored, how far it may be off."""

from __future__ import annotations

from dataclasses import dataclass

# ONNX's numbers of the element types (TensorProto.DataType).
_FLOAT, _INT8, _FLOAT16, _BFLOAT16, _FLOAT8, _INT4 = 1, 3, 10, 16, 17, 22


@dataclass(frozen=True)
class Limits:
    """The most that a precision may deviate from float32 PyTorch.

    Attributes:
        relative: root-mean-square logit error over the root-mean-square of the reference logits
            (both centred per character, since softmax ignores a constant).
        kl: mean Kullback-Leibler divergence in nats per character.
    """

    relative: float
    kl: float


@dataclass(frozen=True)
class Precision:
    """A precision.

    Attributes:
        key: the card's word for it, which is PyTorch's where PyTorch has the type.
        element: ONNX's element type of the matrices.
        bits: of a weight.
        limits: of its logits.
        difference: bits per character that it may lose in the benchmark; None for the one compared with.
        arithmetic: element type of states, biases and the cell's arithmetic.
        blocks: numbers of rows that may share a scale, besides all; None if weights have no scales.
        integers: whether its weights are integers, which a CPU multiplies as such.
        on_cpu: whether a CPU gains by it: the others are widened to float32 when they are loaded.
        aliases: what else it is called.
        opset: the lowest ONNX operator set that can say it.
        why: what came with that set.
        gain: how many times as fast as float32 the benchmark expects it where weights wait for the memory;
            None: it is not judged.
        roomier: what to choose for numbers beyond its range; empty if that is float32's.
    """

    key: str
    element: int
    bits: int
    limits: Limits
    difference: float | None
    arithmetic: int = _FLOAT
    blocks: tuple[int, ...] | None = None
    integers: bool = False
    on_cpu: bool = True
    aliases: tuple[str, ...] = ()
    opset: int = 13
    why: str = "bfloat16 and a scale for each output came with it, and Split took its form"
    roomier: str = ""
    gain: float | None = None

    @property
    def is_scaled(self) -> bool:
        """Whether the weights of a matrix have scales."""
        return self.blocks is not None

    @property
    def is_widened(self) -> bool:
        """Whether a matrix is a short float that is widened where it is read."""
        return not self.is_scaled and self.element != self.arithmetic


# float32 differs only in the order of additions. Significant bits: float16 keeps 11 in weights and
# state, bfloat16 8 in weights and in what they are multiplied with, float8 4 in weights. int8 and int4
# round weights to 1/254 and 1/14 of each block's range; the activations are rounded to 8 bits as well
# where the backend multiplies integers. int8 files of 0.1.0 have blocks.
_TABLE = (
    Precision("float32", _FLOAT, 32, Limits(1e-4, 1e-8), None, aliases=("fp32", "float")),
    Precision("float16", _FLOAT16, 16, Limits(2e-2, 1e-3), 0.001, arithmetic=_FLOAT16,
              aliases=("fp16", "half"), roomier="bfloat16"),
    Precision("bfloat16", _BFLOAT16, 16, Limits(3e-2, 2e-3), 0.002, on_cpu=False, aliases=("bf16",)),
    Precision("float8", _FLOAT8, 8, Limits(1e-1, 2e-2), 0.01, blocks=(), on_cpu=False, aliases=("fp8",),
              opset=19, why="float8 weights came with it"),
    Precision("int8", _INT8, 8, Limits(5e-2, 5e-3), 0.005, blocks=(32, 16), integers=True,
              gain=3.5),
    Precision("int4", _INT4, 4, Limits(0.4, 1e-1), 0.02, blocks=(128, 64, 32, 16), integers=True, gain=6.0,
              opset=21, why="4-bit weights with a scale for each block came with it"),
)  # fmt: skip

TABLE = {precision.key: precision for precision in _TABLE}
