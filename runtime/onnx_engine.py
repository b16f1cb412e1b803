"""A step graph on ONNX Runtime: many characters per call, sampled inside the graph."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..spec.card import bytes_per_step
from ..spec.engine import Snapshot
from ..spec.errors import BackendMissing, ContractError
from ..spec.sampling import Sampling
from .compose import decode_graph, feed_graph, fit_to_cpu
from .prefill import can_prefill, prefill_graph
from .step_file import StepFile, open_step

if TYPE_CHECKING:
    import onnxruntime as ort

State = dict[str, npt.NDArray[np.float32]]

# Below this many bytes of weights per step, waking a second thread costs more than it brings.
ONE_THREAD_BYTES = 1 << 20

# Gate inputs held at a time while reading a text layer by layer: 32 MiB of float32.
PREFILL_NUMBERS = 1 << 23


class OnnxEngine:
    """`spec.engine.Engine` on ONNX Runtime's CPU provider.

    The state is a dict of float32 arrays ``[batch, hidden]`` under the contract's names.

    Args:
        step: a checked step graph.
        threads: threads for each operator; None chooses by the size of the step.
    """

    def __init__(self, step: StepFile, threads: int | None = None) -> None:
        self.card = step.card
        self.name = f"ONNX Runtime {step.card.precision} (CPU)"
        self.path = step.path
        self.threads = threads or default_threads(step)
        self._ort = _import_onnxruntime()
        self._body = fit_to_cpu(step)
        self._prefill = can_prefill(step, self._body)
        self._sessions: dict[str, ort.InferenceSession] = {}
        self._states = step.card.state_names

    def zero_state(self, batch: int) -> State:
        """Zeros for `batch` streams."""
        return {name: np.zeros((batch, self.card.hidden), np.float32) for name in self._states}

    def feed(
        self, state: State, tokens: npt.NDArray[np.int64], *, logits: bool = False
    ) -> npt.NDArray[np.float32] | None:
        """Advance over known tokens, int64 ``[batch, length]``; see `Engine.feed`."""
        batch, length = tokens.shape
        if length == 0:
            return np.zeros((batch, 0, self.card.vocab), np.float32) if logits else None
        # Layer by layer, a piece of text keeps all its gates: pieces bound the memory.
        piece = max(1, PREFILL_NUMBERS // (batch * self.card.gates * self.card.hidden))
        pieces = []
        for start in range(0, length, piece):
            feeds = {"tokens": np.ascontiguousarray(tokens[:, start : start + piece].T)}
            results = self._run("feed+logits" if logits else "feed", state, feeds)
            if logits:
                pieces.append(results[-1].transpose(1, 0, 2))
        return np.concatenate(pieces, axis=1) if logits else None

    def decode(
        self,
        state: State,
        last: npt.NDArray[np.int64],
        noise: npt.NDArray[np.float32],
        sampling: Sampling,
    ) -> npt.NDArray[np.int64]:
        """Write ``len(noise)`` characters per stream; see `Engine.decode`."""
        if len(noise) == 0:
            return np.zeros((len(last), 0), np.int64)
        feeds: dict[str, npt.NDArray[Any]] = {"first": last, "noise": noise}
        if sampling.filters:
            vocab = self.card.vocab
            feeds["tau"] = np.array(1.0 / sampling.temperature, np.float32)
            feeds["top_k"] = np.array([min(sampling.top_k or vocab, vocab)], np.int64)
            # Rounding can carry a cumulated probability past 1: "all" must be out of its reach.
            feeds["top_p"] = np.array(sampling.top_p if sampling.top_p < 1 else np.inf, np.float32)
            feeds["min_p"] = np.array(sampling.min_p, np.float32)
        results = self._run("decode+filters" if sampling.filters else "decode", state, feeds)
        tokens: npt.NDArray[np.int64] = results[-1]
        return np.ascontiguousarray(tokens.T)

    def snapshot(self, state: State) -> Snapshot:
        """A copy of the state."""
        return {name: array.copy() for name, array in state.items()}

    def restore(self, snapshot: Snapshot) -> State:
        """A state equal to the snapshot."""
        return {name: np.array(snapshot[name], np.float32) for name in self._states}

    def close(self) -> None:
        """Drop the sessions and the weights."""
        self._sessions.clear()

    def _run(self, kind: str, state: State, feeds: dict[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        session = self._sessions.get(kind) or self._open_session(kind)
        feeds |= {f"{name}_start": array for name, array in state.items()}
        results: list[npt.NDArray[Any]] = session.run(None, feeds)
        for name, array in zip(self._states, results, strict=False):
            state[name] = array
        return results

    def _open_session(self, kind: str) -> ort.InferenceSession:
        """Build the loop of this kind at its first use: most runs need one or two of the four."""
        loop, _, extra = kind.partition("+")
        if loop == "decode":
            graph = decode_graph(self._body, filters=bool(extra))
        elif self._prefill:
            graph = prefill_graph(self.card, self._body, logits=bool(extra))
        else:
            graph = feed_graph(self._body, logits=bool(extra))
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors reach the person as exceptions, warnings are not theirs
        try:
            session = self._ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime raises classes of its own, one for each status
            reason = str(error).splitlines()[0]
            raise ContractError(
                f"{self.path}: ONNX Runtime {self._ort.__version__} refuses the graph: {reason}"
            ) from error
        self._sessions[kind] = session
        return session


def open_onnx(path: Path, threads: int | None = None) -> OnnxEngine:
    """Load a step graph.

    Raises:
        P2Error: it cannot be read, breaks the contract, or ONNX Runtime is not installed.
    """
    return OnnxEngine(open_step(path), threads)


def default_threads(step: StepFile) -> int:
    """One thread for small steps, else one for each processor that this process may use."""
    if bytes_per_step(step.card) < ONE_THREAD_BYTES:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendMissing(
            "running a .onnx engine needs ONNX Runtime: pip install 'p2[cpu]' (or 'p2[gpu]')"
        ) from error
    return onnxruntime
