"""The machine a figure was measured on: no figure goes without it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from ..runtime.nvidia import gpus
from ..runtime.processor import cpu_name, processors

_PACKAGES = (
    "numpy",
    "torch",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
)
_MEMORY = "/proc/meminfo"
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def machine() -> dict[str, Any]:
    """System, processor with its caches, memory, GPUs, and the versions that matter; sizes in bytes."""
    found = gpus()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": cpu_name(),
        "processors": processors(),
        "caches": caches(),
        "memory": _told(_MEMORY, "MemTotal"),
        "gpus": [device.name for device in found.devices],
        "gpu_driver": found.driver,
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
    }


def caches(folder: Path = _CACHES) -> dict[str, int]:
    """Sizes in bytes of the data caches that the first processor sees: ``L1d``, ``L2``, ``L3``.

    Empty where the system does not tell.
    """
    sizes = {}
    for entry in sorted(folder.glob("index*")):
        with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
            level, kind, size = ((entry / name).read_text().strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                name = f"L{level}{'d' if kind == 'Data' else ''}"
                sizes[name] = int(size[:-1]) * _UNITS[size[-1]]
    return sizes


def memory_available() -> int | None:
    """Bytes that programs may still take without swapping, or None where the system does not tell."""
    return _told(_MEMORY, "MemAvailable")


def process_memory(peak: bool = False) -> int | None:
    """Bytes of memory that this process holds now, or at most held; None where the system does not tell."""
    return _told("/proc/self/status", "VmHWM" if peak else "VmRSS")


def _told(path: str, key: str) -> int | None:
    """A size that Linux tells in a file of its own."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    found = (line.split() for line in lines)
    return next((int(words[1]) * 1024 for words in found if words[0] == f"{key}:"), None)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
