"""The shim that runs CUDA kernels here: it gives them what PTX's manual says, and names their faults."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from p2.runtime.cuda.compiler import SOURCES

from .emulator import SHIM, Fault
from .memory import Memory

PIECES = Path(__file__).parent / "sources" / "pieces.cu"
WORDS = np.random.default_rng(0).integers(0, 1 << 32, 1 << 17, dtype=np.uint32)


@pytest.fixture
def pieces(kernels_of):
    return kernels_of(PIECES, THREADS=128, CLUSTER=0)


def same_bits(found, wanted):
    """Equal to the last bit, but for NaN of any kind."""
    return np.array_equal(found, wanted, equal_nan=True) and np.array_equal(
        np.signbit(found), np.signbit(wanted)
    )


def test_shuffles(pieces, memory):
    given, source = WORDS[:64], np.random.default_rng(1).integers(-64, 64, 64).astype(np.int32)
    lanes = np.arange(64)
    words, numbers = memory.empty(64, np.uint32), memory.empty(64, np.int32)
    floats, large = memory.empty(64, np.float32), memory.empty(64, np.int64)
    pieces.launch(
        "shuffles",
        1,
        64,
        0,
        memory.copy(given),
        memory.copy(source),
        5,
        words,
        numbers,
        floats,
        large,
        seed=3,
    )
    told = given[lanes // 32 * 32 + source % 32]
    other = given[lanes ^ 5]
    assert np.array_equal(words, told)
    assert np.array_equal(numbers, -other.astype(np.int32))
    assert np.array_equal(floats, other.astype(np.float32) / 2)
    assert np.array_equal(large, (told.astype(np.uint64) << 40).view(np.int64))


def test_threads_of_a_block_meet(pieces, memory):
    out = memory.empty((3, 128), np.int32)
    wanted = np.arange(3)[:, None] * 1000 + (np.arange(128) + 37) % 128
    for seed in range(5):
        pieces.launch("neighbours", 3, 128, 512, 1, out, seed=seed)
        assert np.array_equal(out, wanted)


def test_a_race_changes_with_the_seed(pieces, memory):
    """And what was not written yet is no number."""
    out, found = memory.empty((3, 128), np.int32), set()
    for seed in range(5):
        pieces.launch("neighbours", 3, 128, 512, 0, out, seed=seed)
        found.add(out.tobytes())
        assert np.isnan(out.view(np.float32)).any()
    assert len(found) == 5


def test_one_seed_is_one_order(pieces, memory):
    out, found = memory.empty((3, 128), np.int32), set()
    for _ in range(2):
        pieces.launch("neighbours", 3, 128, 512, 0, out, seed=11)
        found.add(out.tobytes())
    assert len(found) == 1


def fragments(kind, left, right, sums):
    """Who has what, in the words of PTX's manual: the words of each lane."""
    bytes_of = kind == "bytes"
    a = np.zeros((32, 16 if bytes_of else 8), left.dtype)
    b = np.zeros((32, 8 if bytes_of else 4), right.dtype)
    c = np.zeros((32, 4), sums.dtype)
    for lane in range(32):
        group, member = lane >> 2, lane % 4
        for i in range(a.shape[1]):
            if bytes_of:
                row = group if 0 <= i < 4 or 8 <= i < 12 else group + 8
                column = member * 4 + (i & 3) if i < 8 else member * 4 + (i & 3) + 16
            else:
                row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
                column = member * 2 + (i & 1) if i < 4 else member * 2 + (i & 1) + 8
            a[lane, i] = left[row, column]
        for i in range(b.shape[1]):
            if bytes_of:
                row = member * 4 + (i & 3) if i < 4 else member * 4 + (i & 3) + 16
            else:
                row = member * 2 + (i & 1) if i < 2 else member * 2 + (i & 1) + 8
            b[lane, i] = right[row, group]
        for i in range(4):
            c[lane, i] = sums[group if i < 2 else group + 8, member * 2 + (i & 1)]
    return a, b, c


@pytest.mark.parametrize("kind", ["half", "brain", "bytes"])
def test_products_of_matrices(kind, pieces, memory):
    rng = np.random.default_rng(2)
    if kind == "bytes":
        left = rng.integers(-128, 128, (16, 32)).astype(np.int8)
        right = rng.integers(-128, 128, (32, 8)).astype(np.int8)
        sums = rng.integers(-1000, 1000, (16, 8)).astype(np.int32)
        wanted = left.astype(np.int64) @ right + sums
        stored = left, right
    else:
        shapes = (16, 16), (16, 8), (16, 8)
        # Small multiples of 1/8: every sum is exact, in any order.
        left, right, sums = (rng.integers(-15, 16, shape).astype(np.float32) / 8 for shape in shapes)
        wanted = left.astype(np.float64) @ right + sums
        stored = [
            array.astype(np.float16) if kind == "half" else (array.view(np.uint32) >> 16).astype(np.uint16)
            for array in (left, right)
        ]
    a, b, c = fragments(kind, *stored, sums)
    found = memory.copy(c)
    number = ["half", "brain", "bytes"].index(kind)
    pieces.launch("products", 1, 32, 0, memory.copy(a), memory.copy(b), found, number)
    expected = fragments(kind, *stored, wanted.astype(sums.dtype))[2]
    assert np.array_equal(found, expected)


def test_a_product_adds_in_float32_from_the_first_number_on(pieces, memory):
    left, right = np.zeros((16, 16), np.float16), np.ones((16, 8), np.float16)
    left[0] = [1024, *[2.0**-14] * 15]
    left[1] = [*[2.0**-14] * 15, 1024]
    sums = np.full((16, 8), 2.0**23, np.float32)
    a, b, c = fragments("half", left, right, sums)
    pieces.launch("products", 1, 32, 0, memory.copy(a), memory.copy(b), made := memory.copy(c), 0)
    assert made[0, 0] == 2.0**23 + 1024
    assert made[4, 0] == 2.0**23 + 1024


def test_16_bits_and_back(pieces, memory):
    """As numpy and PyTorch round; all 65,536 of both kinds, and random floats."""
    all_halves = np.arange(1 << 16, dtype=np.uint32)
    ends = np.array([65519.996, 65520, 2**-24, 2**-25, 2**-25 * 1.0000001, 6.1e-5, np.inf], np.float32)
    near = (np.float32(1) + np.arange(4096, dtype=np.float32) * 2.0**-12).view(np.uint32)  # ties among them
    given = np.concatenate([all_halves, WORDS, near, ends.view(np.uint32), (-ends).view(np.uint32)])
    small = (np.arange(1 << 12) * 2.0**-26).astype(np.float32)
    given = memory.copy(np.concatenate([given, small.view(np.uint32)]))
    halves, brains = memory.empty(given.size, np.uint16), memory.empty(given.size, np.uint16)
    half, brain = memory.empty(given.size, np.float32), memory.empty(given.size, np.float32)
    pieces.launch("conversions", 2, 64, 0, given, given.size, halves, brains, half, brain)
    floats = given.view(np.float32)
    numbers = ~np.isnan(floats)
    with np.errstate(over="ignore"):
        assert np.array_equal(halves[numbers], floats.astype(np.float16).view(np.uint16)[numbers])
    assert np.array_equal(np.isnan(halves.view(np.float16)), ~numbers)
    rounded_brains = (
        torch.from_numpy(floats.copy()).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    )
    assert np.array_equal(brains[numbers], rounded_brains[numbers])
    lower = (given & 0xFFFF).astype(np.uint16)
    assert same_bits(half, lower.view(np.float16).astype(np.float32))
    assert same_bits(brain, (lower.astype(np.uint32) << 16).view(np.float32))


def test_arithmetic(pieces, memory):
    rng = np.random.default_rng(5)
    x = (rng.standard_normal(500) * 10.0 ** rng.integers(-3, 12, 500)).astype(np.float32)
    x[:12] = [0.5, 1.5, 2.5, -0.5, -1.5, 2**31, -(2**31), 3e9, -3e9, 1e19, -1e19, 0.49999997]
    x[12] = np.float32(3.7)
    out, logs = memory.empty((500, 7), np.float32), memory.empty(500, np.float64)
    fixed, nearest = memory.empty(500, np.int64), memory.empty(500, np.int32)
    pieces.launch("arithmetic", 1, 64, 0, memory.copy(x), 500, out, logs, fixed, nearest)
    a, b, c = x, np.roll(x, -1), np.roll(x, -2)
    with np.errstate(all="ignore"):
        wanted = [a + b, a - b, a * b, a / b, None, a * b + c]
        for column, values in enumerate(wanted):
            if values is not None:
                assert np.array_equal(out[:, column], values), column
        # float64 holds the product, and its sum to 53 bits: rounded twice it is off by one at most, rarely.
        exact = a.astype(np.float64) * b + c
        assert np.mean(out[:, 4] == exact.astype(np.float32)) > 0.99
        assert np.mean(out[:, 4] == out[:, 5]) < 0.99
        assert np.allclose(out[:, 6], np.exp(x.astype(np.float64)).astype(np.float32), rtol=2e-7)
    assert np.allclose(logs, np.log(a.astype(np.float64) ** 2), rtol=1e-15)
    large = np.clip(np.rint(x.astype(object).astype(np.float64)), -(2.0**63), 2.0**63)
    assert fixed.tolist() == [min(max(int(v), -(1 << 63)), (1 << 63) - 1) for v in large]
    assert nearest.tolist() == [min(max(int(v), -(1 << 31)), (1 << 31) - 1) for v in np.rint(x)]


def test_integers(pieces, memory):
    x = np.random.default_rng(6).integers(0, 1 << 64, 129, dtype=np.uint64)
    high, dots, total = memory.empty(128, np.uint64), memory.empty(128, np.int32), memory.zeros(1, np.int64)
    pieces.launch("integers", 1, 128, 0, memory.copy(x), high, dots, total)
    assert high.tolist() == [int(a) * int(b) >> 64 for a, b in itertools.pairwise(x)]
    signed = x.view(np.int8).reshape(-1, 8)[:, :4].astype(np.int64)
    assert np.array_equal(
        dots, (signed[:-1] * signed[1:]).sum(1) + (x[:-1] >> np.uint64(40)).astype(np.int64)
    )
    assert int(total[0]) % (1 << 64) == sum(map(int, x[:-1])) % (1 << 64)


def test_loads(pieces, memory):
    at, out = memory.copy(np.arange(8, dtype=np.uint32) + 10), memory.empty(10, np.uint32)
    pieces.launch("loads", 1, 32, 0, at, out)
    assert out.tolist() == [10, 13, 15, 12, 13, 12, 13, 10, 15, 17]


def meet(pieces, memory, absent, patience, blocks=3, rounds=4, seed=0):
    counter, failed = memory.zeros(1, np.uint32), memory.empty(blocks, np.int32)
    order = memory.zeros((rounds + 1, blocks, 64), np.int32)
    pieces.launch("meeting", blocks, 64, 4, counter, rounds, absent, patience, failed, order, seed=seed)
    return failed.tolist()


def test_blocks_meet(pieces, memory):
    for seed in range(5):
        assert meet(pieces, memory, -1, 10**9, seed=seed) == [0, 0, 0]


@pytest.mark.parametrize("patience", [10**6, 2 * 10**9, 10**11])
def test_a_wait_that_has_a_limit_comes_to_its_end(patience, pieces, memory):
    assert meet(pieces, memory, 1, patience) == [1, 0, 1]


def test_clusters_meet(kernels_of, memory):
    pieces = kernels_of(PIECES, THREADS=64, CLUSTER=2)
    values = memory.zeros((4, 64), np.int32)
    pieces.launch("clusters", 4, 64, 0, 10, values, seed=1)
    assert (values == 10).all()
    with pytest.raises(Fault, match="3 blocks of 64 threads cannot be launched"):
        pieces.launch("clusters", 3, 64, 0, 10, values)


def test_an_ordinary_launch_has_any_number_of_blocks(pieces, memory):
    at, order = memory.zeros(1, np.int32), memory.zeros(3000, np.int32)
    pieces.launch("counting", 3000, 32, 0, at, order, seed=4)
    assert sorted(order) == list(range(3000))
    assert order.tolist() != list(range(3000))


WRONG = re.search(r"enum \{ (LEAVES_SYNC.*?) \}", PIECES.read_text(), re.DOTALL)[1]
FAULTS = {
    "LEAVES_SYNC": "thread 5 leaves the kernel, and others wait at sync|sync, and 1 of the others have left",
    "LEAVES_WARP": "thread 5 leaves the kernel, and other lanes .* at shuffle|lane 5 of its warp has left",
    "PARTS": "deadlock: [0-9]+ threads of block 0 wait at sync, and others",
    "WARPS_PART": "is at (shuffle|warp_sync), and other lanes of its warp wait at",
    "WRITES_BEHIND": r"thread 63 touched byte 45 of the 30 bytes of shared memory of block 0",
    "WRITES_JUST_BEHIND": "block 0 wrote at byte 30 of its 30 bytes of shared memory",
    "WRITES_BEFORE": "block 0 wrote at byte -1 of its 30 bytes of shared memory",
    "READS_BEHIND": "thread 63 touched byte 130 of the 30 bytes of shared memory of block 0",
    "READS_NULL": "thread 63 touched 0x78, where nothing is",
    "MISALIGNED": r"pieces\.cu:\d+: block 0: thread 63 uses the address 0x[0-9a-f]+2, which is no multiple",
    "MISALIGNED_LOAD": "16 bytes are read at 0x[0-9a-f]+8, which is no multiple",
    "INDEX": r"pieces\.cu:\d+: block 0: thread \d+ uses index 30 of an array",
    "SHIFT": r"pieces\.cu:\d+: block 0: thread \d+ shifts by 32",
    "ZERO": r"block 0: thread \d+ divides by zero",
    "DEEP": r"block 0: the stack of thread \d+ is full",
    "SPINS": "deadlock: block 0, thread [0-9]+ and all others look at counters that nobody changes",
    "NO_CLUSTER": "at cluster_arrive without a cluster",
    "GLOBAL_BEHIND": "thread 63 touched 0x[0-9a-f]+, where nothing is",
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(name, pieces, memory):
    what = [word.strip() for word in WRONG.split(",")].index(name)
    out, counter = memory.zeros(64, np.int32), memory.zeros(1, np.uint32)
    size = {"GLOBAL_BEHIND": 64, "SHIFT": 32}.get(name, 30)
    with pytest.raises(Fault, match=FAULTS[name]):
        pieces.launch("wrong", 1, 64, 30, what, out, size, counter)
    # And the next launch is as good as any.
    assert meet(pieces, memory, -1, 10**9) == [0, 0, 0]


@pytest.mark.parametrize(("offset", "side"), [(-4, "before"), (12, "behind")])
def test_what_is_written_beside_device_memory_is_found(offset, side, pieces):
    memory = Memory()
    at, short = memory.zeros(1, np.int32), memory.empty(3, np.int32)
    memory.check()
    pieces.launch("counting", 1, 32, 0, at, short.ctypes.data + offset)
    with pytest.raises(AssertionError, match=f"wrote {side} the 12 bytes"):
        memory.check()


@pytest.mark.parametrize(("threads", "blocks"), [(33, 1), (160, 1), (0, 1), (32, 0)])
def test_a_launch_that_a_gpu_refuses(threads, blocks, pieces, memory):
    with pytest.raises(Fault, match="cannot be launched"):
        pieces.launch("neighbours", blocks, threads, 512, 1, memory.empty(512, np.int32))


def test_it_has_the_names_of_the_kernels_own_platform():
    """A name that only one of both has would compile here and not for a GPU, or there and not here."""

    def names(path):
        code = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
        functions = re.findall(r"^DEVICE \w+ \*?(\w+)\(|> DEVICE T (\w+)\(", code, re.MULTILINE)
        macros = re.findall(r"#define (\w+)", code)
        return {"".join(name) for name in functions} | {name for name in macros if not name.startswith("P2_")}

    shim = names(SHIM / "platform.cuh") | names(SHIM / "numbers.h")
    assert {name for name in shim if not name.startswith("p2_")} == names(SOURCES / "platform.cuh")
