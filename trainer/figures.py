"""The figures of an update on their way from the device to the program.

Asking a GPU for a number waits until everything before it is computed, and leaves the GPU without work until
the next update is prepared. So they are copied behind the update, and read when the next one is in the queue:
one update late. On a CPU they are there at once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor

_POLL_SECONDS = 1e-4


class Figures:
    """Numbers of the updates that have not been read yet.

    Args:
        device: where they are computed.

    Attributes:
        late: how many updates stay unread while more are to come.
    """

    def __init__(self, device: torch.device) -> None:
        self.late = int(device.type == "cuda")
        self._waiting: deque[tuple[int, Tensor, torch.cuda.Event | None]] = deque()

    def put(self, step: int, numbers: Tensor) -> None:
        """Add those of update `step`, ``[n]``, after all of its work is in the queue of the device."""
        event = None
        if numbers.is_cuda:
            host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
            numbers, event = host.copy_(numbers, non_blocking=True), torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        self._waiting.append((step, numbers, event))

    def take(
        self, everything: bool, give_up: Callable[[], None] = lambda: None
    ) -> list[tuple[int, list[float]]]:
        """The updates that can be read, and their numbers.

        Args:
            everything: those that have just begun too; else none that would leave a GPU without work.
            give_up: called while waiting; may raise.
        """
        found = []
        while len(self._waiting) > (0 if everything else self.late):
            step, numbers, event = self._waiting[0]
            while event is not None and not event.query():  # type: ignore[no-untyped-call]
                give_up()
                time.sleep(_POLL_SECONDS)  # not `synchronize`, in which no signal would reach the program
            self._waiting.popleft()
            found.append((step, numbers.tolist()))
        return found
