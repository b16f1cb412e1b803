"""Steps with integer weights, made without training, tracing or ONNX: any shape, any weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from p2.contract.card import Card, block_for, step_shapes, weight_bits
from p2.runtime.onnx_format import Graph
from p2.runtime.onnx_tensors import FLOAT, INT4, Tensor
from p2.runtime.step_file import StepFile

Arrays = dict[str, npt.NDArray[Any]]


def tensors_of(card: Card, seed: int = 0) -> Arrays:
    """Random weights of about the size that training gives, with every value that 8 or 4 bits have."""
    rng = np.random.default_rng(seed)
    made: Arrays = {}
    for name, shape in step_shapes(card).items():
        bits = weight_bits(card.precision, name) if name.startswith("w_") else None
        if bits is None:
            made[name] = rng.standard_normal(shape).astype(np.float32)
            continue
        most = 1 << (bits - 1)
        made[f"{name}_q"] = rng.integers(-most, most, shape).astype(np.int8)
        blocks = shape[0] // block_for(shape[0], bits)
        scales = rng.uniform(0.5, 2.5, (blocks, shape[1])) / most / np.sqrt(shape[0])
        made[f"{name}_scale"] = (scales[0] if blocks == 1 else scales).astype(np.float32)
    return made


def step_of(card: Card, tensors: Arrays) -> StepFile:
    """The step that a file with these tensors would hold."""
    held = {}
    for name, array in tensors.items():
        if name.endswith("_q") and weight_bits(card.precision, name.removesuffix("_q")) == 4:
            flat = np.append(array.reshape(-1), np.zeros(array.size % 2, np.int8)).view(np.uint8) & 15
            held[name] = Tensor(name, INT4, array.shape, (flat[::2] | flat[1::2] << 4).data)
        else:
            held[name] = Tensor.of(name, array)
    return StepFile(Path("made.onnx"), card, Graph([], held, [], []), 21, FLOAT, as_traced=True)
