"""Texts inside Triton's Python backend: a prompt comes in, pieces of the text go out as they are written.

The ``model.py`` of a repository (`export.triton`) names the file; everything else is here. The model is
decoupled: `execute` returns at once, and a thread writes all texts in turns, a piece of each. The engine is
used by that thread alone.
"""

from __future__ import annotations

import json
import queue
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..contract.engine import Engine
from ..contract.errors import P2Error, UsageError
from .generate import Request, generate, random_seed, sampling_of
from .opening import open_engine


class TextModel:
    """A model as the Python backend calls it.

    Attributes:
        file: the engine's file.
    """

    file: Path

    def initialize(self, args: dict[str, str]) -> None:
        """Open the engine; ``parameters`` of ``config.pbtxt`` may name a ``backend`` and ``threads``."""
        parameters = json.loads(args["model_config"]).get("parameters", {})
        given = {name: value["string_value"] for name, value in parameters.items()}
        threads = int(given["threads"]) if "threads" in given else None
        self.engine = open_engine(self.file, threads, given.get("backend"))
        self._new: queue.SimpleQueue[_Writing | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, daemon=True)
        self._writer.start()

    def execute(self, requests: list[Any]) -> None:
        """Take requests; their responses come through their senders."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                self._new.put(_Writing(self.engine, _wanted(request), sender))
            except P2Error as error:
                _end(sender, str(error))

    def finalize(self) -> None:
        """End: texts that are being written are finished first."""
        self._new.put(None)
        self._writer.join()
        self.engine.close()

    def _write(self) -> None:
        writing: deque[_Writing] = deque()
        ending = False
        while writing or not ending:
            while not ending and (not writing or not self._new.empty()):
                one = self._new.get()
                ending = one is None
                if one is not None:
                    writing.append(one)
            if writing:
                one = writing.popleft()
                if one.piece():
                    writing.append(one)


class _Writing:
    """A text that is being written, and who waits for it."""

    def __init__(self, engine: Engine, wanted: Request, sender: Any) -> None:
        self._sender = sender
        self._pieces: Iterator[str] = generate(engine, wanted)

    def piece(self) -> bool:
        """Write and send the next piece; returns whether another follows."""
        if self._sender.is_cancelled():
            return _end(self._sender)
        try:
            piece = next(self._pieces, None)
        except P2Error as error:
            return _end(self._sender, str(error))
        except Exception as error:  # one text's failure must not end the others
            return _end(self._sender, f"{type(error).__name__}: {error}")
        if piece is None:
            return _end(self._sender)
        if piece:
            _send(self._sender, piece)
        return True


def _wanted(request: Any) -> Request:
    """The request in the words of `p2 generate`.

    Raises:
        UsageError: a value is out of its range, or has more than one element.
    """
    given = {name: value for name in _READERS if (value := _read(request, name)) is not None}
    sampling = sampling_of(
        given.get("temperature"),
        given.get("tau"),
        given.get("greedy", False),
        given.get("top_k", 0),
        given.get("top_p", 1.0),
        given.get("min_p", 0.0),
    )
    plain = {name: given[name] for name in ("prompt", "length", "on_unknown") if name in given}
    return Request(
        **plain,
        seed=given.get("seed", random_seed()),
        first_stream=given.get("stream", 0),
        sampling=sampling,
        stop=tuple(given.get("stop", ())),
    )


def _text(value: Any) -> str:
    try:
        return bytes(value).decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError as error:
        raise UsageError(f"a text is not UTF-8: byte {error.start} cannot be read") from error


_READERS: dict[str, Any] = {
    "prompt": _text,
    "length": int,
    "seed": int,
    "stream": int,
    "temperature": float,
    "tau": float,
    "greedy": bool,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "stop": _text,
    "on_unknown": _text,
}
_SEVERAL = ("stop",)


def _read(request: Any, name: str) -> Any:
    import triton_python_backend_utils as utils

    tensor = utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return None
    values = [_READERS[name](value) for value in tensor.as_numpy().reshape(-1)]
    if name in _SEVERAL:
        return values
    if len(values) != 1:
        raise UsageError(f"{name} takes one value, not {len(values)}")
    return values[0]


def _send(sender: Any, piece: str) -> None:
    import numpy as np
    import triton_python_backend_utils as utils

    text = utils.Tensor("text", np.array([piece.encode()], dtype=object))
    sender.send(utils.InferenceResponse(output_tensors=[text]))


def _end(sender: Any, problem: str | None = None) -> bool:
    """The last response; False, as nothing follows."""
    import triton_python_backend_utils as utils

    final = utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    if problem is None:
        sender.send(flags=final)
    else:
        error = utils.TritonError(problem, utils.TritonError.INVALID_ARG)
        sender.send(utils.InferenceResponse(output_tensors=[], error=error), flags=final)
    return False
