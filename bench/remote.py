"""The benchmark's side of a contender's process (`worker`)."""

from __future__ import annotations

import contextlib
import time
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.codec import Tokens
from ..contract.errors import P2Error
from . import wire
from .contender import Model
from .process import LineProcess

# Compilers may work for minutes before the first character; nothing else may take that long.
LOAD_SECONDS = 300.0
CALL_SECONDS = 60.0
# A call is stopped when it takes so many times longer than it should.
PATIENCE = 20.0

_CLOSE_SECONDS = 10.0


class Failed(P2Error):
    """A contender could not do something.

    Args:
        reason: as a clause, for people.
        gone: whether its process is gone as well.
    """

    def __init__(self, reason: str, *, gone: bool) -> None:
        super().__init__(reason)
        self.gone = gone


class Remote:
    """A contender in a new process.

    Every call has a time limit, after which the process is ended.

    Args:
        address: what `plugins.find` takes.
        load_seconds: limit for loading and for the first call after it.
        call_seconds: limit for the other calls, beside `PATIENCE` times what they should take.
    """

    def __init__(
        self, address: str, load_seconds: float = LOAD_SECONDS, call_seconds: float = CALL_SECONDS
    ) -> None:
        self._first, self._call = load_seconds, call_seconds
        self._number = 0
        self._process = LineProcess("p2.bench.worker", address)

    def load(self, model: Model, threads: int | None) -> tuple[float, int]:
        """Make the contender ready.

        Returns:
            the seconds it took, imports included, and its threads.

        Raises:
            Failed: it cannot be loaded, as all other calls when they fail.
        """
        reply = self._ask("load", self._first, model=wire.pack_model(model), threads=threads)
        return float(reply["seconds"]), int(reply["threads"])

    def write(
        self, batch: int, seed: int, *, warm: int, chunk: int, chunks: int, expected: float | None = None
    ) -> list[float]:
        """Write new texts.

        Args:
            batch: texts side by side.
            seed: of the random numbers.
            warm: characters written first, untimed.
            chunk: characters of each text in one call.
            chunks: timed calls.
            expected: seconds that this should take; None for the first time.

        Returns:
            the seconds of each timed call.
        """
        reply = self._ask(
            "write",
            self._limit(expected),
            batch=batch,
            seed=seed,
            warm=warm,
            chunk=chunk,
            chunks=chunks,
        )
        return [float(value) for value in reply["seconds"]]

    def follow(self, first: Tokens, noise: npt.NDArray[np.float32], expected: float) -> Tokens:
        """See `Running.follow`."""
        reply = self._ask("follow", self._limit(expected), first=wire.pack(first), noise=wire.pack(noise))
        return wire.unpack(reply["tokens"])

    def read(self, tokens: Tokens, expected: float) -> float:
        """The seconds that `Running.read` takes."""
        return float(self._ask("read", self._limit(expected), tokens=wire.pack(tokens))["seconds"])

    def logits(self, tokens: Tokens, expected: float) -> npt.NDArray[np.float32]:
        """See `Running.logits`."""
        return wire.unpack(self._ask("logits", self._limit(expected), tokens=wire.pack(tokens))["logits"])

    def peak_memory(self) -> int | None:
        """The most memory that the process has held so far, in bytes, where the system tells."""
        value = self._ask("memory", self._call)["bytes"]
        return None if value is None else int(value)

    def close(self) -> None:
        """Ask the contender to give everything back, then end the process in any case."""
        if self._process.running:
            with contextlib.suppress(Failed):
                self._ask("close", _CLOSE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the process, and those it started, at once."""
        self._process.kill()

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill() if kind else self.close()

    def _limit(self, expected: float | None) -> float:
        return self._first if expected is None else self._call + PATIENCE * expected

    def _ask(self, do: str, seconds: float, **values: Any) -> dict[str, Any]:
        if self._process.killed:
            raise Failed("its process has ended", gone=True)
        self._number += 1
        try:
            self._process.send(wire.line({"number": self._number, "do": do, **values}))
        except OSError:
            raise self._ended(do) from None
        deadline = time.monotonic() + seconds
        while True:
            try:
                data = self._process.receive(deadline - time.monotonic())
            except TimeoutError:
                self.kill()
                raise Failed(f"no answer to {do!r} within {seconds:g} s", gone=True) from None
            if data is None:
                raise self._ended(do)
            reply = wire.message(data, self._number)
            if reply is None:
                continue
            if "error" in reply:
                raise Failed(str(reply["error"]), gone=False)
            return reply

    def _ended(self, do: str) -> Failed:
        return Failed(f"its process ended at {do!r} ({self._process.fate()})", gone=True)
