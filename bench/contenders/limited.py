"""What older processors would get, measured on this one: engines that are held to fewer instructions.

They take part where `--contenders` names them. Each sets a variable of its own process, which is read when
the library is loaded.
"""

from __future__ import annotations

import os

from ...contract.card import Card
from ...runtime import native
from ...runtime.backends import NATIVE
from ...runtime.native import binding
from ..contender import Model
from .engine_running import EngineRunning
from .openvino_contender import OpenVino, OpenVinoOperator, OpenVinoRunning
from .p2_onnx import P2Onnx

_ONEDNN = "ONEDNN_MAX_CPU_ISA"


class P2Level(P2Onnx):
    """The compiled decoder on a level of instructions (`native.CPU`).

    Args:
        level: its name.
        precision: of the step that is loaded.
    """

    group = "variant"
    backend = NATIVE

    def __init__(self, level: str, precision: str) -> None:
        super().__init__(precision)
        self.key, self.title = f"p2-{level}-{precision}", f"p2 {precision}, {native.CPU}={level}"
        self._level = level

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        if binding.library() is None:
            return binding.absence()
        there = binding.levels().get(self._level)
        return None if there else f"this processor does not have the instructions of {self._level}"

    def load(self, model: Model, threads: int | None) -> EngineRunning:
        """See `Contender.load`, and `P2Onnx.load`."""
        os.environ[native.CPU] = self._level
        return super().load(model, threads)


class _HeldBack(OpenVino):
    """OpenVINO, whose library is loaded with its instructions limited."""

    group = "variant"

    def load(self, model: Model, threads: int | None) -> OpenVinoRunning:
        """See `OpenVino.load`."""
        os.environ[_ONEDNN] = "AVX2"
        return super().load(model, threads)


class OpenVinoAvx2(_HeldBack):
    """p2's exported float32 step, compiled by OpenVINO for AVX2."""

    key = "openvino-avx2"
    title = f"OpenVINO, p2's exported step, {_ONEDNN}=AVX2"


class OpenVinoOperatorAvx2(_HeldBack, OpenVinoOperator):
    """The graph with recurrent operators, compiled by OpenVINO for AVX2."""

    key = "openvino-operator-avx2"
    title = f"OpenVINO, recurrent operator, {_ONEDNN}=AVX2"
