"""A PyTorch state_dict, from a file that may do harm: tensors are read, nothing is run."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..contract.errors import P2Error
from ..contract.files import reading
from ..contract.schema import shown
from .found import MOST_BYTES, extra, size

Tensors = dict[str, Tensor]

_SLACK = 1 << 20  # bytes that a file's index may take
_MOST_TENSORS = 10_000
# Where a training keeps the model among other things.
_KNOWN = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")


def read_weights(path: Path, kind: str) -> tuple[Tensors, str]:
    """The tensors of a state_dict by name, in its order, and where in the file it was.

    Args:
        path: what torch.save or safetensors wrote.
        kind: as `contract.kinds.kind_of` says it.

    Returns:
        tensors on the CPU, and the key that the state_dict had in a larger checkpoint, else the empty string.

    Raises:
        P2Error: it would run code, is damaged, or holds something that is no tensor of floats.
    """
    with reading(path):
        length = path.stat().st_size
    if length > MOST_BYTES:
        raise P2Error(f"{path} has more than {MOST_BYTES >> 30} GiB")
    loaded = _safetensors(path) if kind == "a safetensors file" else _torch(path, length)
    state, key = _state_in(loaded, path)
    if len(state) > _MOST_TENSORS:
        raise P2Error(f"{path} holds {len(state):,} tensors, more than any recurrent model")
    for name, tensor in state.items():
        _check(name, tensor, path)
    return state, key


def _safetensors(path: Path) -> Any:
    import safetensors.torch

    try:
        with reading(path):
            return safetensors.torch.load_file(path)
    except safetensors.SafetensorError as error:
        raise P2Error(f"{path} is not a readable safetensors file ({shown(str(error))[1:-1]})") from error


def _torch(path: Path, length: int) -> Any:
    try:
        with reading(path):
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    claimed = sum(entry.file_size for entry in archive.infolist())
                if claimed > length + _SLACK:
                    raise P2Error(f"{path} is damaged: {length:,} bytes that claim to be {claimed:,}")
            return torch.load(path, map_location="cpu", weights_only=True)
    except (P2Error, MemoryError):
        raise
    except Exception as error:  # whatever the bytes make the reader stumble over
        first = str(error).partition("\n")[0]
        if any(word in str(error) for word in ("GLOBAL", "nsupported global", "nsupported class", "REDUCE")):
            raise P2Error(
                f"{path} is refused: more than tensors is in it, and reading that would run code; save the"
                " weights alone with torch.save(model.state_dict(), ...)"
            ) from error
        raise P2Error(f"{path} is not a readable PyTorch file ({shown(first)[1:-1]})") from error


def _state_in(loaded: Any, path: Path) -> tuple[Tensors, str]:
    if isinstance(loaded, Mapping):
        inside = {str(k): v for k, v in loaded.items() if isinstance(v, Mapping) and _holds_tensors(v)}
        for key in (*(key for key in _KNOWN if key in inside), *(inside if len(inside) == 1 else ())):
            return _named(inside[key], path), key
        if inside:
            raise P2Error(
                f"{path} holds several sets of tensors ({', '.join(map(shown, [*inside][:5]))}): save the"
                " model's alone with torch.save(model.state_dict(), ...)"
            )
        if _holds_tensors(loaded):
            return _named(loaded, path), ""
    raise P2Error(f"{path} holds no state_dict: save one with torch.save(model.state_dict(), ...)")


def _holds_tensors(value: Mapping[Any, Any]) -> bool:
    return any(isinstance(one, Tensor) for one in value.values())


def _named(state: Mapping[Any, Any], path: Path) -> Tensors:
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise P2Error(f"{path}: {shown(name)} in its state_dict is no tensor")
    return dict(state)


def _check(name: str, tensor: Tensor, path: Path) -> None:
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_quantized
    if not plain or not tensor.is_floating_point():
        raise extra(str(path), name, tensor.shape, f"of {tensor.dtype}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise P2Error(
            f"{path} is damaged: {shown(name)} claims {size(tensor.shape)} numbers, and fewer are there"
        )
