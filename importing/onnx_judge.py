"""Run an ONNX file as its author would: with ONNX Runtime, or onnx's own evaluator where that cannot."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.codec import Tokens
from ..contract.errors import BackendMissing, P2Error
from ..contract.schema import shown
from ..contract.shell import install
from ..runtime.onnx_format import Value
from ..runtime.onnx_tensors import FLOAT, INT32, INT64
from .found import Predict

_TYPES = {FLOAT: np.float32, INT32: np.int32, INT64: np.int64}
_LONGEST = 256  # characters of one call, where any number will do
_LARGEST = 1 << 22  # numbers of an input whose sizes a file may insist on

Array = npt.NDArray[Any]


class Judge:
    """A file, of which any value may be asked for.

    Attributes:
        name: what ran it last.
    """

    def __init__(self, data: bytes, where: str) -> None:
        self._data, self._where = data, where
        self.name = "ONNX Runtime"

    def constant(self, name: str) -> Array:
        """A value that depends on no input."""
        return np.asarray(self._runner([name])({}))

    def of_each(self, name: str, ids: Value, count: int) -> Iterator[tuple[Tokens, Array]]:
        """A value that depends on one input alone, for each of its characters.

        Args:
            name: of the value.
            ids: the input that takes characters.
            count: of the characters, from 0 on.

        Yields:
            tokens int64 ``[n]``, and the value as rows ``[n, ...]``; in all there is every character.

        Raises:
            P2Error: nothing here can run it, or it has no rows of characters.
        """
        run = self._runner([name])
        sizes = [n if isinstance(n, int) and n > 0 else 0 for n in ids.shape]
        if 0 in sizes:
            sizes[len(sizes) - 1 - sizes[::-1].index(0)] = min(count, _LONGEST)
        sizes = [n or 1 for n in sizes]
        if math.prod(sizes) > _LARGEST:
            raise P2Error(f"{self._where}: the input {shown(ids.name)} is {list(ids.shape)}, too large")
        for start in range(0, count, math.prod(sizes)):
            tokens = (start + np.arange(math.prod(sizes))) % count
            rows = np.asarray(run({ids.name: tokens.reshape(sizes).astype(_TYPES[ids.type])}))
            if rows.size % len(tokens):
                raise P2Error(f"{self._where}: {shown(name)} is {list(rows.shape)}, not of characters")
            yield tokens, rows.reshape(len(tokens), -1)

    def predict(self, logits: str, ids: str, inputs: Mapping[str, Value], vocab: int) -> tuple[Predict, int]:
        """The `found.Predict` of the graph, and the most characters that it takes at once.

        Args:
            logits: name of the value.
            ids: the input that takes characters.
            inputs: all inputs by name; others than `ids` are states, and zero.
            vocab: V.

        Raises:
            P2Error: nothing here can run it, or not over several characters.
        """
        run, shape = self._runner([logits]), inputs[ids].shape
        others = {name: _zeros(value) for name, value in inputs.items() if name != ids}
        dtype = _TYPES[inputs[ids].type]

        def over(axis: int, tokens: Tokens) -> Array:
            """Logits ``[time or 1, V]``."""
            along = [1] * len(shape)
            along[axis] = len(tokens)
            sizes = [n if isinstance(n, int) and n > 0 and at != axis else 1 for at, n in enumerate(shape)]
            sizes[axis] = len(tokens)
            if math.prod(sizes) > _LARGEST:
                raise P2Error(f"{self._where}: the input {shown(ids)} is {shape}, larger than p2 takes it")
            found = np.asarray(
                run({ids: np.broadcast_to(tokens.reshape(along), sizes).astype(dtype), **others})
            )
            batch = math.prod(sizes) // len(tokens)
            if found.size == batch * vocab:
                return found.reshape(-1, vocab)[:1]
            if found.size != batch * len(tokens) * vocab:
                raise P2Error(
                    f"{self._where}: {shown(logits)} is {list(found.shape)}, not logits of characters"
                )
            rows = found.reshape(-1, vocab)
            by_time = found.ndim > 1 and batch > 1 and found.shape[0] == len(tokens)
            return rows[::batch] if by_time else rows[: len(tokens)]

        problem: P2Error | None = None
        for axis in reversed(range(len(shape))):
            fixed = shape[axis]
            open_ended = not isinstance(fixed, int) or fixed < 1
            length = _LONGEST if open_ended else int(fixed)
            if not 2 <= length <= _LARGEST:
                continue
            tokens = np.arange(2 if open_ended else length) % vocab
            other = tokens.copy()
            other[-2] = (other[-2] + 1) % vocab
            try:
                # Time is where the character before has a say in what follows the last.
                if not np.array_equal(over(axis, tokens)[-1], over(axis, other)[-1]):
                    return self._windowed(functools.partial(over, axis), open_ended), length
            except P2Error as error:
                problem = problem or error
        raise problem or P2Error(
            f"{self._where}: {shown(ids)} is {list(shape)}, which takes no characters one after the other:"
            " export it with a time axis of two or more, or of any length"
        )

    @staticmethod
    def _windowed(over: Predict, open_ended: bool) -> Predict:
        def predict(tokens: Tokens) -> npt.NDArray[np.floating]:
            whole = over(tokens)
            if len(whole) == len(tokens) or not open_ended:
                return whole
            return np.concatenate([over(tokens[: end + 1]) for end in range(len(tokens))])

        return predict

    def _runner(self, outputs: list[str]) -> Any:
        """Feeds -> the first of `outputs`; the graph is cut down to what they need."""
        import onnx

        try:
            model = onnx.load_model_from_string(self._data)
            _cut(model.graph, outputs)
            del model.graph.output[:]
            model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
            del model.graph.value_info[:]
        except Exception as error:  # whatever the bytes make the reader stumble over
            raise P2Error(f"{self._where} is not a readable ONNX file ({_first(error)})") from error
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise BackendMissing(f"onnxruntime is not installed: {install('train', 'cpu')}") from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self.name = "ONNX Runtime"
        try:
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            call = session.run
            wanted = {value.name for value in session.get_inputs()}
        except Exception as refused:  # an operator's form that it does not have, such as layout 1
            from onnx.reference import ReferenceEvaluator

            try:
                call = ReferenceEvaluator(model).run
            except Exception as error:
                raise P2Error(f"{self._where} cannot be run here ({_first(refused)})") from error
            wanted = {value.name for value in model.graph.input}
            self.name = "onnx's evaluator"

        def run(feeds: dict[str, Array]) -> Any:
            try:
                return call(outputs, {name: array for name, array in feeds.items() if name in wanted})[0]
            except Exception as error:
                raise P2Error(f"{self._where} cannot be run here ({_first(error)})") from error

        return run


def _first(error: Exception) -> str:
    return shown(str(error).strip().partition("\n")[0])[1:-1]


def _zeros(value: Value) -> Array:
    sizes = [size if isinstance(size, int) and size > 0 else 1 for size in value.shape]
    if value.type not in _TYPES or math.prod(sizes) > _LARGEST:
        raise P2Error(f"the input {shown(value.name)} is no state that p2 knows how to begin")
    return np.zeros(sizes, _TYPES[value.type])


def _cut(graph: Any, outputs: Iterable[str]) -> None:
    """Leave out the nodes and inputs that the outputs do not need."""
    needed = set(outputs)
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    inputs = [value for value in graph.input if value.name in needed]
    nodes = kept[::-1]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.input[:]
    graph.input.extend(inputs)
