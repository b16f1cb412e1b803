"""The CUDA engine on this processor: cuda-core's double, whose kernels are p2's own, compiled by g++."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from p2.runtime.cuda import compiler
from p2.runtime.cuda.compiler import Cubin
from p2.runtime.cuda.engine import CudaEngine
from p2.runtime.gpu_device import Device
from p2.runtime.step_file import StepFile

from ..cuda_double import FakeCuda, Function
from .emulator import Kernels
from .memory import Fenced


class EmulatedCuda(FakeCuda):
    """A GPU that runs what `compiled` made.

    Attributes:
        seed: of the order in which threads run.
        compilations: definitions that were compiled for, in turn.
    """

    def __init__(self, kernels_of: Callable[..., Kernels], multiprocessors: int = 2) -> None:
        super().__init__(load=self._functions)
        self.multiprocessors = multiprocessors
        self.capability = (8, 0)  # no clusters, of which every number of blocks is a compilation
        self.seed = 0
        self.compilations: list[dict[str, int]] = []
        self._kernels_of, self._made = kernels_of, dict[bytes, Kernels]()
        self._fences: list[Fenced] = []

    def compiled(self, source: str, defines: Mapping[str, int], capability: tuple[int, int]) -> Cubin:
        """As `compiler.compiled`."""
        assert capability == self.capability
        self.compilations.append(dict(defines))
        kernels = self._kernels_of(compiler.SOURCES / source, **defines)
        code = repr((source, sorted(defines.items()))).encode()
        self._made[code] = kernels
        return Cubin(code, {})

    def open(self, step: StepFile) -> CudaEngine:
        """An engine on this GPU."""
        return CudaEngine(step, Device(self, self.memory_info, self.driver), self.compiled)

    def fresh(self, size: int) -> tuple[int, np.ndarray]:
        fenced = Fenced(size)
        self._fences.append(fenced)
        return fenced.address, fenced.bytes

    def check(self) -> None:
        """Nobody wrote beside what was allocated."""
        assert [fault for fenced in self._fences if (fault := fenced.fault())] == []

    def _functions(self, module: bytes) -> dict[str, Function]:
        kernels = self._made[module]

        def function(name: str) -> Function:
            def run(grid: int, threads: int, shared_bytes: int, arguments: tuple[Any, ...]) -> None:
                kernels.launch(name, grid, threads, shared_bytes, *arguments, seed=self.seed)

            return run

        return {name: function(name) for name in ("p2_write", "p2_read", "p2_logits")}
