"""What is checked: every backend of the runtime's table on a GPU, and what stands in for a rehearsal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..bench.contenders.p2_gpu import key_for
from ..contract.card import CPU_PRECISIONS, PRECISIONS
from ..contract.engine import Engine
from ..contract.plan import TENSORRT_RTX, runs_on
from ..runtime import backends, nvidia
from ..runtime.onnxruntime.providers import PROVIDERS, STAND_IN
from .models import Files

GRAPH, STEPS, SINGLE = "graph", "steps", "single"
EXACT = ("cuda",)  # backends whose integers are the processor's, bit for bit


@dataclass(frozen=True)
class Checked:
    """A way to run a model, and the files of its checks.

    Attributes:
        key: as in `Check.backend`.
        title: for people.
        device: ``cuda``, or ``cpu`` for those that only stand in when the checks are rehearsed.
        missing: why it cannot be used here, as a sentence; empty if it can. Loads no library into this
            process.
        modes: how it is opened, by what it then does in one launch; ``single`` is a plan for one text.
        precisions: that it can run at all.
        flavour: whose plan it runs; empty if it runs the step itself.
        contenders: the benchmark's, for a precision.
        command: the options of `p2 generate` that name it, for a model and a precision; None: it has none.
        exact: whether integer weights write the text that they write on the processor.
    """

    key: str
    title: str
    device: str
    missing: Callable[[], str]
    modes: Mapping[str, Callable[[Files, str], Engine]]
    precisions: tuple[str, ...] = PRECISIONS
    flavour: str = ""
    contenders: Callable[[str], tuple[str, ...]] = lambda _: ()
    command: Callable[[Files, str], tuple[str, ...]] | None = None
    exact: bool = False


def refuses(checked: Checked) -> bool:
    """Whether this GPU is one that the backend's library does not support, and is to say so."""
    gpus = nvidia.gpus()
    provider = PROVIDERS.get(checked.key)
    rtx = checked.flavour == TENSORRT_RTX.name or bool(provider and provider.plugin)
    return rtx and bool(gpus.devices) and not runs_on(TENSORRT_RTX, gpus.devices[0].capability)


def _checked(backend: backends.Backend) -> Checked:
    def path(files: Files, precision: str) -> Path:
        return files.checkpoint if backend.kind == "checkpoint" else files.step(precision)

    def opened(files: Files, precision: str) -> Engine:
        from ..runtime.opening import open_file

        return open_file(path(files, precision), backend)

    def contenders(precision: str) -> tuple[str, ...]:
        key = key_for(backend, precision)
        return (key, f"p2.gpu_check.single_plan:{precision}") if backend.kind == "plan" else (key,)

    def command(files: Files, precision: str) -> tuple[str, ...]:
        if backend.kind == "plan":
            return ("--engine", str(files.plan(backend.key, precision)))
        return ("--engine", str(path(files, precision)), "--backend", backend.key)

    modes: dict[str, Callable[[Files, str], Engine]] = {GRAPH if backend.whole else STEPS: opened}
    flavour = ""
    if backend.kind == "plan":
        flavour = backend.key
        modes = {
            GRAPH: _plan(flavour),
            STEPS: _plan(flavour, step_by_step=True),
            SINGLE: _plan(flavour, single=True),
        }
    return Checked(
        backend.key,
        backend.title,
        "cuda",
        backend.why_not,
        modes,
        backend.precisions,
        flavour,
        contenders,
        command,
        backend.key in EXACT,
    )


def _plan(
    flavour: str, *, step_by_step: bool = False, single: bool = False
) -> Callable[[Files, str], Engine]:
    def opened(files: Files, precision: str) -> Engine:
        from ..runtime.tensorrt.engine import open_plan

        return open_plan(files.plan(flavour, precision, single), step_by_step=step_by_step)

    return opened


def _eager(device: str) -> Callable[[Files, str], Engine]:
    def steps(files: Files, _: str) -> Engine:
        from ..bench.contenders.cuda import prepare_cuda
        from ..trainer.eager import open_checkpoint

        if device == "cuda":
            prepare_cuda()
        return open_checkpoint(files.checkpoint, device=device)

    return steps


def _loop(files: Files, precision: str) -> Engine:
    from ..runtime.onnxruntime.engine import open_onnx

    return open_onnx(files.step(precision))


def _stand_in(files: Files, precision: str) -> Engine:
    from ..runtime.onnxruntime.gpu import OnnxGpuEngine
    from ..runtime.step_file import open_step

    return OnnxGpuEngine(open_step(files.step(precision)), STAND_IN)


BACKENDS = {
    checked.key: checked
    for checked in (
        *(_checked(backend) for backend in backends.BACKENDS.values() if backend.gpu),
        Checked(
            "torch-cuda",
            "PyTorch, CUDA, eager",
            "cuda",
            backends.BACKENDS[backends.CUDA_GRAPH].why_not,
            {STEPS: _eager("cuda")},
            ("float32",),
        ),
        # The stand-ins of a rehearsal: whole launches, bound step by step, and PyTorch.
        Checked(
            backends.ONNXRUNTIME,
            "ONNX Runtime, CPU",
            "cpu",
            backends.BACKENDS[backends.ONNXRUNTIME].why_not,
            {GRAPH: _loop, STEPS: _stand_in},
            CPU_PRECISIONS,
            contenders=lambda precision: (f"p2-{precision}",),
            command=lambda files, precision: (
                "--engine",
                str(files.step(precision)),
                "--backend",
                backends.ONNXRUNTIME,
            ),
            exact=True,
        ),
        Checked(
            "torch-cpu",
            "PyTorch, CPU, eager",
            "cpu",
            backends.BACKENDS[backends.EAGER].why_not,
            {STEPS: _eager("cpu")},
            ("float32",),
        ),
    )
}
