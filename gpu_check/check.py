"""What one check is, and what came of it: plain values that travel between processes as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

PASSED = "passed"
FAILED = "failed"  # it ran, and something is wrong
CRASHED = "crashed"  # its process ended
TIMED_OUT = "timed out"
REFUSED = "refused"  # a library does not take a graph in a small precision, and says so
EXPECTED = "refused, as expected"  # a library that does not support this GPU says so
NOT_RUN = "not run"  # what it needs is not here

REHEARSAL = "rehearsal"  # the mode of a check of training that runs on the processor

# With one of these the command ends with exit code 1.
BAD = (FAILED, CRASHED, TIMED_OUT)


class CheckFailed(Exception):
    """A check ran and found something wrong.

    Args:
        reason: what, for people.
        details: what was measured.
    """

    def __init__(self, reason: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.details = details or {}


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        kind: what is checked; a key of `worker.KINDS`.
        timeout: seconds after which its process is ended.
        backend: a key of `backends.BACKENDS`, or empty.
        cell: of the model.
        reset: where a GRU's reset acts.
        precision: of the engine's weights.
        mode: ``graph`` (many steps a launch) or ``steps`` (one by one), where a backend has both.
        hidden: width of the model's layers.
        amount: how many characters, where the kind asks that.
        precisions: that a model is exported in, or that take part in a benchmark.
        contenders: keys of the benchmark's contenders.
        needs: names of checks that must have passed.
    """

    kind: str
    timeout: float
    backend: str = ""
    cell: str = ""
    reset: str = "after"
    precision: str = ""
    mode: str = ""
    hidden: int = 0
    amount: int = 0
    precisions: tuple[str, ...] = ()
    contenders: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        """Name of the model, and of its folder: ``gru-before-256``."""
        reset = "" if self.reset == "after" else f"-{self.reset}"
        return f"{self.cell}{reset}-{self.hidden}"

    @property
    def name(self) -> str:
        """Short and unique: ``parity tensorrt lstm-256 float16 graph``."""
        model = self.model if self.cell else ""
        return " ".join(part for part in (self.kind, self.backend, model, self.precision, self.mode) if part)


@dataclass(frozen=True)
class Result:
    """What came of a check.

    Attributes:
        check: which one.
        outcome: one of the words above.
        reason: why it is not ``passed``; empty if it is.
        seconds: that its process took.
        details: what was measured.
    """

    check: Check
    outcome: str
    reason: str = ""
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"name": self.check.name} | asdict(self)


def check_from(values: dict[str, Any]) -> Check:
    """A check that was written as JSON."""
    lists = ("precisions", "contenders", "needs")
    plain: dict[str, Any] = {n: tuple(value) if n in lists else value for n, value in values.items()}
    return Check(**plain)


def result_from(values: dict[str, Any]) -> Result:
    """A result that was written as JSON."""
    plain = {name: values[name] for name in ("outcome", "reason", "seconds", "details")}
    return Result(check_from(values["check"]), **plain)
