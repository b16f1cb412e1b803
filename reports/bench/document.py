"""The document that `p2 bench` writes: the schema of its JSON, as types.

Times are in the unit that the name says (``_s`` seconds, ``_us`` microseconds), rates per second,
sizes in bytes, shares and ratios as fractions. null stands for "not measured"; why is said in
``skipped`` or in a target's ``note``.
"""

from __future__ import annotations

from typing import Any, TypedDict

SCHEMA = "p2.bench/3"


class Spread(TypedDict):
    """A figure measured several times, once in each round of the contenders' turns."""

    median: float
    p5: float
    p95: float
    values: list[float]  # in the order of the rounds


class Latency(TypedDict):
    """Time per character of one text, over pieces of `chunk` characters each written in one call."""

    p50_us: float
    p90_us: float
    p99_us: float
    chunk: int
    samples: int


class BatchPoint(TypedDict):
    """Writing `batch` texts side by side; characters of all texts count."""

    batch: int
    characters_per_second: float  # median of the rounds
    us_per_character: float
    values: list[float]  # characters per second of each round
    growth: float | None  # p2 only: time per character against the batch before, median of the rounds


class PromptSpeed(TypedDict):
    """Reading known text at batch 1."""

    length: int
    characters_per_second: float  # median of the rounds
    values: list[float]  # of each round


class Beside(TypedDict):
    """p2's float32 (entry `key`) in the turns of another contender, right before or after it.

    Characters per second of each round, of one text and of the same prompt as ever; empty where that
    was not measured.
    """

    key: str
    written: list[float]
    read: list[float]


class Quality(TypedDict):
    """Predictions on text that the model was not trained on."""

    characters: int
    bits_per_character: float
    difference: float  # bits per character above the float32 reference
    kl: float  # mean KL(float32 reference || this), nats per character
    limit: float | None  # the difference allowed for this precision; null for float32
    passes: bool


class Text(TypedDict):
    """What was written with the common noise."""

    characters: int
    identical: bool | None  # to the reference's; null for a precision that rounds weights
    sha256: str


class Entry(TypedDict):
    """One contender with one model."""

    key: str
    title: str
    precision: str
    group: str  # "p2", "peer", or "variant": another way of p2's own
    device: str  # "cpu" or "cuda"
    skipped: str | None  # why nothing was measured
    threads: int | None
    load_s: float | None
    first_character_s: float | None  # from the start of a new process
    peak_memory_bytes: int | None
    bytes_per_step: int | None
    characters_per_second: Spread | None  # one text
    latency: Latency | None
    batches: list[BatchPoint]
    prompt: PromptSpeed | None
    beside: Beside | None  # float32 peers only
    bandwidth_share: float | None  # bytes_per_step * characters/s / bandwidth, median of the rounds
    matmul_share: float | None  # best over the batches, of the float32 matrix product's rate
    quality: Quality | None
    text: Text | None


class Rates(TypedDict):
    """What the machine did in the same run."""

    bandwidth_bytes_per_second: float  # reading memory larger than every cache, median of all turns
    matmul_flops_per_second: float  # float32 matrix product, best of the libraries measured


class Target(TypedDict):
    """A promise, and whether it was kept."""

    what: str
    goal: str
    measured: str
    reached: bool | None  # null: does not apply here, `note` says why
    note: str


class Measured(TypedDict):
    """One model with every contender."""

    name: str
    card: dict[str, Any]
    source: str  # the checkpoint, or how the weights were made
    weights: int  # numbers in the matrices that each character passes through
    rates: Rates
    entries: list[Entry]
    targets: list[Target]


class Document(TypedDict):
    """The whole report."""

    schema: str
    p2: str
    created: str  # ISO 8601, UTC
    quick: bool
    machine: dict[str, Any]
    settings: dict[str, Any]
    models: list[Measured]
    targets: list[Target]  # that concern the run as a whole: start-up, training
