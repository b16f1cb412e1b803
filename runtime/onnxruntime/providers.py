"""ONNX Runtime's GPU providers: which there are, whether one can be used here, a session on it.

A provider that is missing, does not load, or does not take the whole graph is a sentence, and never a
run on the processor: what ONNX Runtime says it uses is compared with what was asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...contract.errors import BackendMissing, BuilderRefused, P2Error
from ...contract.plan import RTX_CAPABILITIES, TENSORRT_RTX, runs_on
from ...contract.shell import install
from .. import nvidia
from ..onnx_format import Graph, Node, Value, encode_model
from ..onnx_tensors import FLOAT
from .session import answering, import_onnxruntime


@dataclass(frozen=True)
class Provider:
    """One of ONNX Runtime's execution providers.

    Attributes:
        title: for people.
        name: by which ONNX Runtime knows it.
        options: what it is opened with.
        beside: a second provider on the same GPU for operators that the first does not take.
        device: where its memory is, as ONNX Runtime calls it.
        plugin: the module that brings the provider; empty if it is part of ONNX Runtime.
        fixed: whether it compiles the graph for one batch size.
    """

    title: str
    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    beside: str = ""
    device: str = "cuda"
    plugin: str = ""
    fixed: bool = False


_PROBE_SECONDS = 300  # TensorRT's first session in a process may compile for minutes

_CUDA = "CUDAExecutionProvider"
_OPTIONS = {_CUDA: {"use_tf32": "0"}}  # TF32 keeps 10 bits of a float32's mantissa

# By the name that a person gives to --backend.
PROVIDERS = {
    "onnxruntime-cuda": Provider("CUDA", _CUDA, _OPTIONS[_CUDA]),
    "onnxruntime-tensorrt": Provider("TensorRT", "TensorrtExecutionProvider", beside=_CUDA, fixed=True),
    "onnxruntime-rtx": Provider(
        "TensorRT-RTX",
        "NvTensorRTRTXExecutionProvider",
        plugin="onnxruntime_ep_nv_tensorrt_rtx",
        fixed=True,
    ),
}
# The same engine where there is no GPU: for tests, and for rehearsing the GPU's checks.
STAND_IN = Provider("CPU, step by step", "CPUExecutionProvider", device="cpu")


def require(provider: Provider) -> None:
    """See that a provider can be asked for here, before anything is loaded onto a GPU.

    Raises:
        BackendMissing: there is no GPU, or not one that it supports, or it is not installed.
    """
    if provider.device != "cpu":
        gpus = nvidia.gpus()
        if not gpus.devices:
            raise BackendMissing(
                f"ONNX Runtime's {provider.title} provider needs an NVIDIA GPU, and {gpus.problem}"
            )
        gpu = gpus.devices[0]
        if provider.plugin and not runs_on(TENSORRT_RTX, gpu.capability):
            supported = ", ".join(f"{major}.{minor}" for major, minor in RTX_CAPABILITIES)
            raise BackendMissing(
                f"TensorRT-RTX does not run on this {gpu.name}, which has compute capability"
                f" {gpu.capability[0]}.{gpu.capability[1]}: it supports {supported}"
            )
    runtime = import_onnxruntime(gpu=provider.device != "cpu")
    if provider.plugin:
        if not hasattr(runtime, "register_execution_provider_library"):
            raise BackendMissing(
                f"ONNX Runtime {runtime.__version__} takes no plugins: pip install 'onnxruntime>=1.24'"
            )
        if importlib.util.find_spec(provider.plugin) is None:
            package = provider.plugin.replace("_", "-")
            raise BackendMissing(
                f"ONNX Runtime's {provider.title} provider is not installed: pip install {package}"
            )
    elif provider.name not in runtime.get_available_providers():
        raise BackendMissing(
            f"ONNX Runtime {runtime.__version__} was built without {provider.name}:"
            f" pip uninstall -y onnxruntime && {install('gpu')}"
        )


def open_session(provider: Provider, model: bytes, batch: int | None, what: str) -> Any:
    """An `onnxruntime.InferenceSession` that runs on this provider and on no processor.

    Args:
        provider: as `require` found it.
        model: the encoded graph.
        batch: what its dimension ``batch`` is fixed to; None leaves it open.
        what: what is being opened, for the sentence.

    Raises:
        BackendMissing: the provider does not load.
        BuilderRefused: it does not take the graph.
    """
    if provider.fixed:
        # TensorRT rounds float32 products to TF32 unless NVIDIA's libraries are told otherwise.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors arrive as exceptions
    if provider.device != "cpu":
        # Whatever the provider does not take would go to the processor without a word.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    if batch is not None:
        options.add_free_dimension_override_by_name("batch", batch)
    refusal = f"ONNX Runtime {runtime.__version__} does not run {what} on {provider.name}"
    with answering(refusal, BuilderRefused):
        if provider.plugin:
            options.add_provider_for_devices(_plugin_devices(provider, runtime), dict(provider.options))
            session = runtime.InferenceSession(model, options, enable_fallback=0)
        else:
            chain = [(provider.name, dict(provider.options))]
            if provider.beside:
                chain.append((provider.beside, dict(_OPTIONS.get(provider.beside, {}))))
            session = runtime.InferenceSession(model, options, providers=chain, enable_fallback=0)
    used = session.get_providers()
    if not used or used[0] != provider.name:
        raise BackendMissing(
            f"ONNX Runtime {runtime.__version__} was asked for {provider.name} and took"
            f" {used[0] if used else 'nothing'} instead: the libraries that {provider.title} needs"
            " (CUDA, cuDNN, TensorRT) are not all here; `p2 doctor` says what is installed"
        )
    return session


def _plugin_devices(provider: Provider, runtime: Any) -> list[Any]:
    """The GPU as the plugin sees it; the plugin is registered at its first use."""
    plugin = importlib.import_module(provider.plugin)
    name = plugin.get_ep_name()
    devices = [device for device in runtime.get_ep_devices() if device.ep_name == name]
    if not devices:
        with answering(f"{provider.plugin} does not load", BackendMissing):
            runtime.register_execution_provider_library(name, plugin.get_library_path())
        devices = [device for device in runtime.get_ep_devices() if device.ep_name == name]
    if not devices:
        raise BackendMissing(f"{provider.plugin} finds no GPU that it can use")
    return devices[:1]


def probe(provider: Provider) -> None:
    """Open the smallest of sessions on a provider.

    Raises:
        BackendMissing: as `require` and `open_session`.
    """
    require(provider)
    x, y = Value("x", FLOAT, ("batch",)), Value("y", FLOAT, ("batch",))
    graph = Graph([Node.make("Add", ["x", "x"], ["y"])], {}, [x], [y])
    open_session(provider, encode_model(graph, 17), 1 if provider.fixed else None, "a graph of one operator")


def ask(backend: str) -> str:
    """Why one of `PROVIDERS` cannot be used here, as a sentence; empty if it can. Loads nothing itself."""
    command = [sys.executable, "-P", "-m", __name__, backend]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"opening a session takes more than {_PROBE_SECONDS} s"
    if done.returncode == 0:
        return done.stdout.strip()
    if done.returncode < 0:
        return f"opening a session ends the process (signal {-done.returncode})"
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else "opening a session fails"


if __name__ == "__main__":  # `p2 doctor` asks in a process of its own: a library may end it
    try:
        probe(PROVIDERS[sys.argv[1]])
    except P2Error as reason:
        print(reason)
