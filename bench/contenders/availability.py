"""Whether something is here that a contender needs, found out without importing it."""

from __future__ import annotations

import importlib.util

from ...contract.shell import install
from ...runtime import nvidia


def not_installed(module: str, title: str, extra: str) -> str | None:
    """A sentence with the cure if a Python package is not installed, else None.

    Args:
        module: what would be imported.
        title: how a person calls it.
        extra: the p2 extra that brings it.
    """
    if importlib.util.find_spec(module) is not None:
        return None
    return f"{title} is not installed: {install(extra)}"


def no_torch() -> str | None:
    """A sentence if PyTorch is not installed."""
    return not_installed("torch", "PyTorch", "train")


def no_onnxruntime(extra: str = "cpu") -> str | None:
    """A sentence if ONNX Runtime is not installed."""
    return not_installed("onnxruntime", "ONNX Runtime", extra)


def no_gpu() -> str | None:
    """A sentence if there is no NVIDIA GPU that programs may use."""
    found = nvidia.gpus()
    return None if found.devices else f"it needs an NVIDIA GPU, and {found.problem}"
