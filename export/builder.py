"""Compile a step graph to a TensorRT or TensorRT-RTX plan.

The network is strongly typed: the tensors of the ONNX file decide every precision, no builder flag
does. Only calls that TensorRT 10, 11 and TensorRT-RTX share are used. TensorRT measures kernels on
the GPU that it finds; TensorRT-RTX needs no GPU, and its plan runs on compute capability 8.0, 8.6,
8.9, 12.0 and 12.1 (it compiles the last bit there, when it loads).

Batch 1 has an optimization profile of its own: at a fixed batch of 1 the products become
matrix-vector kernels with the gates fused into them, at any other they are general ones. The price
is that the plan holds float weights twice when a larger batch is asked for as well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

from ..spec import files, nvidia
from ..spec.card import Card
from ..spec.errors import BackendMissing, BuilderRefused, ContractError, UsageError
from ..spec.nvidia import Library, Sink
from ..spec.plan import (
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
from .choice_stage import add_choice

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
    choice: bool = True,
    log: Sink | None = None,
    progress: Progress | None = None,
) -> PlanHeader:
    """Compile a step graph and write the plan and its sidecar.

    Args:
        onnx_path: a step graph that keeps the step contract.
        card: its model.
        out: where the plan appears, whole or not at all; then the sidecar beside it.
        engine: ``tensorrt`` or ``tensorrt-rtx``.
        batch: smallest, usual and largest batch. Batch 1 always runs as well, on kernels of its own.
        choice: whether the plan also chooses the next character (`spec.choice`), which lets the device
            write many without the host; a bare step has the tensors of the contract only.
        log: hears every message of the builder, the chosen kernels included.
        progress: called as ``progress(phase, done, steps)``; phases nest.

    Returns:
        the header of the plan.

    Raises:
        UsageError: there is no such engine, or the batches are not in order.
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
    library = nvidia.library(FLAVOURS[engine])
    require_gpu(library)
    with files.reading(onnx_path):
        graph = onnx_path.read_bytes()
    model = _load(graph, onnx_path)
    _check_blocks(model, onnx_path)
    if choice:
        add_choice(model.graph, card)
    profiles = [(1, 1, 1)] if most == 1 else [(1, 1, 1), batch]
    compiler = _Compiler(library, onnx_path)
    with library.listening(log):
        float_type = compiler.parse(model.SerializeToString(), card)
        memory = compiler.build(profiles, progress)
    files.write_atomically(out, lambda file: file.write(memory))
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
        settings=compiler.settings,
        built=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_sidecar(out, sidecar)
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

    def __init__(self, library: Library, path: Path) -> None:
        trt = library.trt
        self._library = library
        self._path = path
        with library.listening():
            try:
                self._builder = trt.Builder(library.logger)
            except (RuntimeError, TypeError) as error:  # how the bindings report that C++ gave nothing
                raise self._refused("start its builder") from error
        # The flag's number differs between releases; the name does not.
        typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        self._network = self._builder.create_network(typed)
        self._config = self._builder.create_builder_config()
        # On by default, it would round the products of a float32 graph to 11 bits.
        self._config.clear_flag(trt.BuilderFlag.TF32)
        self._config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        self.settings: dict[str, Any] = {
            "strongly_typed": self._network.get_flag(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
            "tf32": self._config.get_flag(trt.BuilderFlag.TF32),
            "profiling_verbosity": self._config.profiling_verbosity.name,
            "portable": library.flavour != TENSORRT,
        }

    def parse(self, graph: bytes, card: Card) -> str:
        """Read an ONNX graph, check it against the contract, and return the type of its states."""
        parser = self._library.trt.OnnxParser(self._network, self._library.logger)
        if not parser.parse(graph):
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
        if progress:
            self._config.progress_monitor = _monitor(self._library, progress)
        memory = self._builder.build_serialized_network(self._network, self._config)
        if memory is None:
            raise self._refused("compile the graph")
        return memory

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
