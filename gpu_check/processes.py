"""Checks of `p2 generate` as a process: two at once, one that is interrupted, the first character."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ..bench.process import last_line
from ..bench.startup import command, time_first_character
from ..contract.codec import Codec
from ..contract.engine import Engine
from ..contract.errors import BackendMissing
from ..contract.sampling import Sampling
from ..runtime.decoder import Decoder
from .check import CheckFailed
from .engine_checks import SEED, Open, verdict

TOGETHER = 150_000  # characters: more than a pipe holds, so that nobody is done before all have begun
ENDLESS = 1_000_000_000
COMPARED = 500  # with eager PyTorch's
INTERRUPTED = 130  # exit code
LISTENS = 10.0  # seconds after which an interrupted process must have ended
GOES_ON = 0.5  # seconds that it writes before it is interrupted
STARTS = 3  # after one that fills the caches


class Writing:
    """`p2 generate` in a process.

    Args:
        engine: the options that name what is run.
        characters: to write.
    """

    def __init__(self, engine: Sequence[str], characters: int) -> None:
        self._characters = characters
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        argv = [*command(), "generate", *engine, "--seed", str(SEED), "--length", str(characters)]
        self._process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        )

    def begin(self) -> None:
        """Wait for the first character."""
        self._read = self._out.read(1)

    def rest(self) -> str:
        """Wait for the others; the text, as far as it was written."""
        self._read += self._out.read()
        text: str = self._read.decode(errors="replace")
        return text[: self._characters]

    def interrupt(self, seconds: float) -> float | None:
        """Send Ctrl-C; how many seconds it went on, None if that was longer than `seconds`."""
        self._process.send_signal(signal.SIGINT)
        started = time.perf_counter()
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return time.perf_counter() - started

    def kill(self) -> None:
        """End it."""
        self._process.kill()

    def code(self) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait()

    def last_words(self) -> str:
        """The last line that it said beside its text."""
        return last_line(self._said) or "nothing"

    @property
    def _out(self) -> Any:
        return self._process.stdout

    def __enter__(self) -> Writing:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.communicate()
        self._said.close()


def together(engine: Sequence[str], reference: Engine, characters: int = TOGETHER) -> dict[str, Any]:
    """Two processes write at the same time: both finish, with eager PyTorch's text.

    Args:
        engine: the options of `p2 generate` that name what is checked, in float32.
        reference: eager PyTorch.
        characters: that each writes.
    """
    with Writing(engine, characters) as one, Writing(engine, characters) as other:
        both = (one, other)
        for writing in both:
            writing.begin()
        with ThreadPoolExecutor(2) as pool:
            texts = list(pool.map(Writing.rest, both))
        ends = [(writing.code(), writing.last_words()) for writing in both]
    expected = _expected(reference, characters)
    details = {
        "characters": [len(text) for text in texts],
        "exit_codes": [code for code, _ in ends],
        "one_text": texts[0] == texts[1],
        "text_of_eager": all(text[: len(expected)] == expected for text in texts),
    }
    wrong = [f"a process ended with exit code {code}: {said}" for code, said in ends if code]
    if not wrong and not (details["one_text"] and details["text_of_eager"]):
        wrong = ["two processes at once write another text than one alone"]
    if wrong:
        raise CheckFailed("; ".join(wrong), details)
    return details


def interrupt(engine: Sequence[str], open_engine: Open, reference: Engine) -> dict[str, Any]:
    """Ctrl-C while it writes: it ends at once, says so, and the GPU can be used.

    Args:
        engine: as in `together`.
        open_engine: opens the same.
        reference: eager PyTorch.

    Raises:
        BackendMissing: the system has no such signal.
    """
    if os.name == "nt":
        raise BackendMissing("Ctrl-C cannot be sent to another program on this system")
    # Whoever started this in the background may have had it ignored, which new processes would take over.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with Writing(engine, ENDLESS) as writing:
            writing.begin()
            with ThreadPoolExecutor(1) as pool:
                reading = pool.submit(writing.rest)  # a pipe that is full would only let it wait
                time.sleep(GOES_ON)
                seconds = writing.interrupt(LISTENS)
                if seconds is None:
                    writing.kill()
                reading.result()
            code, said = writing.code(), writing.last_words()
    finally:
        signal.signal(signal.SIGINT, before)
    expected = _expected(reference, COMPARED)
    opened = open_engine()
    try:
        tokens = Decoder(opened, Sampling(), SEED).write(len(expected))[0]
    finally:
        opened.close()
    same = Codec(reference.card.vocabulary).decode(tokens) == expected
    details = {"seconds": seconds, "exit_code": code, "said": said, "text_after": same}
    ended = seconds is not None
    return verdict(
        {
            f"it goes on for {LISTENS:g} s and more": not ended,
            f"it ends with exit code {code}, not {INTERRUPTED}: {said}": ended and code != INTERRUPTED,
            "the GPU writes another text after it": not same,
        },
        details,
    )


def start(engine: Sequence[str]) -> dict[str, Any]:
    """How long a person waits for the first character: the first time, and with every cache warm."""
    first, *others = [time_first_character(*engine) for _ in range(STARTS + 1)]
    return {"first_s": first, "warm_s": statistics.median(others)}


def _expected(reference: Engine, most: int) -> str:
    tokens = Decoder(reference, Sampling(), SEED).write(min(COMPARED, most))[0]
    return Codec(reference.card.vocabulary).decode(tokens)
