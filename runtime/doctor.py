"""What is installed here, which engines can be built and run, and what would make the others work."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..contract.plan import FLAVOURS, RTX_CAPABILITIES, TENSORRT, TENSORRT_RTX, Flavour, runs_on
from ..contract.shell import install
from ..version import __version__
from . import native, nvidia
from .backends import BACKENDS, CUDA, NATIVE, ON_ANY_GPU, ONNXRUNTIME, Backend
from .cuda_core import driver_too_old
from .installed import PACKAGES, Package, onnxruntimes, packages
from .native import binding
from .onnxruntime import providers as onnx_providers
from .processor import cpu_name

if TYPE_CHECKING:
    from rich.console import Console

_RTX_MACHINES = ("x86_64", "AMD64")
_RTX_SYSTEMS = ("Linux", "Windows")

TENSORRT_ELSEWHERE = (
    "TensorRT's packages fetch their libraries from https://pypi.nvidia.com while they are installed; where"
    " only PyPI is reached, the extra `gpu` does not resolve: pip install 'onnxruntime-gpu[cuda,cudnn]', and"
    f" p2 generate --backend {ON_ANY_GPU} runs a .onnx on the GPU without TensorRT"
)


ON_THE_GPU = (
    "p2 runs a .onnx on this GPU by itself, as with --backend {}; --threads or another --backend runs it on"
    " the processor"
)


@dataclass(frozen=True)
class Verdict:
    """Whether something can be done here; if not, what is missing and what would change that."""

    possible: bool
    missing: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class EngineVerdict:
    """Whether one kind of engine can be built and run here."""

    engine: str
    build: Verdict
    run: Verdict


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with the installation, and the command that puts it right."""

    problem: str
    remedy: str


@dataclass(frozen=True)
class Diagnosis:
    """Everything that `p2 doctor` knows about a machine."""

    system: dict[str, str]
    packages: dict[str, Package]
    gpus: nvidia.Gpus
    engines: list[EngineVerdict] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """The diagnosis as plain JSON values."""
        return asdict(self)


def diagnose() -> Diagnosis:
    """Look at this machine. Never raises, and imports none of the libraries it reports on."""
    found = Diagnosis(_system(), packages(), nvidia.gpus())
    found.engines.extend(_engines(found))
    found.problems.extend(_problems(found))
    if found.gpus.devices and not found.packages[TENSORRT.name].version:
        found.notes.append(TENSORRT_ELSEWHERE)
    for backend, row in zip(BACKENDS.values(), found.engines, strict=True):
        if backend.preferred and row.run.possible:
            found.notes.append(ON_THE_GPU.format(backend.key))
    return found


def _system() -> dict[str, str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "p2": __version__,
        "Python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "CPU": cpu_name(),
        "cores": f"{usable} usable of {os.cpu_count()}",
        "decoder": _decoder(),
    }


def _decoder() -> str:
    """The instructions that p2's own decoder runs on."""
    if reason := native.problem():
        return f"does not run: {reason}"
    others = [name for name, there in binding.levels().items() if there and name != native.level()]
    return f"runs on {native.level()}" + (
        f"; {native.CPU}={' or '.join(others)} asks for less" if others else ""
    )


@dataclass(frozen=True)
class _Need:
    """One condition: what is missing if it is not met, and the extra or the sentence that helps."""

    met: bool
    missing: str
    extra: str = ""
    remedy: str = ""


def _engines(found: Diagnosis) -> list[EngineVerdict]:
    train = [_need(found, name) for name in ("torch", "safetensors")]
    graph = [*train, *(_need(found, name) for name in ("onnx", "onnxscript", "onnxruntime"))]
    rows = []
    for backend in BACKENDS.values():
        build = {"checkpoint": train, "onnx": graph, "plan": graph}[backend.kind]
        if backend.kind == "plan":
            build = [*graph, *_builder_needs(found, FLAVOURS[backend.key])]
        rows.append(EngineVerdict(_row_title(backend), _judge(build), _judge(_needs(found, backend))))
    return rows


def _row_title(backend: Backend) -> str:
    """By its key, where nothing runs on it unless --backend asks for it."""
    name = backend.key if backend.gpu and backend.kind != "plan" else backend.title
    return f"{'' if backend.kind == 'checkpoint' else '.'}{backend.kind} ({name})"


def _needs(found: Diagnosis, backend: Backend) -> list[_Need]:
    """What running a model on a backend takes."""
    if backend.kind == "plan":
        flavour = FLAVOURS[backend.key]
        library, *others = backend.needs
        gpu = _gpu_need(found, flavour)
        if found.gpus.devices and not gpu.met:
            return [gpu]  # installing anything would not help
        return [_library_need(found, library), *(_need(found, name, flavour.extra) for name in others), gpu]
    extra = PACKAGES[backend.needs[-1]] if backend.needs else ""  # brings all of them
    if backend.gpu and "onnxruntime" in backend.needs:
        extra = "gpu"  # `cpu` brings one that knows no GPU
    packages = [_need(found, name, extra) for name in backend.needs]
    if backend.gpu:
        provider = onnx_providers.PROVIDERS.get(backend.key)
        gpu = _gpu_need(found, TENSORRT_RTX if provider and provider.plugin else TENSORRT)
        if found.gpus.devices and not gpu.met:
            remedy = f"p2 generate --backend {ON_ANY_GPU} runs a .onnx on this GPU"
            return [*packages, replace(gpu, remedy=remedy)]
        packages.append(gpu)
    if not all(need.met for need in packages):
        return packages  # it cannot be tried before they are here
    return [*packages, _trial(backend)]


def _trial(backend: Backend) -> _Need:
    """Whether it really runs: a library that is installed may not load."""
    reason = backend.why_not()
    if backend.key == NATIVE:
        remedy = f"p2 generate --backend {ONNXRUNTIME} runs a .onnx on this processor"
        if native.CPU in reason:
            remedy = f"unset {native.CPU}"
        if binding.library() is None:
            remedy = install(anew=True)
            if not binding.FILE.exists():
                remedy = f"install a C compiler, then p2 again: {remedy}"
        return _Need(not reason, reason, remedy=remedy)
    if "torch" in backend.needs:
        return _Need(not reason, reason, remedy="pytorch.org says which PyTorch to install")
    reason, _, remedy = reason.partition(": pip ")
    otherwise = "see what is missing above"
    if backend.key == CUDA:
        otherwise = f"p2 generate --backend {ON_ANY_GPU} may run a .onnx on this GPU"
    return _Need(not reason, reason, remedy=f"pip {remedy}" if remedy else otherwise)


def _library_need(found: Diagnosis, name: str) -> _Need:
    if name == TENSORRT_RTX.name and not _published(found):
        where = "TensorRT-RTX is made for Linux and Windows on x86-64 only"
        return _Need(False, where, remedy=where)
    return _need(found, name)


def _builder_needs(found: Diagnosis, flavour: Flavour) -> list[_Need]:
    library = _library_need(found, flavour.name)
    return [library] if flavour == TENSORRT_RTX else [library, _gpu_need(found, flavour)]


def _published(found: Diagnosis) -> bool:
    return found.packages[TENSORRT_RTX.name].works or (
        platform.machine() in _RTX_MACHINES and platform.system() in _RTX_SYSTEMS
    )


def _need(found: Diagnosis, name: str, extra: str = "") -> _Need:
    package = found.packages[name]
    if package.broken:
        return _Need(False, f"{name} does not load", remedy=_reinstall(name))
    if name == "onnxruntime" and found.gpus.devices:
        extra = "gpu"
    return _Need(package.works, name, extra or PACKAGES[name])


def _gpu_need(found: Diagnosis, flavour: Flavour) -> _Need:
    devices = found.gpus.devices
    if not devices:
        remedy = f"take a machine with an NVIDIA GPU and its driver ({found.gpus.problem} here)"
        return _Need(False, "an NVIDIA GPU", remedy=remedy)
    if flavour != TENSORRT_RTX:
        return _Need(True, "")
    capability = devices[0].capability
    supported = ", ".join(f"{major}.{minor}" for major, minor in RTX_CAPABILITIES)
    return _Need(
        runs_on(flavour, capability),
        f"a GPU that TensorRT-RTX supports (this {devices[0].name} has compute capability"
        f" {capability[0]}.{capability[1]}, it runs on {supported})",
        remedy="p2 export --engine tensorrt builds a plan for this GPU",
    )


def _judge(needs: list[_Need]) -> Verdict:
    lacking = [need for need in needs if not need.met]
    if not lacking:
        return Verdict(True)
    extras = sorted({need.extra for need in lacking if need.extra})
    remedies = list(dict.fromkeys(need.remedy for need in lacking if need.remedy))
    if extras:
        remedies.append(_install(extras))
    return Verdict(
        False, ", ".join(dict.fromkeys(need.missing for need in lacking)), "; then ".join(remedies)
    )


def _install(extras: list[str]) -> str:
    if "gpu" not in extras:
        return install(*extras)
    command = install(*(extra for extra in extras if extra != "cpu"))
    # The extra brings onnxruntime-gpu, and the two overwrite each other's files.
    return f"pip uninstall -y onnxruntime && {command}" if onnxruntimes() == ["onnxruntime"] else command


def _reinstall(name: str) -> str:
    distribution = next(iter(onnxruntimes()), name) if name == "onnxruntime" else name
    return f"pip install --force-reinstall {distribution}"


def _problems(found: Diagnosis) -> list[Problem]:
    problems = []
    together = onnxruntimes()
    if len(together) > 1:
        extra = "gpu" if found.gpus.devices else "cpu"
        problems.append(
            Problem(
                f"{' and '.join(together)} are installed together and overwrite each other's files",
                f"pip uninstall -y {' '.join(together)} && {install(extra)}",
            )
        )
    for name, package in found.packages.items():
        if package.broken:
            problems.append(Problem(f"{name} does not load: {package.broken}", _reinstall(name)))
    if conflict := driver_too_old(found.packages["cuda-bindings"].version, found.gpus):
        problems.append(Problem(*conflict))
    return problems


def show(found: Diagnosis, console: Console) -> None:
    """Print a diagnosis as tables, with the remedies as whole lines below, ready to copy."""
    from rich.table import Table
    from rich.text import Text

    facts = Table("", "", show_header=False, box=None, pad_edge=False)
    for name, value in found.system.items():
        facts.add_row(name, Text(value))
    facts.add_row("NVIDIA driver", Text(_driver_line(found.gpus)))
    for gpu in found.gpus.devices:
        capability = f"compute capability {gpu.capability[0]}.{gpu.capability[1]}"
        facts.add_row("GPU", Text(f"{gpu.name}, {capability}, {gpu.memory / 2**30:.1f} GiB"))
    console.print(facts)

    installed = Table("package", "version", "", title="Installed", title_justify="left")
    for name, package in found.packages.items():
        installed.add_row(name, package.version or "-", Text(package.broken or package.remark))
    console.print()
    console.print(installed)

    engines = Table("engine", "build it here", "run it here", title="Engines", title_justify="left")
    for row in found.engines:
        engines.add_row(row.engine, Text(_answer(row.build)), Text(_answer(row.run)))
    console.print()
    console.print(engines)

    lines = [f"problem: {problem.problem}\n    {problem.remedy}" for problem in found.problems]
    for row in found.engines:
        if row.build == row.run and not row.build.possible:
            lines.append(f"to build and run {row.engine}:\n    {row.build.remedy}")
            continue
        for task, verdict in (("build", row.build), ("run", row.run)):
            if not verdict.possible:
                lines.append(f"to {task} {row.engine}:\n    {verdict.remedy}")
    lines = lines or ["Every engine can be built and run here."]
    console.print()
    for line in [*lines, *(f"note: {note}" for note in found.notes)]:
        console.print(Text(line), soft_wrap=True)


def _driver_line(gpus: nvidia.Gpus) -> str:
    if gpus.cuda is None:
        return gpus.problem
    cuda = f"speaks CUDA {gpus.cuda[0]}.{gpus.cuda[1]}"
    return ", ".join(filter(None, (gpus.driver, cuda, gpus.problem)))


def _answer(verdict: Verdict) -> str:
    return "yes" if verdict.possible else f"no: {verdict.missing}"
