"""Find what ``--engine`` names, and say what kind of engine it is."""

from __future__ import annotations

from pathlib import Path

from ..contract.errors import P2Error, UsageError
from ..contract.shell import command

ARTIFACTS = Path("artifacts")

KINDS = {".onnx": "onnx", ".plan": "plan"}


def locate(name: str, artifacts: Path = ARTIFACTS) -> tuple[Path, str]:
    """The path of an engine and its kind: ``checkpoint``, ``onnx`` or ``plan``.

    A path is taken as it is. A bare name is looked for in the working folder, then under
    `artifacts`: ``charlm.onnx``, ``artifacts/charlm.onnx``, ``artifacts/charlm/charlm.onnx``, then any
    ``artifacts/*/charlm.onnx`` if there is just one.

    Raises:
        UsageError: not a kind of engine.
        P2Error: there is no such file, or more than one that could be meant.
    """
    given = Path(name)
    bare = given.name == name
    candidates = [given]
    if bare:
        candidates += [artifacts / name, artifacts / given.stem / name]
    for path in candidates:
        if path.exists():
            return path, _kind(path)
    if given.suffix and given.suffix not in KINDS:
        raise UsageError(f"{name} is no engine: give a checkpoint folder, a .onnx or a .plan file")
    others = sorted(artifacts.glob(f"*/{name}")) if bare else []
    if len(others) == 1:
        return others[0], _kind(others[0])
    if others:
        raise P2Error(f"{name} could be any of {', '.join(map(str, others))}: give the whole path")
    where = f" (nor under {artifacts}/)" if bare else ""
    if given.suffix == ".plan" and any(path.with_suffix(".onnx").exists() for path in candidates):
        instead = command("p2", "generate", "--engine", str(given.with_suffix(".onnx")))
        raise P2Error(
            f"there is no {name} here{where}: a plan is built where TensorRT is installed and runs on an"
            f" NVIDIA GPU (`p2 doctor` says more); {instead} runs the same model on this machine"
        )
    raise P2Error(f"there is no {name} here{where}: `p2 train` and then `p2 export` make one")


def name_for(path: Path) -> str:
    """The least to type for an engine: its bare name if `locate` finds it by that, else its path."""
    try:
        found, _ = locate(path.name)
    except P2Error:
        return str(path)
    return path.name if found.resolve() == path.resolve() else str(path)


def _kind(path: Path) -> str:
    if path.is_dir():
        return "checkpoint"
    if not path.is_file():
        raise P2Error(f"cannot read {path}: it is neither a file nor a folder")
    kind = KINDS.get(path.suffix)
    if kind is None:
        raise UsageError(f"{path} is no engine: give a checkpoint folder, a .onnx or a .plan file")
    return kind
