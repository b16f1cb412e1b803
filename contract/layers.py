"""What a compiled step is made of: the lines of a builder's list of layers."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NO_KERNELS = {"shape_call", "cjmp", "jmp", "constant", "noop", "signal", "wait"}


@dataclass(frozen=True)
class Layer:
    """One line of the builder's list of what a step runs.

    Attributes:
        name: TensorRT's name for it.
        kind: TensorRT's type: ``kgen``, ``gemm``, ``runtime_fusion``, ...
        operators: the ONNX operators in it, as far as the builder tells.
    """

    name: str
    kind: str
    operators: tuple[str, ...] = ()

    @property
    def is_kernel(self) -> bool:
        """Whether the GPU launches something for it: shapes, jumps and constants are none."""
        return self.kind.lower() not in _NO_KERNELS

    @property
    def profile(self) -> int:
        """Which of the engine's compiled graphs it belongs to (``_myl1_`` in its name), from 0."""
        found = re.search(r"_myl(\d{1,9})_\d+$", self.name)
        return int(found[1]) if found else 0
