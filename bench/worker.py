"""A contender's own process: ``python -m p2.bench.worker CONTENDER``.

Reads requests from standard input and answers on standard output (`wire`), until the input ends.
What libraries print goes to standard error, whatever way they print it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any, BinaryIO

from . import wire
from .contender import Contender, Running
from .process import take_stdout


class Session:
    """Answers requests about one contender.

    Args:
        contender: which one.
        clock: seconds, monotonic.
    """

    def __init__(self, contender: Contender, clock: Callable[[], float] = time.perf_counter) -> None:
        self._contender = contender
        self._clock = clock
        self._running: Running | None = None

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what ``request["do"]`` names and return what came out."""
        actions: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "load": self._load,
            "write": self._write,
            "follow": lambda r: {
                "tokens": wire.pack(self._loaded.follow(wire.unpack(r["first"]), wire.unpack(r["noise"])))
            },
            "read": self._read,
            "logits": lambda r: {"logits": wire.pack(self._loaded.logits(wire.unpack(r["tokens"])))},
            "memory": lambda _: {"bytes": peak_memory()},
            "close": self._close,
        }
        return actions[request["do"]](request)

    @property
    def _loaded(self) -> Running:
        assert self._running is not None, "nothing was loaded"
        return self._running

    def _load(self, request: dict[str, Any]) -> dict[str, Any]:
        model = wire.unpack_model(request["model"])
        started = self._clock()
        self._running = self._contender.load(model, request["threads"])
        return {"seconds": self._clock() - started, "threads": self._running.threads}

    def _write(self, request: dict[str, Any]) -> dict[str, Any]:
        """Begin new texts, write `warm` characters untimed, then `chunks` times `chunk` characters."""
        running = self._loaded
        running.start(request["batch"], request["seed"])
        if request["warm"]:
            running.write(request["warm"])
        seconds = []
        for _ in range(request["chunks"]):
            started = self._clock()
            running.write(request["chunk"])
            seconds.append(self._clock() - started)
        return {"seconds": seconds}

    def _read(self, request: dict[str, Any]) -> dict[str, Any]:
        tokens = wire.unpack(request["tokens"])
        started = self._clock()
        self._loaded.read(tokens)
        return {"seconds": self._clock() - started}

    def _close(self, _: dict[str, Any]) -> dict[str, Any]:
        if self._running is not None:
            self._running.close()
            self._running = None
        return {}


def peak_memory() -> int | None:
    """The most memory that this process has held so far, in bytes; None where the system does not tell."""
    from ..render.machine import process_memory

    told = process_memory(peak=True)
    if told is not None:
        return told
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(session: Session, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer until the requests end; an exception is an answer too."""
    import json

    for data in requests:
        request = json.loads(data)
        try:
            reply = session.answer(request)
        except Exception as error:  # whatever a contender's library raises
            reply = {"error": sentence(error)}
        replies.write(wire.line({"number": request["number"], **reply}))
        replies.flush()


def sentence(error: Exception) -> str:
    """An exception in one line."""
    from ..contract.errors import P2Error

    first = str(error).strip().partition("\n")[0]
    if isinstance(error, MemoryError):
        return "there is not enough memory for it"
    return first if isinstance(error, P2Error) else f"{type(error).__name__}: {first}".removesuffix(": ")


def main() -> None:
    """Take the pipes away from everything else in this process, then serve."""
    requests, replies = os.fdopen(os.dup(0), "rb"), take_stdout()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    from .plugins import find

    with requests, replies:
        serve(Session(find(sys.argv[1])), requests, replies.buffer)


if __name__ == "__main__":
    main()
