"""How a model is shared among the blocks of a GPU, and what each keeps in its shared memory.

The kernels are compiled for one geometry: all of it reaches them as definitions. Blocks and units are the
same for any number of texts, so the packed weights are as well.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ...contract.card import Card
from ...contract.cells import APART, FORMS, STAGED
from ...contract.errors import BackendMissing
from ...contract.precisions import TABLE
from .job import job_type

# How the weights are multiplied: as the formats of contract.precisions, in their order (types.cuh).
KINDS = tuple(TABLE.values())
FLOAT32 = 0

# Numbers of a row in a tile, whose 16 rows are 16 bytes for each lane; bytes of a state that meets weights.
TILE_K = {kind: 256 // one.bits for kind, one in enumerate(KINDS) if kind != FLOAT32}
STATE_BYTES = {kind: 1 if one.integers else max(2, one.bits // 8) for kind, one in enumerate(KINDS)}
# Of a weight of the output layer: integers keep 8 bits, and other short formats with scales are widened.
OUTPUT_BYTES = {
    kind: 1 if one.integers else 4 if one.is_scaled else one.bits // 8 for kind, one in enumerate(KINDS)
}

STREAMS = (1, 2, 4, 8, 16, 32, 64)  # texts of a launch
FEW = 8  # up to so many, all states lie in shared memory
PARTS, PIECE = 8, 256  # of products_tensor.cuh and products_float.cuh

MAX_LAYERS = 16
OLDEST, SHORT_FROM, CLUSTERS_FROM = 75, 80, 90  # compute capabilities

# Logits that every block reads and chooses from: with more, each character's is chosen by one block.
FUSED_LOGITS, FUSED_BYTES = 2048, 32 << 10

# A grid of fewer blocks meets sooner; whether that pays is measured where a layer has no more units.
SMALL = 512
LEAST_ROWS = 16  # of a block


@dataclass(frozen=True)
class Limits:
    """What a GPU offers.

    Attributes:
        blocks: multiprocessors.
        shared_bytes: the most shared memory that a block may ask for.
        capability: compute capability, 90 for 9.0.
    """

    blocks: int
    shared_bytes: int
    capability: int


@dataclass(frozen=True)
class Matrix:
    """A matrix of a layer.

    Attributes:
        layer: its number.
        role: ``x``, ``h`` or ``candidate``.
        gates: rows of a unit.
    """

    layer: int
    role: str
    gates: int


@dataclass(frozen=True)
class Geometry:
    """A model on a GPU, for up to `streams` texts in a launch.

    Attributes:
        card: the model.
        kind: of its weights, a place in `KINDS`.
        block: rows of a matrix that share a scale, 0 for all of them.
        streams: one of `STREAMS`.
        grid: blocks.
        units: of a layer, that a block has.
        threads: of a block.
        cluster: blocks of a cluster, which is the whole grid then; 0 for a grid.
        limit: bytes of shared memory.
    """

    card: Card
    kind: int
    block: int
    streams: int
    grid: int
    units: int
    threads: int
    cluster: int
    limit: int

    @property
    def k_padded(self) -> int:
        """Numbers of a row, padded."""
        step = max(32, TILE_K.get(self.kind, 0))
        return -(-self.card.hidden // step) * step

    @property
    def many(self) -> bool:
        """Whether states come into shared memory piece by piece."""
        return self.streams > FEW

    @property
    def biases(self) -> int:
        """Of a unit."""
        return self.card.gates + (self.card.form.products == APART)

    @property
    def slots(self) -> int:
        """States that travel between blocks."""
        return self.card.layers * (2 if self.card.form.products == STAGED else 1)

    def matrices(self) -> Iterator[Matrix]:
        """All of them, in the order in which room is found for them."""
        products, gates = self.card.form.products, self.card.gates
        for layer in range(self.card.layers):
            yield Matrix(layer, "h", gates - 1 if products == STAGED else gates)
            if layer:
                yield Matrix(layer, "x", gates)
            if products == STAGED:
                yield Matrix(layer, "candidate", 1)

    def width(self, gates: int) -> int:
        """Rows that a block has of a matrix: with tiles, padded to whole ones."""
        rows = self.units * gates
        return rows if self.kind == FLOAT32 else -(-rows // 16) * 16

    @cached_property
    def _offsets(self) -> dict[str, int]:
        """Where each thing lies in shared memory, and where the weights begin."""
        card, streams, units = self.card, self.streams, self.units
        staged = card.form.products == STAGED
        gates_x, gates_h = card.gates, card.gates - staged
        blocks = card.hidden // self.block if self.block else 1
        own = card.layers * streams * units * 4
        sums = {
            name: blocks * streams * self.width(gates) * 4
            for name, gates in (("SX", gates_x), ("SH", gates_h))
        }
        parts = 0 if self.kind == FLOAT32 or self.many else PARTS * streams * self.width(gates_x) * 4
        values = streams if self.many else streams * (card.layers + staged)
        vocab = card.vocab if self.fused else 0
        sizes = {
            "JOB": ctypes.sizeof(job_type(card.layers)),
            "TOKENS": (streams + 1) * 4,
            "H": own,
            "C": own,
            "SX": card.layers * sums["SX"],
            "SH": card.layers * sums["SH"],
            "SC": blocks * streams * self.width(1) * 4 if staged else 0,
            "SCRATCH": max(parts, self.threads // 32 * 16),
            "X": values * self.x_stride,
            "TOLD": streams * units * 4 if self.fused else 0,
            "OUT": vocab * units * OUTPUT_BYTES[self.kind],
            "LOGITS": streams * vocab * 4,
            "NOISE": streams * vocab * 4,
        }
        offsets, at = {}, 0
        for name, size in sizes.items():
            offsets[f"AT_{name}"] = at
            at += -(-size // 16) * 16
        return offsets | {"SX_BYTES": sums["SX"], "SH_BYTES": sums["SH"], "weights": at}

    @property
    def fused(self) -> bool:
        """Whether each block adds what its units give to the logits, and all choose alike."""
        vocab, streams = self.card.vocab, self.streams
        weights = vocab * self.units * OUTPUT_BYTES[self.kind]
        return not self.many and vocab * streams <= FUSED_LOGITS and weights <= FUSED_BYTES

    @property
    def x_stride(self) -> int:
        """Bytes from one text to the next where states meet weights; lanes find theirs in different banks."""
        size = STATE_BYTES[self.kind]
        if self.kind == FLOAT32:
            return 4 * (PIECE if self.many else self.k_padded)
        length = self.k_padded
        if self.many:
            length = -(-length // TILE_K[self.kind] // PARTS) * TILE_K[self.kind]
        rest = 16 if size == 1 else 32
        return length * size + (rest - length * size) % 128

    @property
    def fits(self) -> bool:
        """Whether a block can have what it needs besides weights."""
        return self._offsets["weights"] <= self.limit

    @cached_property
    def _residents(self) -> dict[tuple[int, str], tuple[int, int]]:
        """By layer and role: how many rows or tiles of a block's share are kept, and where."""
        at, found = self._offsets["weights"], {}
        for matrix in self.matrices():
            width = self.width(matrix.gates)
            size = self.k_padded * 4 if self.kind == FLOAT32 else self.k_padded // TILE_K[self.kind] * 512
            all_ = width if self.kind == FLOAT32 else width // 16
            count = max(0, min(all_, (self.limit - at) // size))
            if self.kind == FLOAT32 and count < all_:
                count -= count % 4  # a warp's rows are all here or all there
            found[matrix.layer, matrix.role] = count, at
            at += count * size
        return found | {(-1, ""): (0, at)}

    def resident(self, layer: int, role: str) -> tuple[int, int]:
        """Rows (float32) or tiles of a block's share of a matrix that are kept, and their place in bytes."""
        return self._residents[layer, role]

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block."""
        return self._residents[-1, ""][1]

    @property
    def exchange_bytes(self) -> int:
        """Memory in which states travel."""
        return 2 * self.slots * self.streams * self.k_padded * STATE_BYTES[self.kind]

    @property
    def sums_bytes(self) -> int:
        """Memory in which logits are added."""
        return 3 * self.streams * self.card.vocab * 8 if self.fused else 0

    @property
    def made_bytes(self) -> int:
        """Memory for noise that blocks make for each other."""
        return 3 * self.streams * self.card.vocab * 4 if self.fused else 0

    @property
    def logits_bytes(self) -> int:
        """Memory for logits that one block chooses from."""
        return 0 if self.fused else self.streams * self.card.vocab * 4

    def defines(self) -> dict[str, int]:
        """What the kernels are compiled with."""
        card, offsets = self.card, self._offsets
        return {
            "CELL": FORMS.index(card.form),
            "LAYERS": card.layers,
            "HIDDEN": card.hidden,
            "VOCAB": card.vocab,
            "KP": self.k_padded,
            "KIND": self.kind,
            "STREAMS": self.streams,
            "GRID": self.grid,
            "UNITS": self.units,
            "THREADS": self.threads,
            "CLUSTER": self.cluster,
            "FUSED": int(self.fused),
            "AHEAD": 8,
            "JOB_BYTES": ctypes.sizeof(job_type(card.layers)),
            "AT_X_STRIDE": self.x_stride,
            **{name: offset for name, offset in offsets.items() if name != "weights"},
        }


def kind_of(card: Card, limits: Limits) -> int:
    """How a GPU multiplies the weights: an older one knows of short floats float16 alone."""
    kind = KINDS.index(card.format)
    widened = card.format.is_widened and limits.capability < SHORT_FROM
    return FLOAT32 if widened else kind


def choices(card: Card, limits: Limits, kind: int) -> list[tuple[int, int]]:
    """Units of a block and blocks of a cluster that may be best; the first is taken unmeasured."""
    step = 1 if kind == FLOAT32 else 16 if card.gates == 1 else 4
    least = -(-card.hidden // limits.blocks)
    if kind != FLOAT32 and card.form.products in (APART, STAGED) and least > 2 * step:
        step = 16  # 16 units of a GRU are three whole tiles
    least = -(-least // step) * step
    usual = max(least, -(-LEAST_ROWS // card.gates // step) * step)
    found = [(usual, 0)]
    if card.hidden <= SMALL:
        found += [(units, 0) for units in (least, 2 * usual) if units != usual and units < card.hidden]
        if limits.capability >= CLUSTERS_FROM:
            found += [(-(-card.hidden // blocks // step) * step, blocks) for blocks in (8, 16)]
    return found


def plan(
    card: Card, limits: Limits, streams: int, choice: tuple[int, int], kind: int, block: int = 0
) -> Geometry | None:
    """The geometry for a number of texts; None if a block has too little shared memory for them.

    Args:
        card: the model.
        limits: of the GPU.
        streams: one of `STREAMS`.
        choice: one of `choices`.
        kind: as `kind_of`.
        block: rows that share a scale, 0 for all of them.
    """
    units, cluster = choice
    grid = cluster or -(-card.hidden // units)
    threads = 256 if card.hidden <= 256 and streams <= FEW else 512
    found = Geometry(card, kind, block, streams, grid, units, threads, cluster, limits.shared_bytes)
    if (found.many and block) or not found.fits:
        return None
    return found


def largest(
    card: Card, limits: Limits, batch: int, choice: tuple[int, int], kind: int, block: int = 0
) -> Geometry:
    """The geometry that takes a batch in the fewest launches.

    Raises:
        BackendMissing: the GPU is too small for the model.
    """
    wanted = next((size for size in STREAMS if size >= batch), STREAMS[-1])
    for streams in reversed([size for size in STREAMS if size <= wanted]):
        found = plan(card, limits, streams, choice, kind, block)
        if found:
            return found
    raise BackendMissing(
        f"this GPU is too small for a model of hidden size {card.hidden}: a multiprocessor has"
        f" {limits.shared_bytes >> 10} KiB of shared memory"
    )
