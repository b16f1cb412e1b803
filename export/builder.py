"""Compile a step graph to a TensorRT or TensorRT-RTX plan.

The network is strongly typed: the tensors of the ONNX file decide every precision, no builder flag
does. Only calls that TensorRT 10, 11 and TensorRT-RTX share are used (`untyped` has what 8.6 and 9 need
instead). TensorRT measures kernels on the GPU that it finds; TensorRT-RTX needs no GPU, and unless it is
told a target its plan runs on compute capability 8.0, 8.6, 8.9, 12.0 and 12.1 (it compiles the last bit
there, when it loads).

Batch 1 has an optimization profile of its own; the price is that the plan holds float weights twice when a
larger batch is asked for as well. A plan for batch 1 alone has its products written as sums (`matvec`): a
step of two layers is three kernels then, and five to eleven otherwise.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

from ..contract import files
from ..contract.card import Card
from ..contract.errors import BackendMissing, BuilderRefused, ContractError, UsageError
from ..contract.plan import (
    FLAVOURS,
    FLOAT_TYPES,
    TENSORRT,
    PlanHeader,
    Profile,
    Sidecar,
    contract_breach,
    parse_header,
    write_sidecar,
)
from ..runtime import nvidia
from ..runtime.cache import cache_path, read_cache, write_cache
from ..runtime.nvidia import Library, Sink
from . import short_weights, untyped
from .choice_stage import add_choice
from .layers import layers_in
from .matvec import as_sums
from .opset import OPSET, at_opset
from .targets import PORTABLE, Options, check_float8, rtx_targets

Progress = Callable[[str, int, int], None]


def available() -> list[str]:
    """The builders that can work here, best first.

    TensorRT needs a GPU to build on and then tunes for exactly that one; TensorRT-RTX builds anywhere.
    """
    names = [flavour.name for flavour in FLAVOURS.values() if nvidia.installed(flavour)]
    if TENSORRT.name in names and not nvidia.gpus().devices:
        names.remove(TENSORRT.name)
    return names


def build_plan(
    onnx_path: Path,
    card: Card,
    out: Path,
    *,
    engine: str,
    batch: Profile = (1, 1, 1),
    options: Options = PORTABLE,
    choice: bool = True,
    log: Sink | None = None,
    progress: Progress | None = None,
) -> PlanHeader:
    """Compile a step graph and write the plan and its sidecar.

    Args:
        onnx_path: a step graph that keeps the step contract.
        card: its model.
        out: where the plan appears, whole or not at all, after its sidecar.
        engine: ``tensorrt`` or ``tensorrt-rtx``.
        batch: smallest, usual and largest batch. Batch 1 always runs as well, on kernels of its own.
        options: targets and compatibility.
        choice: whether the plan also chooses the next character (`contract.choice`), which lets the device
            write many without the host; a bare step has the tensors of the contract only.
        log: hears every message of the builder, the chosen kernels included.
        progress: called as ``progress(phase, done, steps)``; phases nest.

    Returns:
        the header of the plan.

    Raises:
        UsageError: there is no such engine, it lacks an option, or the batches are not in order.
        BackendMissing: its library is not installed, or it needs a GPU and there is none.
        ContractError: the graph breaks the step contract.
        P2Error: TensorRT refuses the graph (the message has its reason), or a file cannot be
            read or written.
    """
    least, usual, most = batch
    if not 1 <= least <= usual <= most:
        raise UsageError(f"--batch {least},{usual},{most}: give min,opt,max in ascending order, from 1 up")
    if engine not in FLAVOURS:
        raise UsageError(f"unknown engine {engine!r}: choose one of {', '.join(FLAVOURS)}")
    options.check(FLAVOURS[engine])
    library = nvidia.library(FLAVOURS[engine])
    require_gpu(library)
    with files.reading(onnx_path):
        graph = onnx_path.read_bytes()
    model = short_weights.multiplied(at_opset(_load(graph, onnx_path), OPSET))
    _check_blocks(model, onnx_path)
    if choice:
        add_choice(model.graph, card)
    profiles = [(1, 1, 1)] if most == 1 else [(1, 1, 1), batch]
    compiler = _Compiler(library, onnx_path, card, options)
    messages: list[str] = []

    def hear(message: str) -> None:
        messages.append(message)
        if log:
            log(message)

    with library.listening(hear):
        typed = as_sums(model) if most == 1 else model
        float_type = compiler.parse(typed)
        memory = compiler.build(profiles, progress)
    header = parse_header(bytes(memoryview(memory)[:64]), out)
    sidecar = Sidecar(
        card=card,
        flavour=header.flavour,
        version=header.version,
        onnx_sha256=hashlib.sha256(graph).hexdigest(),
        plan_sha256=hashlib.sha256(memory).hexdigest(),
        plan_bytes=memory.nbytes,
        float_type=float_type,
        profiles=tuple(profiles),
        settings=compiler.settings | {"products": "sums" if most == 1 else "matrix products"},
        built=datetime.now(UTC).isoformat(timespec="seconds"),
        targets=compiler.targets,
        layers=layers_in(messages),
    )
    # In this order: a plan without its sidecar is nobody's, a sidecar without its plan is plainly p2's.
    write_sidecar(out, sidecar)
    files.write_atomically(out, lambda file: file.write(memory))
    return header


def require_gpu(library: Library) -> None:
    """Make sure that a library that builds only on a GPU has one.

    Raises:
        BackendMissing: it has none.
    """
    if library.flavour != TENSORRT:
        return
    gpus = nvidia.gpus()
    if not gpus.devices:
        raise BackendMissing(
            f"{library} builds only on a machine with an NVIDIA GPU, and {gpus.problem} here:"
            " `p2 export --engine tensorrt-rtx` builds without one"
        )


def _load(graph: bytes, path: Path) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(graph)
    except Exception as error:  # protobuf's own class, which is no part of onnx's interface
        raise ContractError(f"{path} is damaged: not an ONNX file; run `p2 export` again") from error


def _check_blocks(model: onnx.ModelProto, path: Path) -> None:
    """Refuse blocks of weights that TensorRT would read wrongly.

    It infers the block size of a DequantizeLinear from the shapes, rows / scales, and ignores the
    attribute: with 40 rows in blocks of 32 it would silently apply the scales to blocks of 20.
    """
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        options = {attribute.name: attribute.i for attribute in node.attribute}
        block = options.get("block_size", 0)
        if node.op_type != "DequantizeLinear" or not block or node.input[0] not in shapes:
            continue
        rows = shapes[node.input[0]][options.get("axis", 1)]
        if rows % block:
            raise BuilderRefused(
                f"{path} cannot become a plan: {node.input[0]} has {rows} rows in blocks of {block}, and"
                f" TensorRT takes whole blocks only; train with a hidden size that is a multiple of {block},"
                " or export as float32 or float16"
            )


class _Compiler:
    """One run of a builder: the network, then the plan."""

    def __init__(self, library: Library, path: Path, card: Card, options: Options) -> None:
        trt = library.trt
        self._library = library
        self._path = path
        self._card = card
        self._untyped = untyped.is_untyped(trt)
        if self._untyped:
            untyped.check_precision(library, path, card)
        if library.flavour == TENSORRT:
            self._gpu = nvidia.gpus().devices[0]
            self.targets: tuple[str, ...] = ()
            check_float8(path, card, self._gpu)
        else:
            self.targets = rtx_targets(library, path, card, options)
        with library.listening():
            try:
                self._builder = trt.Builder(library.logger)
            except (RuntimeError, TypeError) as error:  # how the bindings report that C++ gave nothing
                raise self._refused("start its builder") from error
        flags = trt.NetworkDefinitionCreationFlag
        # The flag's number differs between releases; the name does not.
        flag = flags.EXPLICIT_BATCH if self._untyped else flags.STRONGLY_TYPED
        self._network = self._builder.create_network(1 << int(flag))
        self._config = self._builder.create_builder_config()
        if self._untyped:
            untyped.configure(trt, self._config, card)
        # On by default, it would round the products of a float32 graph to 11 bits.
        self._config.clear_flag(trt.BuilderFlag.TF32)
        self._config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        portable = library.flavour != TENSORRT and not options.targets
        if library.flavour == TENSORRT:
            if options.version_compatible:
                self._config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
            if options.hardware_compatible:
                self._config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
        elif options.targets or card.precision == "float8":
            self._config.num_compute_capabilities = len(self.targets)
            for index, name in enumerate(self.targets):
                capability = getattr(trt.ComputeCapability, name.upper())
                if not self._config.set_compute_capability(capability, index):
                    raise self._refused(f"build for {name}")
        self.settings: dict[str, Any] = {
            "strongly_typed": not self._untyped and self._network.get_flag(flag),
            "tf32": self._config.get_flag(trt.BuilderFlag.TF32),
            "profiling_verbosity": self._config.profiling_verbosity.name,
            "portable": portable,
        }
        if library.flavour == TENSORRT:
            self.settings["version_compatible"] = options.version_compatible
            self.settings["hardware_compatible"] = options.hardware_compatible

    def parse(self, model: onnx.ModelProto) -> str:
        """Read an ONNX graph, check it against the contract, and return the type of its states."""
        trt, card = self._library.trt, self._card
        parser = trt.OnnxParser(self._network, self._library.logger)
        graph = at_opset(model, untyped.OPSET) if self._untyped else model
        if not parser.parse(graph.SerializeToString()):
            reasons = [str(parser.get_error(index)) for index in range(parser.num_errors)]
            raise self._refused("read the graph", " ".join(reasons[0].split()) if reasons else None)
        tensors = [self._network.get_input(index) for index in range(self._network.num_inputs)]
        tensors += [self._network.get_output(index) for index in range(self._network.num_outputs)]
        found = {tensor.name: (tensor.dtype.name, tuple(tensor.shape)[1:]) for tensor in tensors}
        kind = found.get("h_00_in", ("",))[0]
        float_type = next((name for name, trt_name in FLOAT_TYPES.items() if trt_name == kind), "float32")
        breach = contract_breach(card, float_type, found)
        if breach:
            raise ContractError(
                f"{self._path} breaks the step contract (tensor {breach}): export the checkpoint again with"
                " `p2 export`"
            )
        if self._untyped:
            untyped.keep_choice_exact(trt, self._network, card)
        return float_type

    def build(self, profiles: list[Profile], progress: Progress | None) -> Any:
        """Compile for these batches and return the plan, an object that holds the bytes."""
        for batches in profiles:
            profile = self._builder.create_optimization_profile()
            for index in range(self._network.num_inputs):
                tensor = self._network.get_input(index)
                rest = tuple(tensor.shape)[1:]
                profile.set_shape(tensor.name, *((batch, *rest) for batch in batches))
            self._config.add_optimization_profile(profile)
        if progress and hasattr(self._library.trt, "IProgressMonitor"):  # not in TensorRT 8.6.0
            self._config.progress_monitor = _monitor(self._library, progress)
        cache = self._timing_cache() if self._library.flavour == TENSORRT else None
        memory = self._builder.build_serialized_network(self._network, self._config)
        if memory is None:
            raise self._refused("compile the graph")
        if cache is not None:
            path, known = cache
            measured = bytes(memoryview(self._config.get_timing_cache().serialize()))
            if measured != known:
                write_cache(path, measured)
        return memory

    def _timing_cache(self) -> tuple[Path, bytes]:
        """Hand the builder what earlier builds on this GPU measured: that need not be measured again."""
        path = cache_path("timing", TENSORRT, self._library.version, self._gpu.name)
        known = read_cache(path)
        if not self._config.set_timing_cache(self._config.create_timing_cache(known), False):
            known = b""
            self._config.set_timing_cache(self._config.create_timing_cache(known), False)
        return path, known

    def _refused(self, task: str, reason: str | None = None) -> BuilderRefused:
        return BuilderRefused(
            f"{self._library} could not {task} ({self._path}): {reason or self._library.reason()}"
        )


def _monitor(library: Library, progress: Progress) -> Any:
    """TensorRT's progress interface in front of `progress`; an exception there ends the build."""
    trt = library.trt

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self._steps: dict[str, int] = {}

        def phase_start(self, phase: str, _parent: str | None, steps: int) -> None:
            self._steps[phase] = steps
            library.guard(progress, phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            return library.guard(progress, phase, step + 1, self._steps.get(phase, step + 1))

        def phase_finish(self, phase: str) -> None:
            steps = self._steps.pop(phase, 1)
            library.guard(progress, phase, steps, steps)

    return Monitor()
