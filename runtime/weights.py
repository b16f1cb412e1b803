"""The weights of a step graph that p2 exported, as every backend on the processor reads them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..contract.integers import halves
from .onnx_tensors import FLOAT8
from .step_file import StepFile

FLOATS, INTEGERS = "floats", "integers"


class Weights:
    """The weights of a step graph, by the contract's names.

    Attributes:
        kind: how matrices are stored: `FLOATS` or `INTEGERS`.
    """

    def __init__(self, step: StepFile) -> None:
        self._card, self._stored = step.card, step.graph.tensors
        rounded = self._stored.get("w_00_q")
        self.kind = FLOATS if rounded is None or rounded.type == FLOAT8 else INTEGERS

    def array(self, name: str) -> npt.NDArray[np.float32]:
        """A float constant of the file, widened to float32; beside integers with the halves of its gates."""
        if name in self._stored:
            array = np.asarray(self._stored[name].array(), np.float32)
            return array if self.kind == FLOATS else array * halves(self._card, name)
        scales = np.asarray(self._stored[f"{name}_scale"].array(), np.float32)  # float8 weights
        return np.asarray(self._stored[f"{name}_q"].array(), np.float32) * scales
