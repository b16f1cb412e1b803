"""A TensorRT made of numpy that really computes the step, on the GPU of `cuda_double`.

A step must not write where it reads, and an execution context that a graph was recorded from is that
graph's own.
"""

from __future__ import annotations

import enum
import types
import weakref
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from p2.contract.card import Card

from .cuda_double import STREAM, FakeCuda


class DataType(enum.Enum):
    FLOAT, HALF, INT64, INT32 = range(4)


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
    integer: str = "INT64"  # the type of tokens; "INT32" before TensorRT 10
    spills: bool = False  # capturing runs the step as well, as a library that is not capturable might

    __version__ = "1.7.1.116"
    EngineValidity = types.SimpleNamespace(VALID=0, SUBOPTIMAL=1, INVALID=2)

    class ILogger:
        ERROR = 1

    class DynamicShapesKernelSpecializationStrategy(enum.Enum):
        LAZY, EAGER = range(2)

    def tensors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        kind = {"float32": "FLOAT", "float16": "HALF"}[self.float_type]
        tensors: dict[str, tuple[str, tuple[int, ...]]] = {"token": (self.integer, (-1,))}
        for end in ("in", "out"):
            tensors |= {f"{name}_{end}": (kind, (-1, self.card.hidden)) for name in self.card.state_names}
        if self.chooses:
            tensors |= {"noise": ("FLOAT", (-1, self.card.vocab)), "filters": ("FLOAT", (-1, 4))}
            tensors["next"] = (self.integer, (-1,))
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
        return FakeRuntimeConfig(self.trt)

    def create_execution_context(self, config=None):
        if config is not None:
            config.cache.compiled += b"k"
        if "context" in self.trt.refuses:
            self.logger.log(1, "out of memory while creating a context")
            return None
        return FakeContext(self.trt, self.logger, config)


class FakeRuntimeConfig:
    """TensorRT-RTX's: hands out a cache, and takes it."""

    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt, self.cache = trt, None
        self.dynamic_shapes_kernel_specialization_strategy = None

    def create_runtime_cache(self):
        return FakeKernels(self.trt)

    def set_runtime_cache(self, cache):
        self.cache = cache
        return True


class FakeKernels:
    def __init__(self, trt: FakeTensorRT) -> None:
        self.trt, self.compiled = trt, b""

    def deserialize(self, data):
        if "cache" in self.trt.refuses:
            return False
        self.compiled = data
        return True

    def serialize(self):
        return self.compiled


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
        assert stream == STREAM
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
            token = tensor("token", trt.integer.lower(), 1)[:, 0]
            assert (token >= 0).all(), "the token was never written"
            logits = tensor("logits", np.float32, card.vocab)
            logits[:] = trt.model.step(state, token)
            if trt.chooses:
                noise, filters = tensor("noise", np.float32, card.vocab), tensor("filters", np.float32, 4)
                chosen = tensor("next", trt.integer.lower(), 1)
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
