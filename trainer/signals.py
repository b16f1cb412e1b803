"""Ctrl-C, or a terminal that is closed, as a request: finish the running update, save, then stop."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class StopRequest:
    """While active, the first SIGINT, SIGTERM or SIGHUP is remembered; a second one acts as usual.

    SIGHUP comes when a terminal is closed; under nohup, which ignores it, it stays ignored.

    Signals only reach the main thread, so in any other this does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in self._signals():
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _signals(self) -> list[signal.Signals]:
        hang_up: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
            numbers.append(hang_up)
        return numbers

    def _remember(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        self._restore()

    def _restore(self) -> None:
        while self._previous:
            signal.signal(*self._previous.popitem())
