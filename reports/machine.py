"""The machine a figure was measured on: no figure goes without it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from ..runtime.doctor import cpu_name

_PACKAGES = ("numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx")


def machine() -> dict[str, Any]:
    """System, processor, processors this process may use, and the versions that matter."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu_name(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
