"""A compiled step, loaded: TensorRT's side of running a plan, with no memory of its own.

It knows the engine, its optimization profiles and its execution contexts, and runs one step on
addresses that the caller names. Works with TensorRT from 8.6 on and TensorRT-RTX alike.
"""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from ...contract.card import Card
from ...contract.choice import FILTER_COLUMNS, FILTERS, NEXT, NOISE
from ...contract.errors import BackendMissing, ContractError, P2Error, UsageError
from ...contract.plan import TENSORRT_RTX, Profile, contract_breach
from ..nvidia import Library
from .kernel_cache import KernelCache
from .plan_file import Plan

# tensorrt_rtx.EngineInvalidityDiagnostics: the second answer of get_engine_validity is a sum of these.
_INVALID = {
    1: "another version of TensorRT-RTX built it",
    2: "TensorRT-RTX does not run on this GPU",
    4: "the NVIDIA driver is too old",
    8: "the CUDA runtime is too old",
    16: "the GPU has too little memory",
    32: "the file is malformed",
    64: "CUDA failed",
}


class CompiledStep:
    """One step of a model on the GPU.

    Attributes:
        float_type: dtype of the states, float32 or float16.
        token_type: dtype of tokens, int64, or int32 in a plan of TensorRT before 10.
        profiles: smallest, usual and largest batch of each optimization profile.
        chooses: whether the plan also chooses the next character (`contract.choice`).
    """

    def __init__(self, plan: Plan, library: Library, gpu: str) -> None:
        """Load a plan.

        Args:
            plan: the plan.
            library: the library that built it.
            gpu: name of the GPU, for error messages.

        Raises:
            BackendMissing: the plan is not for this GPU.
            ContractError: the engine breaks the step contract.
            P2Error: TensorRT does not load it; the message says why.
        """
        self._path = plan.path
        self._library = library
        self._contexts: dict[int, Context] = {}
        self._kernels = KernelCache(library, gpu)
        self._runtime = library.trt.Runtime(library.logger)
        if plan.sidecar.version_compatible:  # such a plan carries the runtime of the version that built it
            self._runtime.engine_host_code_allowed = True
        self._engine = self._load(plan.data, gpu)
        self._card = plan.sidecar.card
        self.float_type = np.dtype(plan.sidecar.float_type)
        tensors = self._check_contract(self._card, plan.sidecar.float_type)
        self.token_type = np.dtype(tensors["token"][0].lower())
        self.chooses = NEXT in tensors
        self.profiles = self._read_profiles()

    def profile_for(self, batch: int) -> int:
        """The first profile that covers `batch`; the builder puts the most special one first.

        Raises:
            UsageError: none does.
        """
        for index, (least, _, most) in enumerate(self.profiles):
            if least <= batch <= most:
                return index
        ranges = (f"{least} to {most}" if most > least else str(most) for least, _, most in self.profiles)
        raise UsageError(
            f"{self._path} was built for a batch of {' or '.join(ranges)}, not of {batch}:"
            f" `p2 export --batch 1,{batch},{batch}` builds one for that"
        )

    def compiles_for(self, batch: int) -> bool:
        """Whether a graph of this batch needs kernels of its own, which TensorRT-RTX compiles for seconds."""
        least, _, most = self.profiles[self.profile_for(batch)]
        return self._library.flavour == TENSORRT_RTX and least < most

    def run(self, batch: int, addresses: dict[str, int], stream: int) -> None:
        """Enqueue one step.

        Args:
            batch: number of streams.
            addresses: on the device, for every tensor of the engine.
            stream: handle of the CUDA stream.

        Raises:
            P2Error: TensorRT refuses.
        """
        profile = self.profile_for(batch)
        context = self._contexts.get(profile)
        if context is None:
            context = self._contexts[profile] = Context(self, profile, stream)
        context.run(batch, addresses, stream)

    def context_for_graph(self, batch: int, stream: int) -> Context:
        """An execution context of its own, whose steps may be recorded: a graph keeps its memory.

        Args:
            batch: the only batch that may be run on it.
            stream: handle of the CUDA stream.

        Raises:
            UsageError: no profile covers the batch.
            P2Error: TensorRT refuses.
        """
        return Context(self, self.profile_for(batch), stream, for_graph=True)

    def close(self) -> None:
        """Let go of everything; TensorRT wants contexts gone before engines, engines before runtimes."""
        self._kernels.save()
        self._contexts.clear()
        self._engine = None
        self._runtime = None

    def _load(self, data: bytes, gpu: str) -> Any:
        with self._library.listening():
            if self._library.flavour == TENSORRT_RTX:
                validity, bits = self._runtime.get_engine_validity(data)
                if validity == self._library.trt.EngineValidity.INVALID:
                    raise self._invalid(int(bits), gpu)
            engine = self._runtime.deserialize_cuda_engine(data)
            if engine is None:
                raise self.failed("load the plan")
        return engine

    def _invalid(self, bits: int, gpu: str) -> BackendMissing:
        reasons = [text for bit, text in _INVALID.items() if bits & bit] or [self._library.reason()]
        return BackendMissing(
            f"{self._path} does not run on the {gpu} with {self._library} ({' and '.join(reasons)}):"
            " build a plan for this machine with `p2 export`, or run the .onnx file"
        )

    def _check_contract(self, card: Card, float_type: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape, without the batch, of each tensor of the engine."""
        engine = self._engine
        tensors = {
            name: (engine.get_tensor_dtype(name).name, tuple(engine.get_tensor_shape(name))[1:])
            for name in map(engine.get_tensor_name, range(engine.num_io_tensors))
        }
        breach = contract_breach(card, float_type, tensors)
        if breach:
            raise ContractError(
                f"{self._path} breaks the step contract (tensor {breach}): run `p2 export` again"
            )
        return tensors

    def _read_profiles(self) -> tuple[Profile, ...]:
        count = self._engine.num_optimization_profiles
        shapes = (self._engine.get_tensor_profile_shape("token", index) for index in range(count))
        return tuple((int(least[0]), int(usual[0]), int(most[0])) for least, usual, most in shapes)

    def failed(self, task: str) -> P2Error:
        """What to raise when TensorRT could not do something: its own reason in a sentence."""
        return P2Error(f"{self._library} could not {task} ({self._path}): {self._library.reason()}")

    def new_handle(self, profile: int, stream: int, for_graph: bool) -> Any:
        """An execution context of TensorRT on one of the profiles, or None."""
        if self._library.flavour == TENSORRT_RTX:
            config = self._engine.create_runtime_config()
            self._kernels.attach(config)
            if for_graph:
                # Otherwise it runs a slower fallback until a thread has compiled kernels for this batch,
                # and a recording would keep the fallback for good.
                strategy = self._library.trt.DynamicShapesKernelSpecializationStrategy.EAGER
                config.dynamic_shapes_kernel_specialization_strategy = strategy
            handle = self._engine.create_execution_context(config)
        else:
            handle = self._engine.create_execution_context()
        if handle is None or not handle.set_optimization_profile_async(profile, stream):
            return None
        return handle

    def input_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """The shape of every input at a batch."""
        card = self._card
        shapes: dict[str, tuple[int, ...]] = {"token": (batch,)}
        shapes |= {f"{name}_in": (batch, card.hidden) for name in card.state_names}
        if self.chooses:
            shapes |= {NOISE: (batch, card.vocab), FILTERS: (batch, len(FILTER_COLUMNS))}
        return shapes

    def listening(self) -> contextlib.AbstractContextManager[None]:
        """Forget what TensorRT said before."""
        return self._library.listening()


class Context:
    """An execution context: one profile, and the batch that its shapes are set to.

    Raises (every method):
        P2Error: TensorRT refuses.
    """

    def __init__(self, step: CompiledStep, profile: int, stream: int, for_graph: bool = False) -> None:
        self._step = step
        self._batch = 0  # none yet
        with step.listening():
            self._handle = step.new_handle(profile, stream, for_graph)
            if self._handle is None:
                raise step.failed("prepare to run")

    def run(self, batch: int, addresses: dict[str, int], stream: int) -> None:
        """Enqueue one step (see `CompiledStep.run`)."""
        if batch != self._batch:
            self._take(batch)
        for name, address in addresses.items():
            if not self._handle.set_tensor_address(name, address):
                raise self._step.failed(f"use the memory for {name}")
        if not self._handle.execute_async_v3(stream):
            raise self._step.failed("run a step")

    def _take(self, batch: int) -> None:
        self._batch = 0
        with self._step.listening():
            shapes = self._step.input_shapes(batch).items()
            if not all(self._handle.set_input_shape(name, shape) for name, shape in shapes):
                raise self._step.failed(f"take a batch of {batch}")
        self._batch = batch
