"""Ctrl-C, or a terminal that is closed, as a request: finish the running update, save, then stop."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any


def ignore() -> None:
    """From now on no signal ends this process, which is about to end by itself."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


class StopRequest:
    """While active, the first SIGINT, SIGTERM or SIGHUP is remembered; a second one acts as usual.

    SIGHUP comes when a terminal is closed; under nohup, which ignores it, it stays ignored.

    Signals only reach the main thread, so in any other this does nothing.

    Args:
        once: without it, those that follow are remembered too: torchrun hands on a Ctrl-C that the terminal
            has sent to everybody already, and kills who is not done after half a minute. After a signal or an
            error they are ignored for good: the process has yet to say how it ended.
    """

    def __init__(self, *, once: bool = True) -> None:
        self._once = once
        self._asked_at = 0.0
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in self._signals():
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._once and (self.requested or error):
            ignore()
        else:
            self._restore()

    @property
    def requested(self) -> bool:
        """Whether one came."""
        return bool(self._asked_at)

    def seconds(self) -> float:
        """How long ago the first one came; 0 if none did."""
        return time.monotonic() - self._asked_at if self.requested else 0.0

    def _signals(self) -> list[signal.Signals]:
        hang_up: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
            numbers.append(hang_up)
        return numbers

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self._asked_at = self._asked_at or time.monotonic()
        if self._once:
            self._restore()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
