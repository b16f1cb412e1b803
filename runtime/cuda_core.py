"""cuda-core: whether it can be used here, and what it says where a call of it fails."""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

from ..contract.errors import BackendMissing
from . import nvidia

_INSTALL = "pip install 'cuda-core>=1.0' cuda-bindings"


def driver_too_old(bindings: str | None, gpus: nvidia.Gpus) -> tuple[str, str] | None:
    """What is wrong where cuda-bindings is newer than the driver, and what helps; None if it fits.

    Args:
        bindings: version of cuda-bindings, if it is installed.
        gpus: what the driver says.
    """
    release = (bindings or "").partition(".")[0]
    if gpus.cuda is None or not release.isdecimal() or int(release) <= gpus.cuda[0]:
        return None
    return (
        f"cuda-bindings {bindings} needs a driver for CUDA {release}, and this one speaks CUDA"
        f" {gpus.cuda[0]}.{gpus.cuda[1]}",
        f"update the NVIDIA driver, or pip install 'cuda-bindings<{gpus.cuda[0] + 1}'",
    )


def missing() -> str:
    """Why `cuda.core` cannot be used, as a sentence with its remedy; empty if it can. Imports nothing."""
    try:
        core, bindings = map(importlib.metadata.version, ("cuda-core", "cuda-bindings"))
    except importlib.metadata.PackageNotFoundError as error:
        return f"running on the GPU needs {error.name}, which is not installed here: {_INSTALL}"
    if core.partition(".")[0] == "0":
        return f"running on the GPU needs cuda-core 1.0 or newer, and {core} is installed here: {_INSTALL}"
    return ": ".join(driver_too_old(bindings, nvidia.gpus()) or ())


def load() -> Any:
    """The module `cuda.core`, where there is a GPU for it.

    Raises:
        BackendMissing: there is no GPU, or it is not installed or too new for the driver.
    """
    gpus = nvidia.gpus()
    if not gpus.devices:
        raise BackendMissing(
            f"CUDA cannot use a GPU here: {gpus.problem} (`p2 doctor` says what is installed)"
        )
    if reason := missing():
        raise BackendMissing(reason)
    try:
        return importlib.import_module("cuda.core")
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendMissing(
            f"cuda-core is installed but does not load ({explain(error)}): {_INSTALL} --force-reinstall"
        ) from error


def explain(error: Exception) -> str:
    """The first sentence of what cuda-core says, and after it the name of CUDA's error."""
    text = " ".join(str(error).split())
    name, separator, explanation = text.partition(": ")
    if not separator or not name.startswith("CUDA_ERROR"):
        return text.partition(". ")[0].removesuffix(".")
    return f"{explanation.partition('. ')[0].removesuffix('.')} ({name})"
