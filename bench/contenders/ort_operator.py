"""The exported operator graph on ONNX Runtime, one step per call, looped over in Python.

As fast as a person gets it who knows ONNX Runtime: two sets of state buffers are bound once, a step
reads one and writes the other, and the token and the logits are seen through the same memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...contract.card import Card
from ...contract.codec import Tokens
from ...contract.errors import BackendMissing
from ...runtime.processor import processors
from ..contender import Model
from .availability import no_onnxruntime
from .host_loop import Floats, HostLoop, Stepper
from .operator_graph import ensure

if TYPE_CHECKING:
    import onnxruntime as ort

CPU = "CPUExecutionProvider"


class OrtOperator:
    """LSTM, GRU or RNN operator on ONNX Runtime's CPU provider."""

    key = "ort-operator"
    title = "ONNX Runtime, recurrent operator, loop in Python"
    precision = "float32"
    group = "peer"
    device = "cpu"

    def missing(self, card: Card) -> str | None:  # noqa: ARG002 - the protocol's signature
        """See `Contender.missing`."""
        return no_onnxruntime()

    def load(self, model: Model, threads: int | None) -> OperatorRunning:
        """See `Contender.load`.

        Raises:
            P2Error: as `operator_graph.ensure`.
        """
        return OperatorRunning(model, threads or processors())


class OperatorRunning(HostLoop):
    """`contender.Running` over a session of the operator graph.

    Args:
        model: its operator graph is made if it is not there.
        threads: processor threads of the session.
        provider: the execution provider; no other may take part.
        options: the provider's.

    Raises:
        BackendMissing: ONNX Runtime does not run the graph on this provider.
    """

    def __init__(
        self, model: Model, threads: int, provider: str = CPU, options: dict[str, str] | None = None
    ) -> None:
        super().__init__(model.card, threads)
        import onnxruntime

        path = ensure(model)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        settings.inter_op_num_threads = 1
        settings.log_severity_level = 3  # errors arrive as exceptions
        available = onnxruntime.get_available_providers()
        if provider not in available:
            raise BackendMissing(f"this ONNX Runtime has no {provider}, only {', '.join(available)}")
        if provider != CPU:
            # Whatever the provider does not take would go to the processor without a word.
            settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = onnxruntime.InferenceSession(str(path), settings, providers=[(provider, options or {})])
        except Exception as error:  # onnxruntime raises classes of its own, one for each status
            reason = str(error).splitlines()[0]
            raise BackendMissing(f"ONNX Runtime does not run {path.name} on {provider}: {reason}") from error
        if session.get_providers()[0] != provider:
            raise BackendMissing(f"ONNX Runtime does not load {provider}: its libraries are not all here")
        self._session: ort.InferenceSession | None = session
        self._device = "cpu" if provider == CPU else "cuda"

    def open(self, batch: int) -> Stepper:
        """See `HostLoop.open`."""
        return _Bound(self._session, self.card, batch, self._device)

    def read(self, tokens: Tokens) -> None:
        """See `Running.read`. The operators take the whole text at once."""
        self._over(tokens, [f"{name}_out" for name in self.card.state_names])

    def logits(self, tokens: Tokens) -> Floats:
        """See `Running.logits`."""
        predicted: Floats = self._over(tokens, ["logits"])[0]
        return predicted.transpose(1, 0, 2)

    def close(self) -> None:
        """See `Running.close`."""
        super().close()
        self._session = None

    def _over(self, tokens: Tokens, names: list[str]) -> list[Any]:
        """Those outputs, after a run over known text from a zero state."""
        zeros = np.zeros((1, len(tokens), self.card.hidden), np.float32)
        feeds: dict[str, Any] = {f"{name}_in": zeros for name in self.card.state_names}
        assert self._session is not None
        results: list[Any] = self._session.run(names, feeds | {"tokens": np.ascontiguousarray(tokens.T)})
        return results


class _Bound(Stepper):
    """Buffers of a batch, bound to a session; on a GPU the states stay there."""

    def __init__(self, session: Any, card: Card, batch: int, device: str) -> None:
        from onnxruntime import OrtValue

        self.token = np.zeros(batch, np.int64)
        self._session = session
        # On the processor an OrtValue made from an array is the array's own memory.
        self._host_tokens = self.token[None]
        self._tokens = OrtValue.ortvalue_from_numpy(self._host_tokens, device)
        self._uploads = device != "cpu"
        logits = np.zeros((1, batch, card.vocab), np.float32)
        self._logits: Floats = logits[0]
        predicted = OrtValue.ortvalue_from_numpy(logits)
        zeros = (1, batch, card.hidden)
        sets = [
            {
                name: OrtValue.ortvalue_from_numpy(np.zeros(zeros, np.float32), device)
                for name in card.state_names
            }
            for _ in range(2)
        ]
        self._bindings = []
        for source, target in (sets, reversed(sets)):
            binding = session.io_binding()
            binding.bind_ortvalue_input("tokens", self._tokens)
            binding.bind_ortvalue_output("logits", predicted)
            for name in card.state_names:
                binding.bind_ortvalue_input(f"{name}_in", source[name])
                binding.bind_ortvalue_output(f"{name}_out", target[name])
            self._bindings.append(binding)
        self._next = 0

    def step(self) -> Floats:
        """See `Stepper.step`."""
        if self._uploads:
            self._tokens.update_inplace(self._host_tokens)
        self._session.run_with_iobinding(self._bindings[self._next])
        self._next ^= 1
        return self._logits
