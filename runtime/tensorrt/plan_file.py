"""Open a plan file as far as that goes without a GPU: header, sidecar, and the library that runs it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ...contract import files
from ...contract.errors import BackendMissing, ContractError, P2Error
from ...contract.plan import (
    FLAVOURS,
    PlanHeader,
    Sidecar,
    is_later,
    read_header,
    read_sidecar,
    same_version,
    sidecar_path,
    write_sidecar,
)
from .. import nvidia
from ..backends import CUDA_GRAPH

__all__ = [
    "Plan",
    "PlanHeader",
    "Sidecar",
    "check_gpu",
    "library_for",
    "read_header",
    "read_plan",
    "read_sidecar",
    "sidecar_path",
    "write_sidecar",
]


@dataclass(frozen=True)
class Plan:
    """A plan that is whole and fits its sidecar.

    Attributes:
        path: where it is.
        header: flavour and version.
        sidecar: what p2 knows about it.
        data: the engine, for the library to load.
    """

    path: Path
    header: PlanHeader
    sidecar: Sidecar
    data: bytes


def read_plan(path: Path) -> Plan:
    """Read a plan and its sidecar, and make sure that they belong together.

    Raises:
        ContractError: not a plan, cut off, no sidecar, or the sidecar of another plan.
        P2Error: a file cannot be read.
    """
    header = read_header(path)  # first, so that a large file of another kind is not read whole
    sidecar = read_sidecar(path)
    with files.reading(path):
        data = path.read_bytes()
    sidecar.check(path, len(data), hashlib.sha256(data).hexdigest())
    if sidecar.header != header:
        raise ContractError(
            f"{sidecar_path(path)} is damaged: it speaks of {sidecar.header} and the plan of {header};"
            " run `p2 export` again"
        )
    return Plan(path, header, sidecar, data)


def check_gpu(path: Path, sidecar: Sidecar, gpus: nvidia.Gpus) -> None:
    """Make sure that the first GPU and its driver can run a plan, before a library tries.

    Raises:
        BackendMissing: the driver is too old for the library, or the library does not know the GPU.
    """
    flavour, gpu = FLAVOURS[sidecar.flavour], gpus.devices[0]
    needed = nvidia.cuda_of(flavour)
    if needed is not None and gpus.cuda is not None and gpus.cuda[0] < needed:
        driver = f"NVIDIA driver {gpus.driver}" if gpus.driver else "NVIDIA driver"
        raise BackendMissing(
            f"{path} needs a newer driver: this {driver} knows CUDA {gpus.cuda[0]}.{gpus.cuda[1]}, and the"
            f" {flavour.title} installed here is built for CUDA {needed}: update the driver, or run the"
            " .onnx file"
        )
    major, minor = gpu.capability
    if sidecar.targets and f"sm{major}{minor}" not in sidecar.targets:
        known = ", ".join(f"{name[2:-1]}.{name[-1]}" for name in sidecar.targets)
        raise BackendMissing(
            f"{path} does not run on the {gpu.name}: it has compute capability {major}.{minor}, and"
            f" the plan is for {known}: run the checkpoint with `--backend {CUDA_GRAPH}`, or the .onnx file"
        )


def runs_here(path: Path) -> bool:
    """Whether this machine has a GPU that runs a plan."""
    gpus = nvidia.gpus()
    if not gpus.devices:
        return False
    try:
        check_gpu(path, read_plan(path).sidecar, gpus)
    except P2Error:
        return False
    return True


def library_for(path: Path, header: PlanHeader, compatible: bool = False) -> nvidia.Library:
    """The installed library that runs a plan; only the version that built it does.

    Args:
        path: the plan, for error messages.
        header: its header.
        compatible: whether it was built for later versions as well (`--version-compatible`): those of the
            same major version run it too.

    Raises:
        BackendMissing: it is not installed, or another version is, or it does not load; the
            message names the package that would run the plan.
    """
    flavour = FLAVOURS[header.flavour]
    remedy = f"pip install {flavour.name}=={header.version}"
    if not nvidia.installed(flavour):
        others = [other.title for other in FLAVOURS.values() if nvidia.installed(other)]
        here = f"only {others[0]} is" if others else "no TensorRT is"
        again = "run `p2 export` again to build a plan for that, or " if others else ""
        raise BackendMissing(f"{path} is a plan for {header}, and {here} installed here: {again}{remedy}")
    library = nvidia.library(flavour)
    later = compatible and is_later(library.version, header.version)
    if not later and not same_version(library.version, header.version):
        raise BackendMissing(
            f"{path} was built by {header}, and {library} is installed here; a plan runs only on the version"
            f" that built it: run `p2 export` again, or {remedy}"
        )
    return library
