"""A step graph on ONNX Runtime: many characters per call, sampled inside the graph."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...contract.arguments import check_decode, check_state, check_threads, check_tokens
from ...contract.card import bytes_per_step, step_shapes
from ...contract.codec import Tokens
from ...contract.errors import ContractError
from ...contract.finite import check_computed, top_state
from ...contract.sampling import Floats, Sampling
from .. import tuning
from ..host_states import HostStates, State
from ..processor import cpu_name, processors
from ..step_file import StepFile, open_step
from ..step_rewritten import check_changed
from ..tuning import Setting
from .compose import decode_body, decode_graph, feed_body, feed_graph
from .prefill import can_prefill, prefill_graph
from .session import answering, import_onnxruntime, open_session

if TYPE_CHECKING:
    import onnxruntime as ort

# With less to read and to multiply, a step is over before a second thread has woken up.
ONE_THREAD_BYTES = 1 << 17
ONE_THREAD_PRODUCTS = 1 << 20
# With more to read or to multiply, one thread is not worth trying: a step takes 100 microseconds and more.
SHARED_BYTES = 8 << 20
SHARED_PRODUCTS = 1 << 23

# Gate inputs held at a time while reading a text layer by layer: 32 MiB of float32.
PREFILL_NUMBERS = 1 << 23


class OnnxEngine(HostStates):
    """`contract.engine.Engine` on ONNX Runtime's CPU provider.

    Args:
        step: a checked step graph.
        threads: threads for each operator; None measures what is best, once, and remembers it (`tuning`).

    Raises:
        BackendMissing: ONNX Runtime is not installed.
    """

    def __init__(self, step: StepFile, threads: int | None = None) -> None:
        self.card = step.card
        self.name = f"ONNX Runtime {step.card.precision} (CPU)"
        self.path = step.path
        self._step = step
        self._prefill = can_prefill(step)
        self._states = step.card.state_names
        self._sessions: dict[tuple[str, int], ort.InferenceSession] = {}
        self._version = import_onnxruntime().__version__
        self._given = check_threads(threads)
        shapes = step_shapes(step.card).items()
        self._products = sum(math.prod(shape) for name, shape in shapes if name.startswith("w_"))
        where = f"{cpu_name()} x {processors()}, onnxruntime {self._version}"
        self._memory = tuning.Memory(step.card, where, processors())
        self.threads = self.setting(1).threads
        check_changed(step, self)

    def setting(self, batch: int) -> Setting:
        """How a batch of this size is run."""
        size = tuning.size_class(batch)
        if self._given is not None:
            return Setting(self._given, size)
        small = bytes_per_step(self.card) < ONE_THREAD_BYTES
        if small and self._products * size < ONE_THREAD_PRODUCTS:
            return Setting(1, size)
        setting = self._memory.get(size)
        if setting is None:
            setting = self._measure(size)
            self._memory.put(size, setting)
        return setting

    def feed(self, state: State, tokens: Tokens, *, logits: bool = False) -> Floats | None:
        """Advance over known tokens, int64 ``[batch, length]``; see `Engine.feed`."""
        batch = check_state(self.card, state)
        length = check_tokens(self.card, tokens, batch).shape[1]
        if length == 0:
            return np.zeros((batch, 0, self.card.vocab), np.float32) if logits else None
        # Layer by layer, a piece of text keeps all its gates: pieces bound the memory.
        piece = max(1, PREFILL_NUMBERS // (batch * self.card.gates * self.card.hidden))
        pieces = []
        threads = self.setting(batch).threads
        for start in range(0, length, piece):
            feeds = {"tokens": np.ascontiguousarray(tokens[:, start : start + piece].T)}
            results = self._run("feed+logits" if logits else "feed", threads, state, feeds)
            if logits:
                pieces.append(results[-1].transpose(1, 0, 2))
        found = np.concatenate(pieces, axis=1) if logits else None
        check_computed(self.card, state[top_state(self.card)], self.name, found)
        return found

    def decode(self, state: State, last: Tokens, noise: Floats, sampling: Sampling) -> Tokens:
        """Write ``len(noise)`` characters per stream; see `Engine.decode`."""
        batch = check_state(self.card, state)
        check_decode(self.card, batch, last, noise, sampling)
        if len(noise) == 0:
            return np.zeros((batch, 0), np.int64)
        feeds: dict[str, npt.NDArray[Any]] = {"first": last, "noise": noise}
        if sampling.filters:
            feeds["tau"] = np.array(1.0 / sampling.temperature, np.float32)
            feeds["top_k"] = np.array([sampling.kept(self.card.vocab)], np.int64)
            # Rounding can carry a cumulated probability past 1: "all" must be out of its reach.
            feeds["top_p"] = np.array(sampling.top_p if sampling.top_p < 1 else np.inf, np.float32)
            feeds["min_p"] = np.array(sampling.min_p, np.float32)
        written = self._decode("decode+filters" if sampling.filters else "decode", state, feeds)
        check_computed(self.card, state[top_state(self.card)], self.name, written)
        return written

    def close(self) -> None:
        """Drop the sessions and the weights."""
        self._sessions.clear()

    def _decode(self, kind: str, state: State, feeds: dict[str, npt.NDArray[Any]]) -> Tokens:
        """In one call, or in groups where those are faster."""
        last, noise = feeds["first"], feeds["noise"]
        setting = self.setting(len(last))
        if len(last) <= setting.group:
            return np.ascontiguousarray(self._run(kind, setting.threads, state, feeds)[-1].T)
        pieces = []
        for start in range(0, len(last), setting.group):
            rows = slice(start, start + setting.group)
            part = {name: array[rows] for name, array in state.items()}
            own = feeds | {"first": last[rows], "noise": np.ascontiguousarray(noise[:, rows])}
            pieces.append((part, self._run(kind, setting.threads, part, own)[-1].T))
        for name in state:
            state[name] = np.concatenate([part[name] for part, _ in pieces])
        return np.concatenate([tokens for _, tokens in pieces])

    def _run(
        self, kind: str, threads: int, state: State, feeds: dict[str, npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        session = self._sessions.get((kind, threads)) or self._open_session(kind, threads)
        feeds |= {f"{name}_start": array for name, array in state.items()}
        with answering(f"{self.path}: ONNX Runtime {self._version} could not run the graph"):
            results: list[npt.NDArray[Any]] = session.run(None, feeds)
        if not self._step.as_traced:  # its nodes are anybody's
            self._check_results(kind, feeds, results)
        for name, array in zip(self._states, results, strict=False):
            state[name] = array
        return results

    def _check_results(
        self, kind: str, feeds: dict[str, npt.NDArray[Any]], results: list[npt.NDArray[Any]]
    ) -> None:
        """A graph may say one shape and compute another."""
        card, given = self.card, feeds["noise" if kind.startswith("decode") else "tokens"]
        count, batch = given.shape[:2]
        wanted: list[tuple[int, ...]] = [(batch, card.hidden)] * len(self._states)
        wanted += {"feed": [], "feed+logits": [(count, batch, card.vocab)]}.get(kind, [(count, batch)])
        for expected, array in zip(wanted, results, strict=False):
            if array.shape != expected:
                raise ContractError(
                    f"{self.path} breaks the step contract: a result must be {list(expected)}, and its nodes"
                    f" compute {list(array.shape)}"
                )

    def _open_session(self, kind: str, threads: int) -> ort.InferenceSession:
        """Build the loop of this kind at its first use: most runs need one or two of the four."""
        loop, _, extra = kind.partition("+")
        wanted = bool(extra)
        if loop == "decode":
            graph = decode_graph(decode_body(self._step, filters=wanted), filters=wanted)
        elif self._prefill:
            graph = prefill_graph(self._step, logits=wanted)
        else:
            graph = feed_graph(feed_body(self._step, logits=wanted), logits=wanted)
        with answering(f"{self.path}: ONNX Runtime {self._version} refuses the graph"):
            session = open_session(graph, self._step.loop_opset, threads)
        self._sessions[kind, threads] = session
        return session

    def _measure(self, size: int) -> Setting:
        """Find the best setting for a batch of this size; sessions that lose are closed again."""
        kept = set(self._sessions)
        heavy = bytes_per_step(self.card) >= SHARED_BYTES or self._products * size >= SHARED_PRODUCTS
        counts = tuning.thread_counts(processors(), least=2 if heavy else 1)
        setting = tuning.choose([Setting(count, size) for count in counts], self._seconds)
        grouped = [Setting(setting.threads, group) for group in tuning.groups(size)]
        setting = tuning.choose(grouped, self._seconds)
        for key in set(self._sessions) - kept:
            if key[1] != setting.threads:
                del self._sessions[key]
        return setting

    def _seconds(self, setting: Setting) -> float:
        """The time of one character of one stream in a batch of ``setting.group``, in one turn."""
        last, state = np.zeros(setting.group, np.int64), self.zero_state(setting.group)

        def steps(count: int) -> None:
            noise = np.zeros((count, setting.group, self.card.vocab), np.float32)
            self._run("decode", setting.threads, state, {"first": last, "noise": noise})

        return tuning.seconds_per_step(steps) / setting.group


def open_onnx(path: Path, threads: int | None = None) -> OnnxEngine:
    """Load a step graph.

    Raises:
        P2Error: it cannot be read, breaks the contract, or ONNX Runtime is not installed.
    """
    return OnnxEngine(open_step(path), threads)
