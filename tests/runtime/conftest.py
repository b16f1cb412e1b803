"""A GPU made of host memory, and a TensorRT made of numpy that really computes the step on it.

The double is stricter than the real thing: work waits until somebody synchronises, fresh memory
is full of NaN, every access must lie inside a live allocation, and a step must not write where
it reads. While a stream is captured nothing runs and nothing may wait, allocate or copy from or to the
host; the graph keeps the addresses that it was recorded with, and the execution context that it was
recorded from is its own.
"""

from __future__ import annotations

import ctypes
import enum
import hashlib
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from p2.runtime.cuda import Device
from p2.runtime.plan import Plan
from p2.runtime.tensorrt import PlanEngine
from p2.spec.card import Card
from p2.spec.nvidia import Library
from p2.spec.plan import FLAVOURS, PlanHeader, Sidecar

# What may be called while a stream is captured: not one of these waits or allocates.
_RECORDABLE = {
    "cudaStreamEndCapture",
    "cudaMemcpyAsync",
    "cudaMemsetAsync",
    "cudaGetErrorString",
    "cudaGetErrorName",
    "cudaGraphDestroy",
}


class FakeCuda:
    """`cuda.bindings.runtime` in host memory."""

    class cudaError_t(enum.IntEnum):  # noqa: N801
        cudaSuccess = 0
        cudaErrorMemoryAllocation = 2
        cudaErrorInsufficientDriver = 35
        cudaErrorIllegalAddress = 700
        cudaErrorStreamCaptureUnsupported = 900

    class cudaMemcpyKind(enum.IntEnum):  # noqa: N801
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2
        cudaMemcpyDeviceToDevice = 3

    class cudaStreamCaptureMode(enum.IntEnum):  # noqa: N801
        cudaStreamCaptureModeThreadLocal = 1

    cudaStreamNonBlocking = 1

    def __init__(self, memory: int = 1 << 28, devices: int = 1) -> None:
        self.memory, self.devices = memory, devices
        self.blocks: dict[int, tuple[np.ndarray, int]] = {}
        self.queue: list[Callable[[], None]] = []
        self.streams = 0
        self.failing: dict[str, int] = {}
        self.recording: list[Callable[[], None]] | None = None
        self.recordings: dict[int, list[Callable[[], None]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.launches = 0

    def enqueue(self, work: Callable[[], None]) -> None:
        (self.queue if self.recording is None else self.recording).append(work)

    def __getattribute__(self, name: str) -> Any:
        attribute = object.__getattribute__(self, name)
        if name.startswith("cuda") and callable(attribute) and not isinstance(attribute, type):
            code = object.__getattribute__(self, "failing").get(name)
            if code is not None:
                return lambda *_: (self.cudaError_t(code), None)
            if self.recording is not None and name not in _RECORDABLE:
                return lambda *_: (self.cudaError_t.cudaErrorStreamCaptureUnsupported, None)
        return attribute

    def used(self) -> int:
        return sum(size for _, size in self.blocks.values())

    def view(self, address: int, nbytes: int) -> np.ndarray:
        for start, (block, size) in self.blocks.items():
            if start <= address and address + nbytes <= start + size:
                offset = address - block.ctypes.data
                return block[offset : offset + nbytes]
        raise AssertionError(f"{nbytes} bytes at {address:#x} are not allocated")

    def run_queue(self) -> None:
        waiting, self.queue = self.queue, []
        for work in waiting:
            work()

    def cudaGetDeviceCount(self):
        return (self.cudaError_t.cudaSuccess, self.devices)

    def cudaSetDevice(self, index):
        return (self.cudaError_t.cudaSuccess,)

    def cudaStreamCreateWithFlags(self, flags):
        self.streams += 1
        return (self.cudaError_t.cudaSuccess, 77)

    def cudaStreamDestroy(self, stream):
        self.streams -= 1
        return (self.cudaError_t.cudaSuccess,)

    def cudaStreamSynchronize(self, stream):
        self.run_queue()
        return (self.cudaError_t.cudaSuccess,)

    def cudaMalloc(self, nbytes):
        if self.used() + nbytes > self.memory:
            return (self.cudaError_t.cudaErrorMemoryAllocation, 0)
        block = np.full(nbytes + 256, 0xFF, np.uint8)
        address = -(-block.ctypes.data // 256) * 256
        self.blocks[address] = (block, nbytes)
        return (self.cudaError_t.cudaSuccess, address)

    def cudaFree(self, address):
        self.run_queue()
        del self.blocks[address]
        return (self.cudaError_t.cudaSuccess,)

    def cudaMemGetInfo(self):
        return (self.cudaError_t.cudaSuccess, self.memory - self.used(), self.memory)

    def cudaMemcpyAsync(self, target, source, nbytes, kind, stream):
        assert stream == 77
        if self.recording is not None and kind != self.cudaMemcpyKind.cudaMemcpyDeviceToDevice:
            return (self.cudaError_t.cudaErrorStreamCaptureUnsupported,)

        def copy() -> None:
            if kind == self.cudaMemcpyKind.cudaMemcpyDeviceToDevice:
                self.view(target, nbytes)[:] = self.view(source, nbytes).copy()
            elif kind == self.cudaMemcpyKind.cudaMemcpyHostToDevice:
                self.view(target, nbytes)[:] = np.frombuffer(ctypes.string_at(source, nbytes), np.uint8)
            else:
                ctypes.memmove(target, self.view(source, nbytes).tobytes(), nbytes)

        self.enqueue(copy)
        return (self.cudaError_t.cudaSuccess,)

    def cudaMemsetAsync(self, address, value, nbytes, stream):
        def fill() -> None:
            self.view(address, nbytes)[:] = value

        self.enqueue(fill)
        return (self.cudaError_t.cudaSuccess,)

    def cudaStreamBeginCapture(self, stream, mode):
        assert stream == 77  # not the default stream
        self.recording = []
        return (self.cudaError_t.cudaSuccess,)

    def cudaStreamEndCapture(self, stream):
        handle = 1000 + len(self.recordings)
        self.recordings[handle], self.recording = self.recording, None
        return (self.cudaError_t.cudaSuccess, handle)

    def cudaGraphInstantiate(self, graph, flags):
        handle = 2000 + len(self.graphs)
        self.graphs[handle] = list(self.recordings[graph])
        return (self.cudaError_t.cudaSuccess, handle)

    def cudaGraphDestroy(self, graph):
        self.recordings[graph] = []
        return (self.cudaError_t.cudaSuccess,)

    def cudaGraphLaunch(self, graph, stream):
        assert stream == 77
        self.launches += 1
        self.queue.extend(self.graphs[graph])
        return (self.cudaError_t.cudaSuccess,)

    def cudaGraphExecDestroy(self, graph):
        self.run_queue()
        self.graphs[graph] = []
        return (self.cudaError_t.cudaSuccess,)

    def cudaGetErrorString(self, error):
        texts = {2: b"out of memory", 35: b"CUDA driver version is insufficient for CUDA runtime version"}
        return (
            self.cudaError_t.cudaSuccess,
            texts.get(int(error), b"an illegal memory access was encountered"),
        )

    def cudaGetErrorName(self, error):
        return (self.cudaError_t.cudaSuccess, error.name.encode())


class DataType(enum.Enum):
    FLOAT, HALF, INT64 = range(3)


@dataclass
class FakeTensorRT:
    """A `tensorrt` module whose only engine is one numpy model; `steps` records what ran."""

    cuda: FakeCuda
    card: Card
    model: Any
    float_type: str
    profiles: list[tuple[int, int, int]]
    flavour: str
    steps: list[dict[str, Any]] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # in which order the objects were let go
    validity: tuple[int, int] = (0, 0)
    refuses: set[str] = field(default_factory=set)
    changed: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    chooses: bool = True
    spills: bool = False  # capturing runs the step as well, as a library that is not capturable might

    __version__ = "1.7.1.116"
    EngineValidity = types.SimpleNamespace(VALID=0, SUBOPTIMAL=1, INVALID=2)

    class ILogger:
        ERROR = 1

    class DynamicShapesKernelSpecializationStrategy(enum.Enum):
        LAZY, EAGER = range(2)

    def tensors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        kind = {"float32": "FLOAT", "float16": "HALF"}[self.float_type]
        tensors: dict[str, tuple[str, tuple[int, ...]]] = {"token": ("INT64", (-1,))}
        for end in ("in", "out"):
            tensors |= {f"{name}_{end}": (kind, (-1, self.card.hidden)) for name in self.card.state_names}
        if self.chooses:
            tensors |= {"noise": ("FLOAT", (-1, self.card.vocab)), "filters": ("FLOAT", (-1, 4))}
            tensors["next"] = ("INT64", (-1,))
        return tensors | {"logits": ("FLOAT", (-1, self.card.vocab))} | self.changed

    def Runtime(self, logger):
        return FakeRuntime(self, logger)


class FakeRuntime:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        weakref.finalize(self, trt.gone.append, "runtime").atexit = False

    def get_engine_validity(self, data):
        return self.trt.validity

    def deserialize_cuda_engine(self, data):
        if "deserialize" in self.trt.refuses:
            self.logger.log(1, "IRuntime::deserializeCudaEngine: Error Code 1:\n Cuda Runtime (no luck)")
            return None
        return FakeEngine(self.trt, self.logger)


class FakeEngine:
    def __init__(self, trt: FakeTensorRT, logger: Any) -> None:
        self.trt, self.logger = trt, logger
        self.names = list(trt.tensors())
        self.num_io_tensors = len(self.names)
        self.num_optimization_profiles = len(trt.profiles)
        weakref.finalize(self, trt.gone.append, "engine").atexit = False

    def get_tensor_name(self, index):
        return self.names[index]

    def get_tensor_dtype(self, name):
        return DataType[self.trt.tensors()[name][0]]

    def get_tensor_shape(self, name):
        return self.trt.tensors()[name][1]

    def get_tensor_profile_shape(self, name, index):
        return tuple((batch, *self.get_tensor_shape(name)[1:]) for batch in self.trt.profiles[index])

    def create_runtime_config(self):
        return types.SimpleNamespace(dynamic_shapes_kernel_specialization_strategy=None)

    def create_execution_context(self, config=None):
        if "context" in self.trt.refuses:
            self.logger.log(1, "out of memory while creating a context")
            return None
        return FakeContext(self.trt, self.logger, config)


class FakeContext:
    def __init__(self, trt: FakeTensorRT, logger: Any, config: Any) -> None:
        self.trt, self.logger = trt, logger
        # With the default, kernels are still being compiled when the second step runs.
        strategy = getattr(config, "dynamic_shapes_kernel_specialization_strategy", None)
        self.eager = strategy == trt.DynamicShapesKernelSpecializationStrategy.EAGER
        self.warm = self.recorded = False
        self.profile = -1
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        weakref.finalize(self, trt.gone.append, "context").atexit = False

    def set_optimization_profile_async(self, profile, stream):
        self.profile = profile
        return True

    def set_input_shape(self, name, shape):
        assert len(shape) == len(self.trt.tensors()[name][1])
        assert not self.recorded, "a graph keeps the shapes of its context"
        least, _, most = self.trt.profiles[self.profile]
        self.shapes[name] = shape
        return "shape" not in self.trt.refuses and least <= shape[0] <= most

    def set_tensor_address(self, name, address):
        assert name in self.trt.tensors()
        self.addresses[name] = address
        return address % 256 == 0

    def execute_async_v3(self, stream):
        if "execute" in self.trt.refuses:
            self.logger.log(1, "IExecutionContext::enqueueV3: Error Code 3: API Usage Error")
            return False
        assert stream == 77
        trt, card, addresses = self.trt, self.trt.card, dict(self.addresses)
        assert set(addresses) == set(trt.tensors())
        assert len(set(addresses.values())) == len(addresses), "a step writes where it reads"
        (batch,) = self.shapes["token"]
        assert all(self.shapes[f"{name}_in"] == (batch, card.hidden) for name in card.state_names)
        assert self.shapes.get("noise", (batch, card.vocab)) == (batch, card.vocab)
        assert self.shapes.get("filters", (batch, 4)) == (batch, 4)
        if trt.cuda.recording is not None:
            assert trt.flavour != "tensorrt-rtx" or self.eager, "the graph would keep the fallback kernels"
            if not self.warm:
                self.logger.log(1, "enqueueV3: operation not permitted when stream is capturing")
                return False
            self.recorded = True
        else:
            assert not self.recorded, "this context belongs to a graph"
            self.warm = True
        trt.steps.append({"profile": self.profile, "batch": batch, "addresses": addresses})

        def tensor(name: str, dtype: Any, width: int) -> np.ndarray:
            nbytes = batch * width * np.dtype(dtype).itemsize
            return trt.cuda.view(addresses[name], nbytes).view(dtype).reshape(batch, width)

        def step() -> None:
            state = {
                name: tensor(f"{name}_in", trt.float_type, card.hidden).astype(np.float64)
                for name in card.state_names
            }
            token = tensor("token", np.int64, 1)[:, 0]
            assert (token >= 0).all(), "the token was never written"
            logits = tensor("logits", np.float32, card.vocab)
            logits[:] = trt.model.step(state, token)
            if trt.chooses:
                noise, filters = tensor("noise", np.float32, card.vocab), tensor("filters", np.float32, 4)
                chosen = tensor("next", np.int64, 1)
                for row, settings in enumerate(filters):
                    if np.isfinite(settings[:2]).all():  # else nobody wants to know
                        chosen[row] = pick(logits[row], noise[row], settings)
            for name, values in state.items():
                tensor(f"{name}_out", trt.float_type, card.hidden)[:] = values

        trt.cuda.enqueue(step)
        if trt.spills and trt.cuda.recording is not None:
            trt.cuda.queue.append(step)
        return True


def pick(logits: np.ndarray, noise: np.ndarray, settings: np.ndarray) -> int:
    """The choice for one stream, from the definition's words: sorted by hand, character by character."""
    tau, top_k, top_p, min_p = settings.astype(np.float64)
    order = sorted(range(len(logits)), key=lambda token: -logits[token])[: int(top_k)]
    weights = np.exp((logits.astype(np.float64) - logits.max()) * tau)
    total, before, lowest = sum(weights[order]), 0.0, np.inf
    for token in order:
        if before / total < top_p and weights[token] >= min_p:
            lowest = logits[token]
        before += weights[token]
    kept = np.where(logits >= lowest, logits, -np.inf)
    return int(np.argmax((kept + noise).astype(np.float32)))


@pytest.fixture
def fake_cuda() -> FakeCuda:
    """A GPU of 256 MiB made of host memory."""
    return FakeCuda()


@dataclass
class Bench:
    """A plan engine on doubles."""

    engine: PlanEngine
    trt: FakeTensorRT
    cuda: FakeCuda
    plan: Plan
    library: Library


def make_plan(
    card: Card, float_type: str = "float32", flavour: str = "tensorrt-rtx", version: str = "1.7.1.116"
) -> Plan:
    """A plan in memory whose engine no library could load, with a sidecar that fits it."""
    data = FLAVOURS[flavour].magic + bytes(20) + bytes(map(int, version.split("."))) + bytes(100)
    sidecar = Sidecar(
        card, flavour, version, "0" * 64, hashlib.sha256(data).hexdigest(), len(data), float_type,
        ((1, 1, 1), (1, 4, 8)), {"tf32": False}, "2024-05-01T12:00:00+00:00",
        ("sm80", "sm86", "sm89", "sm120", "sm121") if flavour == "tensorrt-rtx" else (),
    )  # fmt: skip
    return Plan(Path("charlm.plan"), PlanHeader(flavour, version), sidecar, data)


@pytest.fixture
def bench(card_of, numpy_model, fake_cuda) -> Callable[..., Bench]:
    """Load an engine on the doubles: ``bench(card, float_type="float16", refuses={"execute"})``."""

    def load(
        card: Card | None = None,
        float_type: str = "float32",
        flavour: str = "tensorrt-rtx",
        *,
        step_by_step: bool = False,
        **how: Any,
    ) -> Bench:
        card = card or card_of()
        plan = make_plan(card, float_type, flavour)
        profiles = list(plan.sidecar.profiles)
        trt = FakeTensorRT(fake_cuda, card, numpy_model(card), float_type, profiles, flavour, **how)
        library = Library(FLAVOURS[flavour], trt)
        engine = PlanEngine(plan, library, Device(fake_cuda), "NVIDIA Test", step_by_step=step_by_step)
        return Bench(engine, trt, fake_cuda, plan, library)

    return load
