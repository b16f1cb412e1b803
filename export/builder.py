"""Compile a step graph to a TensorRT or TensorRT-RTX plan.

The network is strongly typed: the tensors of the ONNX file decide every precision, no builder flag
does. TensorRT measures kernels on the GPU that it finds; TensorRT-RTX needs no GPU, and unless it is
told a target its plan runs on compute capability 8.0, 8.6, 8.9, 12.0 and 12.1 (it compiles the last bit
there, when it loads).

Batch 1 has an optimization profile of its own; the price is that the plan holds float weights twice when a
larger batch is asked for as well. A plan for batch 1 alone can have its products written as sums (`matvec`):
a step of two layers is three kernels then, and five to eleven otherwise. Which is faster, `forms` tells.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx

from ..contract import files
from ..contract.card import Card
from ..contract.errors import BackendMissing, BuilderRefused, ContractError, P2Error, UsageError
from ..contract.plan import (
    FLAVOURS,
    TENSORRT,
    PlanHeader,
    Profile,
    Sidecar,
    parse_header,
    write_sidecar,
)
from ..runtime import cuda_core, nvidia
from ..runtime.nvidia import Library, Sink
from ..runtime.tensorrt.plan_file import Plan, check_gpu
from . import forms, short_weights
from .builder_run import BuilderRun, Progress
from .choice_stage import add_choice
from .layers import layers_in
from .matvec import as_sums
from .opset import OPSET, at_opset
from .targets import PORTABLE, Options


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
    say: Sink = lambda _: None,
    progress: Progress | None = None,
) -> PlanHeader:
    """Compile a step graph and write the plan and its sidecar.

    For one text alone the form of the products is chosen (`forms`): by time where the plan runs here, else by
    size.

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
        say: receives a line about the form that was chosen.
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

    def build(form: str) -> _Built:
        run, messages = BuilderRun(library, onnx_path, card, options), []

        def hear(message: str) -> None:
            messages.append(message)
            if log:
                log(message)

        with library.listening(hear):
            float_type = run.parse(as_sums(model) if form == forms.SUMS else model)
            memory = run.build(profiles, progress)
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
            settings=run.settings | {"products": form},
            built=datetime.now(UTC).isoformat(timespec="seconds"),
            targets=run.targets,
            layers=layers_in(messages),
        )
        return _Built(header, sidecar, memory)

    made = build(forms.PRODUCTS) if most > 1 else _for_one_text(build, card, library, out, say)
    # In this order: a plan without its sidecar is nobody's, a sidecar without its plan is plainly p2's. An
    # earlier plan goes once both are on the disk, which may be full, before a sidecar of another is there.
    sidecar = functools.partial(write_sidecar, out, made.sidecar, lambda _: out.unlink(missing_ok=True))
    files.write_atomically(out, lambda file: file.write(made.memory), lambda _: sidecar())
    return made.header


@dataclass(frozen=True)
class _Built:
    """A plan that is no file yet; `memory` holds its bytes."""

    header: PlanHeader
    sidecar: Sidecar
    memory: Any

    def because(self, **grounds: Any) -> _Built:
        """The same, with why its products have their form in the sidecar."""
        settings = self.sidecar.settings | {"products_by": grounds}
        return replace(self, sidecar=replace(self.sidecar, settings=settings))


def _for_one_text(
    build: Callable[[str], _Built], card: Card, library: Library, out: Path, say: Sink
) -> _Built:
    """A plan whose products have the form that is faster here, or else that of its size."""
    form, count = forms.by_size(card), forms.weights(card)
    made, gpus = {form: build(form)}, nvidia.gpus()
    try:
        if not forms.worth_measuring(card):
            raise P2Error("sums lose at this size")
        if not gpus.devices:
            raise P2Error("there is no GPU to measure on")
        check_gpu(out, made[form].sidecar, gpus)
        if reason := cuda_core.missing():
            raise P2Error(reason)
        other = forms.PRODUCTS if form == forms.SUMS else forms.SUMS
        made[other] = build(other)
        plans = {
            name: Plan(out, one.header, one.sidecar, bytes(memoryview(one.memory)))
            for name, one in made.items()
        }
        took = forms.times(plans, library, gpus.devices[0].name)
    except P2Error as error:
        say(f"products as {form}, by size ({count / 1e6:.2f} million weights): {error}")
        return made[form].because(weights=count)
    form = min(took, key=took.__getitem__)
    measured = ", ".join(f"{name} {each:.1f}" for name, each in took.items())
    say(f"products as {form}: a character takes, in microseconds, {measured}")
    return made[form].because(microseconds={name: round(each, 2) for name, each in took.items()})


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
