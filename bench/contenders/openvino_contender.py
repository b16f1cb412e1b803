"""OpenVINO on the processor, one step per call, looped over in Python.

Two graphs that a person could hand it: p2's exported step (products and activations written out, the
embedding folded), and the graph with recurrent operators. Shapes are fixed before a graph is
compiled, the latency hint is on, arithmetic is float32 throughout: on processors that have bfloat16
OpenVINO would use that unasked. Two infer requests share two sets of state buffers, so that nothing
is copied between steps.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any

import numpy as np

from ...contract.card import Card
from ...contract.codec import Tokens
from ...contract.errors import BackendMissing
from ..contender import Model
from .availability import not_installed
from .host_loop import Floats, HostLoop, Stepper
from .operator_graph import ensure

Shapes = dict[str, list[int]]

_ANY = -1  # a size that is known when the graph runs


class OpenVino:
    """p2's exported float32 step, compiled by OpenVINO."""

    key = "openvino"
    title = "OpenVINO, p2's exported step, loop in Python"
    precision = "float32"
    group = "peer"
    device = "cpu"

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        return not_installed("openvino", "OpenVINO", "bench")

    def load(self, model: Model, threads: int | None) -> OpenVinoRunning:
        """See `Contender.load`. Compiles for one text.

        Raises:
            BackendMissing: OpenVINO does not take the graph.
        """
        return OpenVinoRunning(model.card, model.steps["float32"], threads)


class OpenVinoOperator(OpenVino):
    """The graph with recurrent operators, compiled by OpenVINO."""

    key = "openvino-operator"
    title = "OpenVINO, recurrent operator, loop in Python"

    def load(self, model: Model, threads: int | None) -> OpenVinoRunning:
        """See `Contender.load`. Compiles for one text.

        Raises:
            P2Error: as `operator_graph.ensure`; OpenVINO does not take the graph.
        """
        return OperatorRunning(model.card, ensure(model), threads)


class OpenVinoRunning(HostLoop):
    """`contender.Running` over p2's step graph in OpenVINO.

    Args:
        card: the model.
        path: the graph.
        threads: processor threads; None leaves them to OpenVINO.

    Raises:
        BackendMissing: OpenVINO does not take the graph.
    """

    def __init__(self, card: Card, path: Path, threads: int | None) -> None:
        self._path = path
        self._config: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = threads
        super().__init__(card, threads or 1)
        # Each compiled graph holds its own copy of the weights: only the newest is kept.
        self._batch, self._compiled = 1, self._compile(self._shapes(1))
        self.threads = int(self._compiled.get_property("INFERENCE_NUM_THREADS"))

    def open(self, batch: int) -> Stepper:
        """See `HostLoop.open`. Another batch than the last one's is compiled for first."""
        if batch != self._batch:
            self._compiled = None
            self._batch, self._compiled = batch, self._compile(self._shapes(batch))
        return _Bound(self._compiled, self.card, self._shapes(batch))

    def close(self) -> None:
        """See `Running.close`."""
        super().close()
        self._compiled = None

    def _shapes(self, batch: int) -> Shapes:
        """The inputs of one step, the tokens first."""
        return {"token": [batch]} | {
            f"{name}_in": [batch, self.card.hidden] for name in self.card.state_names
        }

    def _compile(self, shapes: Shapes) -> Any:
        try:
            graph = _core().read_model(self._path)
            graph.reshape(shapes)
            return _core().compile_model(graph, "CPU", self._config)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise BackendMissing(f"OpenVINO does not take {self._path.name}: {reason}") from error


class OperatorRunning(OpenVinoRunning):
    """`contender.Running` over the operator graph in OpenVINO; known text is read in one run."""

    _reader: tuple[int, Any] | None = None

    def read(self, tokens: Tokens) -> None:
        """See `Running.read`. The first text of a batch size is compiled for."""
        self._over(tokens)

    def logits(self, tokens: Tokens) -> Floats:
        """See `Running.logits`."""
        predicted: Floats = self._over(tokens)["logits"]
        return predicted.transpose(1, 0, 2)

    def close(self) -> None:
        """See `Running.close`."""
        super().close()
        self._reader = None

    def _shapes(self, batch: int, length: int = 1) -> Shapes:
        states = {f"{name}_in": [1, batch, self.card.hidden] for name in self.card.state_names}
        return {"tokens": [length, batch]} | states

    def _over(self, tokens: Tokens) -> Any:
        """All outputs of a run over known text from a zero state."""
        batch = len(tokens)
        if self._reader is None or self._reader[0] != batch:
            self._reader = None
            self._reader = (batch, self._compile(self._shapes(batch, _ANY)))
        zeros = np.zeros((1, batch, self.card.hidden), np.float32)
        feeds: dict[str, Any] = {f"{name}_in": zeros for name in self.card.state_names}
        feeds["tokens"] = np.ascontiguousarray(tokens.T)
        return self._reader[1](feeds, share_inputs=True, share_outputs=True)


def _import_openvino() -> Any:
    """OpenVINO without its telemetry, which tells its makers of every import unless it is not to be found."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def _core() -> Any:
    """OpenVINO's own object, one for the process.

    The CPU plugin of each gives the main thread another stack for signal handlers, and its predecessor's back
    at the end. Closed in the order of opening, the last gives back one that is already freed: the next
    signal, Ctrl-C too, would end the process.
    """
    return _import_openvino().Core()


class _Bound(Stepper):
    """Buffers of a batch, bound to two infer requests that change places."""

    def __init__(self, compiled: Any, card: Card, shapes: Shapes) -> None:
        openvino = _import_openvino()

        def shared(array: Any) -> Any:
            return openvino.Tensor(array, shared_memory=True)

        (tokens, token_shape), *states = shapes.items()
        batch = token_shape[-1]
        self.token = np.zeros(batch, np.int64)
        self._logits = np.zeros((batch, card.vocab), np.float32)
        sets = [{name: np.zeros(shape, np.float32) for name, shape in states} for _ in range(2)]
        self._kept = sets  # a tensor does not own the array whose memory it shares
        logits = self._logits.reshape([*token_shape, card.vocab])
        self._requests = []
        for source, target in (sets, reversed(sets)):
            request = compiled.create_infer_request()
            request.set_tensor(tokens, shared(self.token.reshape(token_shape)))
            request.set_tensor("logits", shared(logits))
            for name in source:
                request.set_tensor(name, shared(source[name]))
                request.set_tensor(name.replace("_in", "_out"), shared(target[name]))
            self._requests.append(request)
        self._next = 0

    def step(self) -> Floats:
        """See `Stepper.step`."""
        self._requests[self._next].infer(share_outputs=True)
        self._next ^= 1
        return self._logits
