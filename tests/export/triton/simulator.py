"""What Triton does with a repository, as its documentation and sources say: it plays the server in tests.

`Steps` is the sequence batcher with the strategy ``oldest`` and implicit states in front of ONNX Runtime;
`python_backend` is what ``model.py`` imports.
"""

from __future__ import annotations

import importlib.util
import queue
import sys
import threading
import types
from collections import deque
from pathlib import Path

import numpy as np
import onnxruntime
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

TYPES = {
    model_config_pb2.TYPE_INT64: np.int64,
    model_config_pb2.TYPE_FP32: np.float32,
    model_config_pb2.TYPE_FP16: np.float16,
}


def read_config(folder: Path) -> model_config_pb2.ModelConfig:
    """Refuses what Triton's own parser refuses."""
    return text_format.Parse((folder / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())


def newest(folder: Path) -> Path:
    return max((path for path in folder.iterdir() if path.name.isdecimal()), key=lambda path: int(path.name))


class Request:
    def __init__(self, sequence: int, token: int, start: bool, end: bool) -> None:
        self.sequence, self.token, self.start, self.end = sequence, token, start, end
        self.logits: np.ndarray | None = None
        self.answered = threading.Event()


class Steps:
    """One instance: sequences have slots or wait for one, a step takes the oldest request of each."""

    def __init__(self, folder: Path) -> None:
        self.config = read_config(folder)
        self.session = onnxruntime.InferenceSession(
            newest(folder) / "model.onnx", providers=["CPUExecutionProvider"]
        )
        batching = self.config.sequence_batching
        assert batching.HasField("oldest")
        # As in sequence_state.cc: by their places in alphabetical order, not as they were declared.
        declared = {state.input_name: state for state in batching.state}
        outputs = sorted(state.output_name for state in batching.state)
        self.pairs = list(zip(sorted(declared), outputs, strict=True))
        self.states = declared
        self.slots = batching.oldest.max_candidate_sequences
        self.live: dict[int, dict[str, np.ndarray]] = {}
        self.queue: deque[Request] = deque()  # of sequences that have a slot
        self.backlog: deque[Request] = deque()
        self.batches: list[int] = []
        self.lock = threading.Lock()

    def zeros(self) -> dict[str, np.ndarray]:
        found = {}
        for name, state in self.states.items():
            (initial,) = state.initial_state  # at most one, with a name, of the same type and shape
            assert initial.name
            assert initial.zero_data
            assert (initial.data_type, list(initial.dims)) == (state.data_type, list(state.dims))
            found[name] = np.zeros((1, *initial.dims), TYPES[initial.data_type])
        return found

    def submit(self, request: Request) -> None:
        with self.lock:
            if request.start and request.sequence not in self.live:
                if len(self.live) == self.slots:
                    self.backlog.append(request)
                    return
                self.live[request.sequence] = self.zeros()
            self.queue.append(request)

    def step(self) -> bool:
        """Run one batch; False if there was none to run."""
        with self.lock:
            batch: dict[int, Request] = {}
            for request in list(self.queue):
                if len(batch) < self.config.max_batch_size and request.sequence not in batch:
                    batch[request.sequence] = request
                    self.queue.remove(request)
            requests = list(batch.values())
            if not requests:
                return False
            (token,) = self.config.input
            assert token.HasField("reshape")
            assert list(token.reshape.shape) == []
            feeds = {token.name: np.array([request.token for request in requests], TYPES[token.data_type])}
            for name in self.states:
                feeds[name] = np.concatenate([self.live[request.sequence][name] for request in requests])
            (logits,) = self.config.output
            names = [logits.name, *(name for _, name in self.pairs)]
            answer = dict(zip(names, self.session.run(names, feeds), strict=True))
            assert answer[logits.name].shape[1:] == tuple(logits.dims)
            for row, request in enumerate(requests):
                request.logits = answer[logits.name][row]
                for taken, given in self.pairs:
                    state = self.states[taken]
                    assert answer[given].dtype == TYPES[state.data_type]
                    assert answer[given].shape[1:] == tuple(state.dims)
                    self.live[request.sequence][taken] = answer[given][row : row + 1]
                if request.end:
                    del self.live[request.sequence]
            self.batches.append(len(requests))
            while self.backlog and len(self.live) < self.slots:
                request = self.backlog.popleft()
                self.live[request.sequence] = self.zeros()
                self.queue.append(request)
        for request in requests:
            request.answered.set()
        return True


class Sender:
    """A response sender; `pieces` and `problem` are what came through it."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.problem: str | None = None
        self.cancelled = False
        self.done = threading.Event()
        self.sent: queue.Queue[str | None] = queue.Queue()

    def is_cancelled(self) -> bool:
        return self.cancelled

    def send(self, response=None, flags: int = 0) -> None:
        assert not self.done.is_set()
        if response is not None and response.error is not None:
            self.problem = response.error.message
        elif response is not None:
            (text,) = response.output_tensors
            assert text.name == "text"
            self.pieces.append(text.as_numpy()[0].decode())
            self.sent.put(self.pieces[-1])
        if flags:
            self.done.set()
            self.sent.put(None)

    def text(self) -> str:
        assert self.done.wait(30)
        assert self.problem is None
        return "".join(self.pieces)


class BackendRequest:
    """A request as ``execute`` gets it; a stand-in keeps to the types of the configuration."""

    def __init__(self, inputs: dict[str, np.ndarray]) -> None:
        self.inputs, self.sender = inputs, Sender()

    def get_response_sender(self) -> Sender:
        return self.sender


class Tensor:
    def __init__(self, name: str, values: np.ndarray) -> None:
        self.name, self.values = name, values

    def as_numpy(self) -> np.ndarray:
        return self.values


def python_backend() -> types.ModuleType:
    """A stand-in for ``triton_python_backend_utils``."""
    module = types.ModuleType("triton_python_backend_utils")

    class TritonError:
        INVALID_ARG = 2

        def __init__(self, message: str, code: int = 0) -> None:
            self.message = message

    class InferenceResponse:
        def __init__(self, output_tensors=(), error=None) -> None:
            self.output_tensors, self.error = output_tensors, error

    def get_input_tensor_by_name(request: BackendRequest, name: str) -> Tensor | None:
        return Tensor(name, request.inputs[name]) if name in request.inputs else None

    module.Tensor, module.TritonError, module.InferenceResponse = Tensor, TritonError, InferenceResponse
    module.get_input_tensor_by_name = get_input_tensor_by_name
    module.TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
    return module


def load_model(folder: Path, config: str = "{}"):
    """Import ``model.py`` as the stub process does, and initialise its model."""
    version = newest(folder)
    spec = importlib.util.spec_from_file_location("model", version / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    model = module.TritonPythonModel()
    model.initialize({"model_config": config, "model_name": folder.name, "model_version": version.name})
    return model
