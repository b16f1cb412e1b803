"""One run of TensorRT's builder, or of TensorRT-RTX's, on a step graph.

Only calls that TensorRT 10, 11 and TensorRT-RTX share are used (`untyped` has what 8.6 and 9 need instead).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx

from ..contract.card import Card
from ..contract.errors import BuilderRefused, ContractError
from ..contract.plan import FLOAT_TYPES, TENSORRT, Profile, contract_breach
from ..runtime import nvidia
from ..runtime.cache import cache_path, read_cache, write_cache
from ..runtime.nvidia import Library
from . import untyped
from .opset import at_opset
from .targets import Options, check_float8, rtx_targets

Progress = Callable[[str, int, int], None]


class BuilderRun:
    """The network of one step, then its plan.

    Attributes:
        targets: compute capabilities that the plan is for; none says: for this GPU.
        settings: what the builder was told.

    Raises (every method):
        BuilderRefused: TensorRT refuses; the message has its reason.
    """

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
        """Read an ONNX graph, check it against the contract, and return the type of its states.

        Raises:
            ContractError: the graph breaks the step contract.
        """
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
