"""The backends, in one table: what each runs, how it opens, and why it cannot run here.

Whoever adds one writes it in a folder beside this file and adds its line here. The opener, ``--backend`` and
its help, the doctor, parity, the GPU's checks and the benchmark read the table. Reading it loads nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.card import CPU_PRECISIONS, PRECISIONS
from ..contract.errors import BackendMissing
from ..contract.shell import install

if TYPE_CHECKING:
    from .step_file import StepFile

# What is run, and how a sentence calls it.
KINDS = {"checkpoint": "a checkpoint folder", "onnx": "a .onnx file", "plan": "a .plan file"}


@dataclass(frozen=True)
class Backend:
    """A way to run a model.

    Attributes:
        key: what ``--backend`` takes.
        title: for people.
        kind: of what it runs, one of `KINDS`.
        opener: ``module:function``, relative to this room. It takes a checked `StepFile` for a .onnx and the
            path for the others; then `arguments`; then ``threads=`` unless it runs on a GPU.
        why_not: why it cannot run on this machine, as a sentence; empty if it can. Loads no library into
            this process.
        needs: packages that it runs with, as `installed.PACKAGES` calls them.
        precisions: the weights that it keeps as they are. It may run others, widened to float32.
        arguments: what tells it from others with the same opener.
        gpu: whether it runs on an NVIDIA GPU, where there are no threads to choose.
        whole: whether one launch writes many characters, and not one each.
        preferred: whether it is taken by itself, before those on the processor, where it can run a step.
        unfit: ``module:function``: why it cannot run a `StepFile`, None if it can. Empty: opening it tells.
        note: what the help says beside the key.
    """

    key: str
    title: str
    kind: str
    opener: str
    why_not: Callable[[], str]
    needs: tuple[str, ...] = ()
    precisions: tuple[str, ...] = PRECISIONS
    arguments: tuple[str, ...] = ()
    gpu: bool = False
    whole: bool = True
    preferred: bool = False
    unfit: str = ""
    note: str = ""

    def open(self, what: StepFile | Path, threads: int | None = None) -> Any:
        """An engine (`contract.engine.Engine`).

        Args:
            what: a `StepFile` for a .onnx, else the path.
            threads: processor threads, None to let it choose; not on a GPU.

        Raises:
            P2Error: it is damaged, or cannot run here.
        """
        try:
            function = _at(self.opener)
        except ModuleNotFoundError as error:
            if self.kind != "checkpoint":
                raise
            raise BackendMissing(
                f"running a checkpoint needs PyTorch ({error.name} is not installed): {install('train')},"
                " or run an exported .onnx, which does not"
            ) from error
        return function(what, *self.arguments, **({} if self.gpu else {"threads": threads}))

    def unfit_for(self, step: StepFile) -> str | None:
        """Why it cannot run a step graph here; None if it can. May load its library."""
        reason: str | None = _at(self.unfit)(step) if self.unfit else None
        return reason


def _at(address: str) -> Any:
    module, _, name = address.partition(":")
    return getattr(importlib.import_module(module, __package__), name)


def _no_torch() -> str:
    return "" if importlib.util.find_spec("torch") else f"PyTorch is not installed: {install('train')}"


def _no_torch_cuda() -> str:
    from .installed import torch_without_cuda

    return _no_torch() or torch_without_cuda()


def _no_decoder() -> str:
    from . import native

    return native.problem() or ""


def _no_onnxruntime() -> str:
    found = importlib.util.find_spec("onnxruntime")
    return "" if found else f"onnxruntime is not installed: {install('cpu')}"


def _no_cuda_decoder() -> str:
    from . import nvidia
    from .cuda.engine import problem

    return problem(nvidia.gpus())


def _plan(flavour: str, title: str) -> Backend:
    """Plans of one of the two libraries; which one a plan is for stands in its header."""

    def why_not() -> str:
        from .tensorrt import why_not

        return why_not(flavour)

    needs = (flavour, "cuda-core", "cuda-bindings")
    return Backend(flavour, title, "plan", ".tensorrt.engine:open_plan", why_not, needs, gpu=True)


def _provider(key: str, title: str) -> Backend:
    """One of `onnxruntime.providers.PROVIDERS`."""

    def why_not() -> str:
        from .onnxruntime import providers

        return providers.ask(key)

    return Backend(
        key,
        f"ONNX Runtime, {title}",
        "onnx",
        ".onnxruntime.gpu:open_on",
        why_not,
        ("onnxruntime",),
        CPU_PRECISIONS,
        (key,),
        gpu=True,
        whole=False,
    )


EAGER, NATIVE, ONNXRUNTIME, CUDA, CUDA_GRAPH = "eager", "native", "onnxruntime-cpu", "cuda", "cuda-graph"
ON_ANY_GPU = "onnxruntime-cuda"  # of NVIDIA's that p2 knows: what is recommended where another does not run

# In order of preference: of those on the processor p2 takes the first of a kind by itself.
BACKENDS = {
    backend.key: backend
    for backend in (
        Backend(
            EAGER,
            "PyTorch",
            "checkpoint",
            "..trainer.eager:open_checkpoint",
            _no_torch,
            ("torch", "safetensors"),
            ("float32",),
            whole=False,
            note="PyTorch",
        ),
        Backend(
            NATIVE,
            "native",
            "onnx",
            ".native.engine:NativeEngine",
            _no_decoder,
            unfit=".native.engine:why_not",
            note="p2's compiled decoder",
        ),
        Backend(
            ONNXRUNTIME,
            "ONNX Runtime",
            "onnx",
            ".onnxruntime.engine:OnnxEngine",
            _no_onnxruntime,
            ("onnxruntime",),
            CPU_PRECISIONS,
            unfit=".onnxruntime.session:why_not",
        ),
        _plan("tensorrt", "TensorRT"),
        _plan("tensorrt-rtx", "TensorRT-RTX"),
        Backend(
            CUDA,
            "p2's CUDA decoder",
            "onnx",
            ".cuda.engine:open_cuda",
            _no_cuda_decoder,
            ("cuda-core", "cuda-bindings", "nvidia-cuda-nvrtc"),
            gpu=True,
            preferred=True,
            unfit=".cuda.engine:why_not",
            note="p2's decoder for NVIDIA GPUs",
        ),
        _provider(ON_ANY_GPU, "CUDA"),
        _provider("onnxruntime-tensorrt", "TensorRT"),
        _provider("onnxruntime-rtx", "TensorRT-RTX"),
        Backend(
            CUDA_GRAPH,
            "PyTorch CUDA graphs",
            "checkpoint",
            "..export.cuda_graph:open_cuda_graph",
            _no_torch_cuda,
            ("torch", "safetensors"),
            ("float32",),
            gpu=True,
            note="PyTorch on an NVIDIA GPU",
        ),
    )
}


def selectable() -> dict[str, list[Backend]]:
    """By kind, what ``--backend`` can name: nobody chooses a plan's library."""
    kinds = [kind for kind in KINDS if kind != "plan"]
    return {kind: [one for one in BACKENDS.values() if one.kind == kind] for kind in kinds}


def backend_help() -> str:
    """The help of ``--backend``."""
    sentences = ["What runs it, and nothing else quietly does."]
    for kind, backends in selectable().items():
        *first, last = [one.key + (f" ({one.note})" if one.note else "") for one in backends]
        name = KINDS[kind].split()[1]
        sentences.append(f"A {name}: {', '.join(first)} or {last}.")
    return " ".join(sentences)
