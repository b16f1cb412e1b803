"""Python processes of p2's own: how they are started, asked, and ended."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import IO, TextIO

from ..contract.errors import P2Error

_END_SECONDS = 10.0


def start(
    *arguments: str, errors: IO[bytes], environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A Python process in a session of its own, with pipes for its input and output.

    Ctrl-C is for the program that started it, which then ends it (`end`).
    """
    # -P: what lies in the folder that the person is in must not take the place of a library.
    return subprocess.Popen(
        [sys.executable, "-P", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=environment,
        start_new_session=True,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and those it started, at once."""
    with contextlib.suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()


def take_stdout() -> TextIO:
    """This process's standard output, for answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def signal_of(code: int) -> str:
    """The name of the signal that a negative exit code stands for."""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"


def last_line(errors: IO[bytes]) -> str:
    """The last thing that a process said."""
    errors.seek(0)
    said = errors.read().decode(errors="replace").splitlines()
    return next((text.strip() for text in reversed(said) if text.strip()), "")


class LineProcess:
    """``python -m MODULE ARGUMENTS...``, whose answers are waited for no longer than is said.

    Args:
        module: that is run.
        arguments: for it.
        environment: of the process; None hands on this one's.
    """

    def __init__(self, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self._killed = False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        self._process = start("-m", module, *arguments, errors=self._errors, environment=environment)
        self._lines: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read_lines, daemon=True)
        self._reader.start()

    @property
    def running(self) -> bool:
        """Whether it has neither ended nor been killed."""
        return not self._killed and self._process.poll() is None

    @property
    def killed(self) -> bool:
        """Whether `kill` was called."""
        return self._killed

    def send(self, line: bytes) -> None:
        """Hand over a line, its end included.

        Raises:
            OSError: the process does not read any more.
        """
        if self._killed:
            raise BrokenPipeError
        assert self._process.stdin is not None
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def receive(self, seconds: float) -> bytes | None:
        """The next line of an answer; None when there are no more.

        Raises:
            TimeoutError: nothing came in so many seconds.
        """
        try:
            return self._lines.get(timeout=max(0.0, seconds))
        except queue.Empty:
            raise TimeoutError from None

    def ask(self, line: str, seconds: float, what: str) -> str:
        """Hand over a line and wait for the one that answers it.

        Args:
            line: without its end.
            seconds: the longest that the answer may take.
            what: the process, for people: ``the process of ...``.

        Raises:
            P2Error: the process ended, or did not answer in time.
        """
        try:
            self.send(line.encode() + b"\n")
            answer = self.receive(seconds)
        except TimeoutError:
            self.kill()
            raise P2Error(f"{what} did not answer within {seconds:g} s") from None
        except OSError:
            answer = None
        if answer is None:
            raise P2Error(f"{what} ended before its time ({self.fate()})")
        return answer.decode().strip()

    def fate(self) -> str:
        """What became of a process that ended by itself, as a clause; it is cleaned up."""
        if self._killed:
            return "it was ended"
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return "it stopped listening"
        last = last_line(self._errors)
        if code < 0:
            name = signal_of(code)
            how = f"killed by {name}{', often for lack of memory' if name == 'SIGKILL' else ''}"
        else:
            how = f"exit code {code}"
        self.kill()
        return f"{how}{': ' + last if last else ''}"

    def kill(self) -> None:
        """End the process, and those it started, at once."""
        if self._killed:
            return
        self._killed = True
        end(self._process)
        self._process.wait()
        self._reader.join(_END_SECONDS)
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()

    def __enter__(self) -> LineProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def _read_lines(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            for data in self._process.stdout:
                self._lines.put(data)
        self._lines.put(None)
