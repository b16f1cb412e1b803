"""Read from a builder's log what a step will run on the GPU.

With detailed profiling verbosity a builder ends its log with the list of the engine's layers.
TensorRT-RTX writes a line ``Name: ..., LayerType: ..., ... Metadata: [ONNX Layer: ...]`` for each,
earlier TensorRT ``Layer(kind): name, Tactic: ...``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..contract.layers import Layer

_LINE = re.compile(r"^Name: (?P<name>.*?), LayerType: (?P<kind>\w+),(?P<rest>.*)$", re.MULTILINE)
_OLD_LINE = re.compile(r"^Layer\((?P<kind>\w+)\): (?P<name>.*?), Tactic:", re.MULTILINE)
_OPERATOR = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


def layers_in(messages: Iterable[str]) -> tuple[Layer, ...]:
    """The layers that a build log lists, in the order of running; none if it has no list."""
    for message in messages:
        if message.startswith(("Layers:", "Engine Layer Information:")):
            lines = list(_LINE.finditer(message)) or list(_OLD_LINE.finditer(message))
            return tuple(
                Layer(
                    line["name"],
                    line["kind"],
                    tuple(_OPERATOR.findall(line.groupdict().get("rest") or "")),
                )
                for line in lines
            )
    return ()
