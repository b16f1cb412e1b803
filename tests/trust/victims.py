"""Commands of p2 that are killed, or refused by the file system, at a chosen operation.

A process that has everything imported forks a child for each command, since to start one takes seconds. It is
started under `layer.c`, and has one thread only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
COUNT, KILL, TEAR, STOP, FAIL, FAIL_ON, VANISH = range(7)

TRACEBACK = 99
"""The exit code of a command that ended with an exception."""

LONGEST = 300.0  # seconds that a command may take


def build_layer(folder: Path) -> Path:
    """Compile the layer; the library."""
    library = folder / "layer.so"
    words = ["gcc", "-O2", "-Wall", "-fPIC", "-shared", str(HERE / "layer.c"), "-o", str(library), "-ldl"]
    subprocess.run(words, check=True)
    return library


@dataclass(frozen=True)
class Fault:
    """What is to happen.

    Attributes:
        how: before an operation on a file: die, die half-way through a write, stop, fail once or from then
            on, or let the file vanish.
        at: at which operation, from 0: of those that change a file, and of those that read one where `reads`.
        errno: how operations fail.
        reads: whether reading counts.
        clock: after so many looks at it the clock is set back by so many seconds.
        starve: so many requests of the compiled decoder for memory or a thread are granted; None: all.
        memory: bytes of address space that the command may take beyond what it begins with; None: no limit.
    """

    how: int = COUNT
    at: int = -1
    errno: int = 0
    reads: bool = False
    clock: tuple[int, int] | None = None
    starve: int | None = None
    memory: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code, or the signal that ended it, negative.
        operations: what it did to the files of its folder, a line each.
        said: its stdout and stderr.
    """

    code: int
    operations: list[str]
    said: str
    seconds: float


class Victims:
    """Calls commands in children."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._layer = ctypes.CDLL(os.environ["LD_PRELOAD"])
        self._layer.layer_log.restype = ctypes.c_char_p

    def call(
        self,
        argv: Sequence[str],
        folder: Path,
        fault: Fault | None = None,
        after: tuple[float, int] | None = None,
    ) -> Ended:
        """``p2 argv`` in `folder`.

        Args:
            argv: of the command.
            folder: where it is called, and what `fault` is about.
            fault: None: nothing happens, nothing is counted.
            after: seconds, and the signal that is sent then.
        """
        started, child = self.start(argv, folder, fault)
        while (ended := self.ended(started, child, fault is not None)) is None:
            waited = time.monotonic() - started
            if after is not None and waited >= after[0]:
                os.kill(child, after[1])
                after = None
            if waited > LONGEST:
                os.kill(child, signal.SIGKILL)
            time.sleep(0.0005)
        return ended

    def start(self, argv: Sequence[str], folder: Path, fault: Fault | None) -> tuple[float, int]:
        """Begin a command: when, and its process."""
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            self._run(argv, folder, fault)
        return started, child

    def ended(self, started: float, child: int, counts: bool) -> Ended | None:
        """How a command has ended, if it has."""
        done, status = os.waitpid(child, os.WNOHANG)
        if not done:
            return None
        log = self._layer.layer_log().decode(errors="replace").splitlines() if counts else []
        output = self._scratch / f"said-{child}"
        said = output.read_text(errors="replace") if output.exists() else ""  # it was killed before
        output.unlink(missing_ok=True)
        return Ended(os.waitstatus_to_exitcode(status), log, said, time.monotonic() - started)

    def stopped(self, child: int) -> bool:
        """Wait until a command has stopped; False if it has ended, which is not taken note of."""
        found = os.waitid(os.P_PID, child, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        return found is not None and found.si_code == os.CLD_STOPPED

    def _run(self, argv: Sequence[str], folder: Path, fault: Fault | None) -> None:
        code = TRACEBACK
        try:
            from p2 import cli

            os.chdir(folder)
            output = os.open(self._scratch / f"said-{os.getpid()}", os.O_WRONLY | os.O_CREAT, 0o600)
            for descriptor in (1, 2):
                os.dup2(output, descriptor)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            if fault is not None:
                self._arm(folder, fault)
            code = cli.main([*argv])
        except BaseException:
            traceback.print_exc()
        finally:
            self._layer.layer_disarm()
            os._exit(code)

    def _arm(self, folder: Path, fault: Fault) -> None:
        if fault.memory is not None:
            limit_memory(fault.memory)
        if fault.starve is not None:
            self._layer.layer_starve(ctypes.c_long(fault.starve))
        if fault.clock is not None:
            self._layer.layer_clock(*map(ctypes.c_long, fault.clock))
        at, reads = ctypes.c_long(fault.at), int(fault.reads)
        self._layer.layer_arm(os.fsencode(folder), at, fault.how, fault.errno, reads)


def limit_memory(more: int) -> None:
    """Let this process have `more` bytes of address space beyond what it has."""
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
