"""A checkpoint: a folder with a readable ``model.json`` and weights that execute nothing.

``model.json`` holds the card, the training record, the name and SHA-256 of each tensor file, and the SHA-256
of all this:
``model-<step>.safetensors`` with the weights, and, where a run can go on from,
``optimizer-<step>.safetensors`` with Adam's moments and the carried state.

Replacing ``model.json`` is the commit. Tensor files are written before it under names that it does
not yet mention, and files it no longer mentions are removed after it, so the folder holds one whole
checkpoint, the old or the new, whenever the program may be killed.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from ..contract.card import Card
from ..contract.documents import check, read_sealed, write_sealed
from ..contract.errors import ContractError, P2Error
from ..contract.files import is_name, reading, remove_leftovers, write_bytes
from ..contract.finite import first_not_finite
from ..contract.kinds import kind_of
from ..contract.schema import shown
from ..contract.shell import command
from .model import parameter_shapes
from .record import Record

MANIFEST = "model.json"
FORMAT = "p2 checkpoint 2"
_FORMER = "p2 checkpoint 1"  # without a checksum of its own

Tensors = dict[str, Tensor]

_OURS = re.compile(r"(model|optimizer)-\d+(-\d+)?\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        card: what the model is; `checkpoint_sha256` is the hash of the weight file.
        model_state: float32 tensors under the names of `CharModel.state_dict`.
        record: how it was trained.
        folder: where it lies.
    """

    card: Card
    model_state: Tensors
    record: Record
    folder: Path


def save(
    folder: Path,
    card: Card,
    model_state: Mapping[str, Tensor],
    record: Record,
    training_state: Mapping[str, Tensor] | None = None,
) -> Card:
    """Write a checkpoint, replacing the one in `folder`, if any.

    Args:
        folder: created if it does not exist.
        card: the model's card.
        model_state: the weights, ``CharModel.state_dict()``.
        record: the run so far.
        training_state: what else `--resume` needs; None for a checkpoint that is only kept.

    Returns:
        The card with `checkpoint_sha256` filled in.

    Raises:
        P2Error: a number is not finite, or the file system refused; the checkpoint that was there still is.
    """
    kinds = {"model": _plain(model_state)}
    if training_state is not None:
        kinds["optimizer"] = _plain(training_state)
    for tensors in kinds.values():
        bad = _first_not_finite(tensors)
        if bad is not None:
            raise P2Error(
                f"training has diverged after {record.step} updates: {bad} holds NaN or infinity, so {folder}"
                " was not written (a smaller --lr usually helps)"
            )
    taken = _names_in(folder)
    files = {}
    for kind, tensors in kinds.items():
        name = _free_name(f"{kind}-{record.step}", taken)
        data = safetensors.torch.save(tensors, metadata={"format": "pt"})
        write_bytes(folder / name, data)
        files[kind] = {"name": name, "sha256": hashlib.sha256(data).hexdigest()}
    card = card.with_(checkpoint_sha256=files["model"]["sha256"])
    manifest = {"format": FORMAT, "card": card.to_dict(), "training": record.to_dict(), "files": files}
    write_sealed(folder / MANIFEST, manifest)
    _remove_others(folder, {entry["name"] for entry in files.values()})
    return card


def load(path: Path) -> Checkpoint:
    """Read the checkpoint in `path`, or, if `path` is a run folder, its ``best``, else its ``last``.

    Raises:
        P2Error: there is no checkpoint.
        ContractError: it is damaged, not one of this version, or holds numbers that are not finite.
    """
    folder = _checkpoint_folder(path)
    while True:
        manifest = _manifest(folder)
        try:
            return _load(folder, manifest)
        except P2Error:
            if _manifest(folder) == manifest:
                raise
            # A training has just replaced the checkpoint, and removed the files of the one before.


def tidy(folder: Path) -> None:
    """Remove what killed saves left in a checkpoint's folder; nobody may be saving there meanwhile.

    Those are half-written files and tensor files that ``model.json`` does not name, and the folder itself
    where nothing else is in it. Next to a damaged ``model.json`` tensor files stay.
    """
    remove_leftovers(folder)
    named: set[str] = set()
    if holds_checkpoint(folder):
        try:
            named = {entry["name"] for entry in filter(None, _manifest(folder)["files"].values())}
        except P2Error:
            return
    _remove_others(folder, named)
    with contextlib.suppress(OSError):
        folder.rmdir()  # refused unless it is empty


def _load(folder: Path, manifest: dict[str, Any]) -> Checkpoint:
    where = str(folder / MANIFEST)
    card = Card.from_dict(manifest["card"], where)
    record = Record.from_dict(manifest["training"], where)
    if card.checkpoint_sha256 != manifest["files"]["model"]["sha256"]:
        raise ContractError(f"{where} is damaged: its card is of other weights than its list of files")
    tensors = _tensors(folder, manifest, "model")
    assert tensors is not None
    _check_shapes(card, tensors, folder)
    return Checkpoint(card, tensors, record, folder)


def load_training_state(checkpoint: Checkpoint) -> Tensors:
    """The tensors that `save` was given as `training_state`.

    Raises:
        ContractError: there are none, or they are damaged.
    """
    tensors = _tensors(checkpoint.folder, _manifest(checkpoint.folder), "optimizer")
    if tensors is None:
        raise ContractError(f"{checkpoint.folder} holds weights only, so a run cannot go on from it")
    return tensors


def holds_checkpoint(folder: Path) -> bool:
    """Whether a checkpoint was ever committed to this folder."""
    return (folder / MANIFEST).is_file()


def _checkpoint_folder(path: Path) -> Path:
    for folder in (path, path / "best", path / "last"):
        if holds_checkpoint(folder):
            return folder
    if path.is_file():
        its = path.parent if holds_checkpoint(path.parent) else None
        instead = f"give its folder, {its}" if its else f"a checkpoint is a folder with a {MANIFEST} in it"
        raise P2Error(f"{path} is {kind_of(path)}, not a checkpoint: {instead}")
    if not path.exists():
        making = command("p2", "train", "--out", str(path))
        raise P2Error(f"there is no checkpoint {path}: make one with `{making}`")
    raise P2Error(f"{path} holds no checkpoint: it has no {MANIFEST}, and no best or last folder with one")


@dataclass(frozen=True)
class _File:
    name: str
    sha256: str


@dataclass(frozen=True)
class _Files:
    model: _File
    optimizer: _File | None = None


@dataclass(frozen=True)
class _Manifest:
    """The type of ``model.json``: nothing else may be in it, since nothing vouches for a former one."""

    format: str
    card: dict[str, Any]
    training: dict[str, Any]
    files: _Files


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    manifest = check(read_sealed(path, "format", FORMAT, _FORMER), _Manifest, str(path))
    for entry in filter(None, manifest["files"].values()):
        if not is_name(entry["name"]):
            raise ContractError(f"{path} is damaged: {shown(entry['name'])} is no name of a file beside it")
    return dict(manifest)


def _tensors(folder: Path, manifest: dict[str, Any], kind: str) -> Tensors | None:
    """The tensors of one file of the checkpoint, or None if it has no such file."""
    entry = manifest["files"].get(kind)
    if entry is None:
        return None
    path, digest = folder / entry["name"], entry["sha256"]
    with reading(path):
        data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise ContractError(
            f"{path} is damaged: it is not the file that {MANIFEST} describes (SHA-256 differs,"
            f" {len(data):,} bytes): copy the checkpoint again, or train again"
        )
    try:
        tensors: Tensors = safetensors.torch.load(data)
    except SafetensorError as error:
        said = shown(str(error))[1:-1]
        raise ContractError(f"{path} is not a readable safetensors file ({said})") from error
    bad = _first_not_finite(tensors)
    if bad is not None:
        raise ContractError(
            f"{path} is of no use: {bad} holds NaN or infinity: train again, or from another checkpoint"
        )
    return tensors


def _check_shapes(card: Card, tensors: Tensors, folder: Path) -> None:
    expected = parameter_shapes(card)
    missing = sorted(set(expected) - set(tensors))
    unknown = sorted(set(tensors) - set(expected))
    if missing or unknown:
        problem = f"lack {', '.join(missing)}" if missing else f"hold the unknown {', '.join(unknown)}"
        raise ContractError(f"the weights in {folder} {problem}: they do not belong to this {MANIFEST}")
    for name, tensor in tensors.items():
        if tensor.shape != expected[name] or tensor.dtype != torch.float32:
            raise ContractError(
                f"the weights in {folder} do not fit the card in {MANIFEST}: {name} is {tensor.dtype}"
                f" {list(tensor.shape)}, not torch.float32 {list(expected[name])}"
            )


def _names_in(folder: Path) -> set[str]:
    """Tensor files that are there, so that a new one never overwrites what model.json points to."""
    return {path.name for path in folder.glob("*.safetensors")}


def _remove_others(folder: Path, current: set[str]) -> None:
    """Remove tensor files that `save` has written, but for the current ones."""
    for path in folder.glob("*.safetensors"):
        if path.name not in current and _OURS.fullmatch(path.name):
            with contextlib.suppress(OSError):  # a leftover is harmless
                path.unlink()


def _free_name(stem: str, taken: set[str]) -> str:
    name, attempt = f"{stem}.safetensors", 1
    while name in taken:
        attempt += 1
        name = f"{stem}-{attempt}.safetensors"
    return name


def _plain(tensors: Mapping[str, Tensor]) -> Tensors:
    # On a GPU the weights of a recurrent layer share one storage, which safetensors refuses; copies do not.
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _first_not_finite(tensors: Tensors) -> str | None:
    return first_not_finite((name, tensor.float().numpy()) for name, tensor in tensors.items())
