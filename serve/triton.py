"""Texts inside Triton's Python backend: a prompt comes in, pieces of the text go out as they are written.

The ``model.py`` of a repository (`export.triton`) names the file; everything else is here. The model is
decoupled: `execute` returns at once, and a batcher writes all texts side by side.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, cast

from ..contract.errors import P2Error, UsageError
from ..runtime.generate import Request, random_seed, sampling_of
from ..runtime.opening import open_engine
from .batcher import Batcher, Delivery
from .settings import Settings
from .text import Text

# Triton has queues of its own: what it hands over is to be written.
_SETTINGS = Settings(max_streams=256, queue=1 << 20)

_GRACE = 60.0  # seconds for what is being written when Triton unloads the model


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
        self._batcher = Batcher(self.engine, _SETTINGS, self._deliver)
        self._batcher.start()

    def execute(self, requests: list[Any]) -> None:
        """Take requests; their responses come through their senders."""
        for request in requests:
            reader = _Reader(request.get_response_sender())
            try:
                wanted = _wanted(request)
                prompt = self._batcher.codec.encode(wanted.prompt, wanted.on_unknown)
                text = Text(
                    prompt,
                    wanted.length,
                    wanted.seed,
                    wanted.first_stream,
                    wanted.sampling,
                    wanted.stop,
                    scores=None,
                    echo=False,
                    index=0,
                    inbox=cast(Any, reader),
                )
                self._batcher.submit([text], "")
            except P2Error as error:
                reader.end(str(error))

    def finalize(self) -> None:
        """End: texts that are being written are finished first."""
        self._batcher.refuse()
        until = time.monotonic() + _GRACE
        while any(self._batcher.counts().values()) and time.monotonic() < until:
            time.sleep(0.01)
        self._batcher.close()
        self.engine.close()

    def _deliver(self, pieces: Delivery) -> None:
        for text, piece in pieces:
            reader = cast(_Reader, text.inbox)
            if reader.ended:
                continue
            if reader.cancelled:
                self._batcher.cancel([text])
                reader.end()
                continue
            if piece.shown:
                reader.send(piece.shown)
            self._batcher.took(text, 1, len(piece.shown))
            if piece.end:
                reader.end(None if piece.error is None else str(piece.error))


class _Reader:
    """Who waits for a text: Triton's response sender.

    Attributes:
        ended: the last response has gone out.
    """

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self.ended = False

    @property
    def cancelled(self) -> bool:
        """Whether the client has gone."""
        return bool(self._sender.is_cancelled())

    def send(self, piece: str) -> None:
        """A piece of the text."""
        import numpy as np
        import triton_python_backend_utils as utils

        text = utils.Tensor("text", np.array([piece.encode()], dtype=object))
        self._sender.send(utils.InferenceResponse(output_tensors=[text]))

    def end(self, problem: str | None = None) -> None:
        """The last response; with a problem, an error."""
        import triton_python_backend_utils as utils

        self.ended = True
        final = utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        if problem is None:
            self._sender.send(flags=final)
        else:
            error = utils.TritonError(problem, utils.TritonError.INVALID_ARG)
            self._sender.send(utils.InferenceResponse(output_tensors=[], error=error), flags=final)


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
