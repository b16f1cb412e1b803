"""The parity room: prove that engines say what eager PyTorch says.

    p2 parity charlm.onnx --checkpoint artifacts/charlm

`compare` puts one engine through every check, `report` finds the engines and writes what came of it.
"""

from ..callable_room import make_callable

make_callable(__name__)
