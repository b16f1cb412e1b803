"""Which of the libraries that p2 can use are installed, and whether they load.

Versions come from package metadata. Libraries that bring native code of a vendor are imported in
a process of their own: one that crashes there is a finding, not the end.
"""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from dataclasses import dataclass

from ..contract.plan import FLAVOURS
from . import nvidia
from .cuda import compiler

# What is reported, and the extra that brings it.
PACKAGES = {
    "numpy": "",
    "torch": "train",
    "safetensors": "train",
    "onnx": "train",
    "onnxscript": "train",
    "onnxruntime": "cpu",
    "tensorrt": "gpu",
    "tensorrt-rtx": "rtx",
    "cuda-bindings": "rtx",
    "cuda-core": "rtx",
    "nvidia-cuda-nvrtc": "cuda",
}

# Imported apart; what they print is their version and, after it, a remark.
_PROBES = {
    "onnxruntime": "import onnxruntime as m; print(m.__version__, *m.get_available_providers())",
    "tensorrt": "import tensorrt as m; print(m.__version__)",
    "tensorrt-rtx": "import tensorrt_rtx as m; print(m.__version__)",
    "cuda-bindings": "import cuda.bindings.driver; import cuda.bindings as m; print(m.__version__)",
    "cuda-core": "import cuda.core as m; m.Device; print(m.__version__)",
    "nvidia-cuda-nvrtc": "from cuda.bindings import nvrtc as m; print(*m.nvrtcVersion()[1:], sep='.')",
}
_PROBE_SECONDS = 120

# Distributions that put their files into the same folder, `onnxruntime`.
_ONNXRUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino")
_DISTRIBUTIONS = {
    "onnxruntime": _ONNXRUNTIMES,
    "nvidia-cuda-nvrtc": ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12"),
}


@dataclass(frozen=True)
class Package:
    """A library: its version (None: not installed), a remark, and why it does not load, if so."""

    version: str | None
    remark: str = ""
    broken: str = ""

    @property
    def works(self) -> bool:
        """Whether it is installed and loads."""
        return self.version is not None and not self.broken


def packages() -> dict[str, Package]:
    """Every package in `PACKAGES`, looked up or tried out; imports none of them."""
    here = {name: _installed_version(name) for name in PACKAGES}
    probes = {name: _start(code) for name, code in _PROBES.items() if here[name] is not None}
    results = {name: Package(version) for name, version in here.items()}
    return results | {name: _finish(name, probe, here[name]) for name, probe in probes.items()}


def _installed_version(name: str) -> str | None:
    """A package's version from its metadata; "?" where only the module can be seen."""
    for distribution in _DISTRIBUTIONS.get(name, (name,)):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    if name in FLAVOURS and nvidia.installed(FLAVOURS[name]):
        return "?"  # under another distribution's name, such as tensorrt-cu12
    if name == "nvidia-cuda-nvrtc" and compiler.in_a_toolkit():
        return "?"
    return None


def _start(code: str) -> subprocess.Popen[str]:
    # -P: a folder called onnxruntime or tensorrt in the working folder is not the library.
    command = [sys.executable, "-P", "-c", code]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace"
    )


def _finish(name: str, probe: subprocess.Popen[str], version: str | None) -> Package:
    try:
        out, error = probe.communicate(timeout=_PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        probe.kill()
        probe.communicate()
        return Package(version, broken=f"importing it takes more than {_PROBE_SECONDS} s")
    lines = out.strip().splitlines()
    if probe.returncode == 0 and lines:
        version, *remarks = lines[-1].split()  # a library may print greetings before
        return Package(version, remark=", ".join(remarks))
    if probe.returncode < 0:
        return Package(version, broken=f"importing it ends the process (signal {-probe.returncode})")
    lines = error.strip().splitlines()
    return Package(version, broken=lines[-1] if lines else f"importing {name} fails")


def torch_without_cuda() -> str:
    """Why the PyTorch that is installed does not reach a GPU, as a sentence; empty if it does."""
    code = "import torch; print(torch.__version__ if not torch.cuda.is_available() else '')"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"importing PyTorch takes more than {_PROBE_SECONDS} s"
    if done.returncode:
        return "PyTorch does not load"
    version = done.stdout.strip()
    return f"PyTorch {version} was built without CUDA, or does not fit the driver" if version else ""


def onnxruntimes() -> list[str]:
    """The distributions of ONNX Runtime that are installed; more than one is a conflict."""
    names = []
    for name in _ONNXRUNTIMES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        names.append(name)
    return names
