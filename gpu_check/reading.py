"""A report of the GPU checks read back from its JSON: every field that is used again is checked before."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

from ..bench.document import Target
from ..contract.documents import check, read_document
from ..contract.errors import P2Error
from ..contract.schema import Count, Measure, Positive, Within, problem
from .check import Check

SCHEMA = "p2 gpu-check 1"


class _Gpu(TypedDict):
    name: str
    capability: tuple[int, int]
    memory: Count


class _Machine(TypedDict):
    gpu_driver: str | None
    processor: str
    processors: int
    python: str


class _Result(TypedDict):
    name: str
    check: Check
    outcome: str
    reason: str
    seconds: Measure
    details: dict[str, Any]


class _Document(TypedDict):
    p2: str
    created: str
    rehearsal: bool
    machine: _Machine
    gpus: list[_Gpu]
    installed: dict[str, str]
    backends: list[str]
    missing: dict[str, str]
    other_programs: NotRequired[Count | None]
    outcomes: dict[str, Count]
    passed: bool
    checks: list[_Result]


class _Forced(TypedDict):
    relative: Measure


class _Parity(TypedDict):
    forced: NotRequired[_Forced]


class _Soak(TypedDict):
    characters: Count
    characters_per_second: Measure
    host_growth_bytes: Measure | None
    device_growth_bytes: Measure | None
    other_programs: NotRequired[Count | None]


class _Start(TypedDict):
    first_s: Positive
    warm_s: Positive


class _Noise(TypedDict):
    numbers: Positive
    different: Count
    numbers_per_second: Positive


class _Loop(TypedDict):
    title: str
    seconds_per_update: Positive | None
    characters_per_second: Positive | None
    tflops: Measure | None
    problem: str | None


class _Training(TypedDict):
    model: str
    batch_size: Positive
    seq_len: Positive
    precision: str
    loops: list[_Loop]
    targets: list[Target]


class _Copied(TypedDict):
    bytes_per_second: Positive


class _NotCopied(TypedDict):
    problem: str


class _Speed(TypedDict):
    median: Positive


class _Latency(TypedDict):
    p99_us: Measure


class _Read(TypedDict):
    characters_per_second: Positive


class _Point(TypedDict):
    batch: Positive
    characters_per_second: Positive


class _Entry(TypedDict):
    title: str
    precision: str
    skipped: str | None
    characters_per_second: _Speed | None
    latency: _Latency | None
    prompt: _Read | None
    batches: list[_Point]
    bytes_per_step: Positive | None
    bandwidth_share: Measure | None


class _Race(TypedDict):
    copies: Annotated[list[_Copied | _NotCopied], Within(1)]
    entries: list[_Entry]
    notes: list[str]
    targets: NotRequired[list[Target]]


_DETAILS: dict[str, Any] = {
    "parity": _Parity,
    "soak": _Soak,
    "start": _Start,
    "noise": _Noise,
    "training": _Training,
    "benchmark": _Race,
}


def load(path: Path) -> dict[str, Any]:
    """Read a report.

    Raises:
        ContractError: damaged: the sentence names the field.
        P2Error: missing, unreadable, or no report of `p2 gpu-check`.
    """
    document = read_document(path)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise P2Error(f"{path} is not a report of `p2 gpu-check`")
    check(document, _Document, str(path))
    for at, one in enumerate(document["checks"]):
        one["check"] = asdict(Check("", 0)) | one["check"]  # a field that is not there is as it usually is
        kind = _DETAILS.get(one["check"]["kind"])
        found = problem(one["details"], kind, f"checks[{at}].details") if kind and one["details"] else ""
        if found:
            raise P2Error(f"{path} is damaged: {found}")
    return document
