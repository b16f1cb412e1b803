"""What kind of source a file is, from its first bytes."""

from __future__ import annotations

from pathlib import Path

from ..contract.errors import P2Error
from ..contract.kinds import kind_of

STATE_DICTS = ("a PyTorch pickle", "a safetensors file")
ONNX = "an ONNX file"
KERAS = ("an HDF5 file", "a zip archive")


def kind_of_source(path: Path) -> str:
    """A few words for a file, as `contract.kinds.kind_of` says them.

    Raises:
        P2Error: it is nothing that can be imported.
    """
    if path.is_dir():
        raise P2Error(f"{path} is a folder: give the file with the weights")
    kind = kind_of(path)
    if kind not in (*STATE_DICTS, ONNX, *KERAS):
        advice = ": save its weights with torch.save(model.state_dict(), ...)" if "Torch" in kind else ""
        raise P2Error(
            f"{path} is {kind}; p2 import reads a PyTorch state_dict (.pt, .safetensors), .onnx, .keras"
            f" and .h5{advice}"
        )
    return kind
