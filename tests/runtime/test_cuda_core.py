"""Whether cuda-core can be used: what is missing is one sentence, before anything is loaded."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from p2.contract.errors import BackendMissing
from p2.runtime import nvidia
from p2.runtime.cuda_core import missing
from p2.runtime.gpu_device import Device

GPU = nvidia.Gpus((nvidia.Gpu("NVIDIA Test", (8, 9), 1 << 30),), "550.1", (12, 4))


@pytest.fixture
def installed(monkeypatch):
    """A machine with a GPU whose driver speaks CUDA 12.4: ``installed({"cuda-core": "1.2.0"})``."""
    monkeypatch.setattr(nvidia, "gpus", lambda: GPU)

    def version(name):
        if name not in versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    versions: dict[str, str] = {}
    monkeypatch.setattr(importlib.metadata, "version", version)
    return versions.update


@pytest.mark.parametrize(
    ("versions", "reason"),
    [
        ({}, "running on the GPU needs cuda-core, which is not installed here: pip install 'cuda-core>=1.0'"),
        (
            {"cuda-core": "1.2.0"},
            "running on the GPU needs cuda-bindings, which is not installed here: pip install",
        ),
        (
            {"cuda-core": "0.7.0", "cuda-bindings": "12.9.4"},
            "running on the GPU needs cuda-core 1.0 or newer, and 0.7.0 is installed here: pip install",
        ),
        (
            {"cuda-core": "1.2.0", "cuda-bindings": "13.0.1"},
            "cuda-bindings 13.0.1 needs a driver for CUDA 13, and this one speaks CUDA 12.4: update the"
            " NVIDIA driver, or pip install 'cuda-bindings<13'",
        ),
        ({"cuda-core": "1.2.0", "cuda-bindings": "12.9.4"}, ""),
    ],
)
def test_what_is_missing_is_said_with_its_cure_before_anything_is_loaded(
    versions, reason, installed, monkeypatch
):
    installed(versions)
    assert missing().startswith(reason)
    assert bool(missing()) == bool(reason)
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(BackendMissing) as caught:
        Device()
    assert str(caught.value).startswith(reason or "cuda-core is installed but does not load (")


def test_without_a_gpu_that_comes_first(monkeypatch):
    monkeypatch.setattr(nvidia, "gpus", lambda: nvidia.Gpus(problem="no NVIDIA driver is installed"))
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(BackendMissing, match="CUDA cannot use a GPU here: no NVIDIA driver is installed"):
        Device()


def test_the_real_cuda_core_answers_without_a_gpu():
    pytest.importorskip("cuda.core", reason="cuda-core is not installed")
    if nvidia.gpus().devices:
        pytest.skip("this machine has an NVIDIA GPU")
    # As on a machine whose GPU goes away in between: cuda-core is loaded, and has to say so itself.
    code = (
        "import cuda.core; from p2.runtime.gpu_device import Device\n"
        "for core in (None, cuda.core):\n"
        "    try: Device(core)\n"
        "    except Exception as e: print(type(e).__name__, e)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    first, second = run.stdout.splitlines()
    assert first.startswith("BackendMissing CUDA cannot use a GPU here: ")
    assert second.startswith("P2Error the GPU could not open the GPU: ")
