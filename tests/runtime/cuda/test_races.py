"""Whoever reads memory comes after who wrote it, by a barrier: in the kernels, and what is said elsewhere."""

from __future__ import annotations

import functools
import re
from types import SimpleNamespace

import numpy as np
import pytest

from p2.contract.noise import Address
from p2.contract.sampling import Sampling

from .emulator import Fault
from .test_kernels import CASES, decoder_of, label, step_of_case
from .test_shim import PIECES

BETWEEN = re.search(r"enum \{ (NOTHING.*?) \}", PIECES.read_text())[1].split(", ")
BOTH = (
    r"(reads byte 0x\w+ of global memory, which thread \d+ of block \d {0}|"
    r"{0} byte 0x\w+ of global memory, which thread \d+ of block \d reads), and nothing orders the two"
)
CONSTANT = (
    r"(reads as constant byte 0x\w+ of global memory, which is written|"
    r"writes byte 0x\w+ of global memory, which is read as constant) in the same launch"
)
RACES = {
    "NOTHING": BOTH.format("writes"),
    "SHUFFLE": BOTH.format("writes"),
    "SUM_TOO_SOON": BOTH.format("uses atomically"),
    "CONSTANT": CONSTANT,
    "CONSTANT_BEFORE": CONSTANT,
}


def passing(name, kernels_of, memory, blocks=2, seed=0):
    pieces = kernels_of(PIECES, races=True, THREADS=64, CLUSTER=0)
    places, out = memory.empty(blocks * 64, np.int32), memory.empty(blocks * 64, np.int32)
    total, counter = memory.zeros(1, np.int64), memory.zeros(1, np.uint32)
    pieces.launch("passing", blocks, 64, 0, BETWEEN.index(name), places, total, counter, out, seed=seed)
    return out


@pytest.mark.parametrize("name", BETWEEN)
def test_what_orders_and_what_does_not(name, kernels_of, memory):
    for seed in range(3):
        blocks = 1 if name.startswith("SUM") else 2
        if name in RACES:
            with pytest.raises(
                Fault, match=f"^passing: race: block .: thread .*{RACES[name]}; (pieces.cu|platform.cuh|code)"
            ):
                passing(name, kernels_of, memory, blocks, seed)
        else:
            found, me = passing(name, kernels_of, memory, blocks, seed), np.arange(blocks * 64)
            wanted = {"SUM": 64, "GRID": (me + 64) % 128}.get(name, me ^ 1)
            assert np.array_equal(found, np.broadcast_to(wanted, found.shape))


def test_a_block_of_an_ordinary_launch_is_after_no_other(kernels_of, memory):
    pieces = kernels_of(PIECES, races=True, THREADS=64, CLUSTER=0)
    at, order = memory.zeros(1, np.int32), memory.zeros(8, np.int32)
    pieces.launch("counting", 1, 32, 0, at, order)
    with pytest.raises(Fault, match=r"race: block \d: thread 0 .* global memory, which thread 0 of block"):
        pieces.launch("counting", 2, 32, 0, at, order)


def test_shared_memory_is_each_blocks_own(kernels_of, memory):
    out = memory.empty((5, 32), np.int32)
    kernels_of(PIECES, races=True, THREADS=64, CLUSTER=0).launch("apart", 5, 32, 128, out)
    assert np.array_equal(out, np.repeat(np.arange(5), 32).reshape(5, 32))


def test_a_grid_that_cannot_meet_has_none(kernels_of, memory):
    """Where a block is missing, one after the other is told that it is over."""
    case = next(
        case for case in CASES if is_small(case) and not case.cluster and case.hidden > 2 * case.units
    )
    decoder = decoder_of(case, step_of_case(case), functools.partial(kernels_of, races=True), memory)
    launch = decoder.kernels.launch
    decoder.kernels = SimpleNamespace(
        launch=lambda name, blocks, *rest, **named: launch(name, blocks - 1, *rest, **named)
    )
    with pytest.raises(AssertionError) as found:
        write_and_read(decoder, case, 2, Sampling())
    assert not isinstance(found.value, Fault)


def test_barriers_of_clusters_order(kernels_of, memory):
    pieces = kernels_of(PIECES, races=True, THREADS=64, CLUSTER=2)
    values = memory.zeros((4, 64), np.int32)
    pieces.launch("clusters", 4, 64, 0, 10, values, seed=1)
    assert (values == 10).all()


def is_small(case):
    return case.hidden < 300 and case.vocab * case.streams < 4000


@pytest.mark.parametrize("case", [*filter(is_small, CASES)], ids=label)
def test_the_kernels_have_none(case, kernels_of, memory):
    """`make trust` tries the larger ones."""
    decoder = decoder_of(case, step_of_case(case), functools.partial(kernels_of, races=True), memory)
    write_and_read(decoder, case, 3, Sampling(0.8, top_p=0.9))


def write_and_read(decoder, case, count, sampling):
    """So many characters, and those again as a prompt with all logits."""
    last = np.arange(case.batch) % case.vocab
    address = Address(5, [3 * i + 1 for i in range(case.batch)], 100)
    text = decoder.write(decoder.zero_state(case.batch), last, address, count, sampling)
    decoder.read(decoder.zero_state(case.batch), text, logits=True)
