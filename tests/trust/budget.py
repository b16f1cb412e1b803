"""How the time of a run with ``--trust-minutes`` is shared out.

A check that begins may take its share, by weight, of what is left; what it does not need is the others'.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Mapping
from pathlib import Path

WEIGHT = 1.0  # of a check that says nothing else: about two seconds in an hour's run


class Budget:
    """The time that is left; processes share it by a file.

    Args:
        ledger: the file; whoever comes first begins it.
        seconds: of the whole run, from then on.
        weights: of all checks, by name.
        worker: the name of this process.
        workers: how many processes there are.

    Attributes:
        seconds: as given.
    """

    def __init__(
        self, ledger: Path, seconds: float, weights: Mapping[str, float], worker: str = "", workers: int = 1
    ) -> None:
        self._ledger, self.seconds, self._weights = ledger, seconds, weights
        self._worker, self._workers = worker, workers

    def begin(self, check: str, seconds: float | None = None) -> float:
        """When a check that begins now has to end.

        Args:
            check: its name.
            seconds: what it takes whatever its share is; None: its share.

        Returns:
            seconds of the epoch.
        """
        now = time.time()
        with self._ledger.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            told = json.loads(file.read() or "null") or {"end": now + self.seconds, "begun": [], "busy": {}}
            waiting = sum(weight for name, weight in self._weights.items() if name not in told["begun"])
            others = [until for name, until in told["busy"].items() if name != self._worker]
            others += [now] * (self._workers - 1 - len(others))
            left = sum(max(0.0, told["end"] - max(now, until)) for until in (now, *others))
            weight = self._weights.get(check, WEIGHT)
            share = left * weight / max(waiting, weight) if seconds is None else seconds
            until = max(now, min(now + share, told["end"])) if seconds is None else now + seconds
            told["begun"].append(check)
            told["busy"][self._worker] = until
            file.truncate(0)
            file.write(json.dumps(told))
        return until
