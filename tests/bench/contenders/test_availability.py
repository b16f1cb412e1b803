"""Why a contender cannot run here, in a sentence, without loading anything."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import types

import pytest

from p2.bench.contenders import availability, torch_cell
from p2.bench.contenders.registry import by_key
from p2.contract.shell import install
from p2.runtime import native, nvidia


def test_asking_what_is_missing_imports_nothing_heavy(card_of):
    card = json.dumps(card_of().to_dict())
    code = (
        "import sys, json\nfrom p2.contract.card import Card\n"
        "from p2.bench.contenders.registry import contenders\n"
        f"for contender in contenders(): contender.missing(Card.from_dict(json.loads({card!r}), ''))\n"
        "print({'torch', 'onnx', 'onnxruntime', 'openvino', 'tensorrt', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


PACKAGES = {
    "p2-onnxruntime-int8": ("onnxruntime", f"ONNX Runtime is not installed: {install('cpu')}"),
    "torch-eager": ("torch", f"PyTorch is not installed: {install('train')}"),
    "torch-cell": ("torch", f"PyTorch is not installed: {install('train')}"),
    "torch-compile": ("torch", f"PyTorch is not installed: {install('train')}"),
    "ort-operator": ("onnxruntime", f"ONNX Runtime is not installed: {install('cpu')}"),
    "openvino": ("openvino", f"OpenVINO is not installed: {install('bench')}"),
    "openvino-operator": ("openvino", f"OpenVINO is not installed: {install('bench')}"),
    "cuda-eager": ("torch", f"PyTorch is not installed: {install('train')}"),
    "cuda-graph": ("torch", f"PyTorch is not installed: {install('train')}"),
    "cuda-compile": ("triton", f"Triton, torch.compile's backend, is not installed: {install('train')}"),
    "ort-cuda": ("onnxruntime", f"ONNX Runtime is not installed: {install('gpu')}"),
}
A_GPU = nvidia.Gpus((nvidia.Gpu("NVIDIA Test", (9, 0), 1 << 30),))


@pytest.mark.parametrize("key", PACKAGES)
def test_a_missing_package_is_named_with_its_cure(key, card_of, monkeypatch):
    monkeypatch.setattr(nvidia, "gpus", lambda: A_GPU)
    monkeypatch.setattr(native, "available", lambda: True)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    gone: set[str] = set()
    found = types.SimpleNamespace(find_spec=lambda name: None if name in gone else object())
    monkeypatch.setattr(availability.importlib, "util", found)
    monkeypatch.setattr(torch_cell.Path, "exists", lambda path: True)
    assert by_key(key).missing(card_of()) is None
    package, sentence = PACKAGES[key]
    gone.add(package)
    assert by_key(key).missing(card_of()) == sentence


@pytest.mark.parametrize(
    "key", ["cuda-eager", "cuda-graph", "cuda-compile", "ort-cuda", "p2-tensorrt-float16"]
)
def test_without_a_gpu_they_say_so(key, card_of, monkeypatch):
    monkeypatch.setattr(nvidia, "gpus", lambda: nvidia.Gpus(problem="no NVIDIA driver is installed"))
    expected = "it needs an NVIDIA GPU, and no NVIDIA driver is installed"
    assert by_key(key).missing(card_of()) == expected


def test_torch_compile_names_what_it_lacks(card_of, monkeypatch):
    contender = by_key("torch-compile")
    monkeypatch.setenv("CXX", "no-such-compiler")
    reason = "torch.compile needs a C++ compiler, and no-such-compiler is not installed"
    assert contender.missing(card_of()) == reason
    monkeypatch.setattr(shutil, "which", lambda name: name)
    monkeypatch.setattr(torch_cell.sysconfig, "get_path", lambda name: "/nowhere")
    assert "Python.h" in str(contender.missing(card_of()))


@pytest.mark.parametrize("key", ["torch-eager", "cuda-eager", "ort-cuda"])
def test_libraries_without_the_original_gru_say_so(key, card_of, monkeypatch):
    monkeypatch.setattr(nvidia, "gpus", lambda: A_GPU)
    reason = by_key(key).missing(card_of("gru", "before"))
    assert reason is not None
    assert reason.endswith("before it")
