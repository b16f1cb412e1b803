"""The document that `p2 bench` writes: the schema of its JSON, as types.

Times are in the unit that the name says (``_s`` seconds, ``_us`` microseconds), rates per second,
sizes in bytes, shares and ratios as fractions. null stands for "not measured"; why is said in
``skipped`` or in a target's ``note``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from ..contract.schema import Count, Measure, Natural, Positive, Within

SCHEMA = "p2.bench/3"

Rounds = Annotated[list[Positive], Within(1)]


class Spread(TypedDict):
    """A figure measured several times, once in each round of the contenders' turns."""

    median: Positive
    p5: Positive
    p95: Positive
    values: Rounds  # in the order of the rounds


class Latency(TypedDict):
    """Time per character of one text, over pieces of `chunk` characters each written in one call."""

    p50_us: Positive
    p90_us: Positive
    p99_us: Positive
    chunk: Natural
    samples: Natural


class BatchPoint(TypedDict):
    """Writing `batch` texts side by side; characters of all texts count."""

    batch: Natural
    characters_per_second: Positive  # median of the rounds
    us_per_character: Positive
    values: Rounds  # characters per second of each round
    growth: Positive | None  # p2 only: time per character against the batch before, median of the rounds


class PromptSpeed(TypedDict):
    """Reading known text at batch 1."""

    length: Natural
    characters_per_second: Positive  # median of the rounds
    values: Rounds  # of each round


class Beside(TypedDict):
    """p2's float32 (entry `key`) in the turns of another contender, right before or after it.

    Characters per second of each round, of one text and of the same prompt as ever; empty where that
    was not measured.
    """

    key: str
    written: list[Positive]
    read: list[Positive]


class Quality(TypedDict):
    """Predictions on text that the model was not trained on."""

    characters: Natural
    bits_per_character: Measure
    difference: Measure  # bits per character above the float32 reference
    kl: Measure  # mean KL(float32 reference || this), nats per character
    limit: Measure | None  # the difference allowed for this precision; null for float32
    passes: bool


class Text(TypedDict):
    """What was written with the common noise."""

    characters: Count
    identical: bool | None  # to the reference's; null for a precision that rounds weights
    sha256: str


class Entry(TypedDict):
    """One contender with one model."""

    key: str
    title: str
    precision: str
    group: str  # "p2", "peer", or "variant": another way of p2's own, or a peer held back
    device: Literal["cpu", "cuda"]
    skipped: str | None  # why nothing was measured
    threads: Natural | None
    load_s: Measure | None
    first_character_s: Measure | None  # from the start of a new process
    peak_memory_bytes: Count | None
    bytes_per_step: Natural | None
    characters_per_second: Spread | None  # one text
    latency: Latency | None
    batches: list[BatchPoint]
    prompt: PromptSpeed | None
    beside: Beside | None  # float32 peers only
    bandwidth_share: Measure | None  # bytes_per_step * characters/s / bandwidth (on a GPU: its copy rate)
    matmul_share: Measure | None  # best over the batches, of the float32 matrix product's rate
    quality: Quality | None
    text: Text | None


class GpuRates(TypedDict):
    """What the GPU did in the same run."""

    copy_bytes_per_second: Positive  # copying its memory, read and written, median of all turns on it
    matmul_flops_per_second: Positive | None  # float32 matrix product by PyTorch


class Rates(TypedDict):
    """What the machine did in the same run."""

    bandwidth_bytes_per_second: Positive  # reading memory larger than every cache, median of all turns
    matmul_flops_per_second: Positive  # float32 matrix product, best of the libraries measured
    gpu: NotRequired[GpuRates]  # where something ran on one


class Target(TypedDict):
    """A promise, and whether it was kept."""

    what: str
    goal: str
    measured: str
    reached: bool | None  # null: does not apply here, `note` says why
    note: str


class Shape(TypedDict):
    """What is shown of a model's card."""

    cell: str
    layers: Natural
    embedding: Natural
    hidden: Natural


class Machine(TypedDict):
    """What is reckoned with of a machine."""

    caches: NotRequired[dict[str, Count | None] | None]


class Measured(TypedDict):
    """One model with every contender."""

    name: str
    card: dict[str, Any]  # of which `Shape` is shown
    source: str  # the checkpoint, or how the weights were made
    weights: Natural  # numbers in the matrices that each character passes through
    rates: Rates
    entries: list[Entry]
    targets: list[Target]


class Document(TypedDict):
    """The whole report."""

    schema: str
    p2: str
    created: str  # ISO 8601, UTC
    quick: bool
    machine: dict[str, Any]  # of which `Machine` is reckoned with
    settings: dict[str, Any]
    models: list[Measured]
    targets: list[Target]  # that concern the run as a whole: start-up, training
