"""What runs an exported step here: for each way, why it cannot run, and how it is opened.

A way to run that is not in this list is not checked: whoever adds one adds a line here.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ..contract.card import CPU_PRECISIONS, PRECISIONS
from ..contract.engine import Engine
from ..contract.plan import FLAVOURS, TENSORRT_RTX, runs_on
from ..contract.shell import install
from ..runtime import nvidia
from ..runtime.onnxruntime import providers as onnx_providers
from ..runtime.tensorrt import driver as cuda
from .models import Files

GRAPH, STEPS, SINGLE = "graph", "steps", "single"

_PROBE_SECONDS = 120


@dataclass(frozen=True)
class Backend:
    """A way to run a model.

    Attributes:
        key: as in `Check.backend`.
        title: for people.
        device: ``cuda``, or ``cpu`` for those that only stand in when the checks are rehearsed.
        missing: why it cannot be used here, as a sentence; empty if it can. Loads no library into this
            process.
        modes: how it is opened, by what it then does in one launch; ``single`` is a plan for one text.
        precisions: that it can run at all.
        flavour: whose plan it runs; empty if it runs the step itself.
        contenders: the benchmark's keys, with ``{}`` for the precision.
    """

    key: str
    title: str
    device: str
    missing: Callable[[], str]
    modes: Mapping[str, Callable[[Files, str], Engine]]
    precisions: tuple[str, ...] = PRECISIONS
    flavour: str = ""
    contenders: tuple[str, ...] = ()


def refuses(backend: Backend) -> bool:
    """Whether this GPU is one that the backend's library does not support, and is to say so."""
    gpus = nvidia.gpus()
    provider = onnx_providers.PROVIDERS.get(backend.key)
    rtx = backend.flavour == TENSORRT_RTX.name or bool(provider and provider.plugin)
    return rtx and bool(gpus.devices) and not runs_on(TENSORRT_RTX, gpus.devices[0].capability)


def _plan(flavour: str) -> Backend:
    def missing() -> str:
        about = FLAVOURS[flavour]
        if not nvidia.installed(about):
            return f"{about.title} is not installed: {install(about.extra)}"
        return cuda.missing()

    def opener(*, step_by_step: bool = False, single: bool = False) -> Callable[[Files, str], Engine]:
        def open_it(files: Files, precision: str) -> Engine:
            from ..runtime.tensorrt.engine import open_plan

            return open_plan(files.plan(flavour, precision, single), step_by_step=step_by_step)

        return open_it

    modes = {GRAPH: opener(), STEPS: opener(step_by_step=True), SINGLE: opener(single=True)}
    contenders = ("p2-tensorrt-{}", "p2.gpu_check.single_plan:{}")
    return Backend(
        flavour, FLAVOURS[flavour].title, "cuda", missing, modes, flavour=flavour, contenders=contenders
    )


def _provider(key: str) -> Backend:
    def steps(files: Files, precision: str) -> Engine:
        from ..runtime.onnxruntime.gpu import open_onnx_gpu

        return open_onnx_gpu(files.step(precision), key)

    title = f"ONNX Runtime, {onnx_providers.PROVIDERS[key].title}"
    # What it needs beside a supported GPU: `refuses` tells of the others.
    return Backend(
        key,
        title,
        "cuda",
        lambda: onnx_providers.ask(key),
        {STEPS: steps},
        CPU_PRECISIONS,
        contenders=(f"p2-{key}-{{}}",),
    )


def _eager(device: str) -> Callable[[Files, str], Engine]:
    def steps(files: Files, _: str) -> Engine:
        from ..trainer import checkpoint
        from ..trainer.eager import EagerEngine
        from ..trainer.model import CharModel

        if device == "cuda":
            import torch

            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        found = checkpoint.load(files.checkpoint)
        model = CharModel(found.card)
        model.load_state_dict(found.model_state)
        return EagerEngine(model.to(device))

    return steps


def _torch_cuda() -> str:
    if importlib.util.find_spec("torch") is None:
        return f"PyTorch is not installed: {install('train')}"
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


def _cuda_graph(files: Files, _: str) -> Engine:
    from ..export.cuda_graph import open_cuda_graph

    return open_cuda_graph(files.checkpoint)


def _loop(files: Files, precision: str) -> Engine:
    from ..runtime.onnxruntime.engine import open_onnx

    return open_onnx(files.step(precision))


def _stand_in(files: Files, precision: str) -> Engine:
    from ..runtime.onnxruntime.gpu import OnnxGpuEngine
    from ..runtime.step_file import open_step

    return OnnxGpuEngine(open_step(files.step(precision)), onnx_providers.STAND_IN)


def _found(module: str, extra: str) -> Callable[[], str]:
    return lambda: "" if importlib.util.find_spec(module) else f"{module} is not installed: {install(extra)}"


BACKENDS = {
    backend.key: backend
    for backend in (
        *(_plan(flavour) for flavour in FLAVOURS),
        *(_provider(key) for key in onnx_providers.PROVIDERS),
        Backend(
            "cuda-graph",
            "PyTorch CUDA graphs",
            "cuda",
            _torch_cuda,
            {GRAPH: _cuda_graph},
            ("float32",),
            contenders=("p2-cuda-graph",),
        ),
        Backend(
            "torch-cuda", "PyTorch, CUDA, eager", "cuda", _torch_cuda, {STEPS: _eager("cuda")}, ("float32",)
        ),
        # The stand-ins of a rehearsal: whole launches, bound step by step, and PyTorch.
        Backend(
            "onnxruntime-cpu",
            "ONNX Runtime, CPU",
            "cpu",
            _found("onnxruntime", "cpu"),
            {GRAPH: _loop, STEPS: _stand_in},
            CPU_PRECISIONS,
            contenders=("p2-{}",),
        ),
        Backend(
            "torch-cpu",
            "PyTorch, CPU, eager",
            "cpu",
            _found("torch", "train"),
            {STEPS: _eager("cpu")},
            ("float32",),
        ),
    )
}
