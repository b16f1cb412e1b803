"""What the machine can do: the arithmetic with a clock made for it, the rest for real and small."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
import threading

import numpy as np
import pytest

from p2.bench import rates
from p2.contract.errors import P2Error
from p2.render import machine


def test_bytes_over_the_median_of_the_rounds():
    read = []
    # Two readings of the clock a round; the first round does not count.
    ticks = iter([0.0, 9.0, 10.0, 11.0, 20.0, 24.0, 30.0, 32.0])
    rate = rates.read_rate(
        [np.zeros(1000, np.float32)], lambda a: read.append(a.size), rounds=3, clock=lambda: next(ticks)
    )
    assert rate == 4000 / 2.0
    assert len(read) == 4
    assert next(ticks, None) is None


def test_a_round_lasts_from_the_first_start_to_the_last_end():
    """Three threads, each with a clock of its own: 0, 1 or 2 seconds late, and as many seconds slower."""
    own = threading.local()
    numbers = itertools.count()

    def clock():
        if not hasattr(own, "times"):
            late = next(numbers)
            own.times = iter([10.0 + late, 14.0 + 2 * late] * 3)
        return next(own.times)

    buffers = [np.zeros(1000, np.float32) for _ in range(3)]
    assert rates.read_rate(buffers, lambda _: None, rounds=2, clock=clock) == 3 * 4000 / 8.0


def test_the_memory_is_read_with_one_thread_and_with_all():
    ways = rates.readers(2, size=1 << 16)
    assert set(ways) == {
        f"{how}, {n}" for how, n in itertools.product(("dot", "max"), ("1 thread", "2 threads"))
    }
    assert all(way() > 0 for way in ways.values())
    assert set(rates.readers(1, size=1 << 16)) == {"dot, 1 thread", "max, 1 thread"}


def test_the_memory_is_read_for_every_line():
    replies = io.StringIO()
    rates.answer(2, ["read\n"] * 3, replies, size=1 << 16)
    assert len(replies.getvalue().split()) == 3
    assert all(float(rate) > 0 for rate in replies.getvalue().split())


def test_a_process_reads_the_memory():
    with rates.Bandwidth(1) as memory:
        assert memory.read() > 0
        assert memory.read() > 0
    with pytest.raises(P2Error, match=r"reads the memory ended before its time \(it was ended\)"):
        memory.read()


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_operations_of_a_product(library):
    ticks = iter([0.0, 1.0, 10.0, 14.0, 20.0, 22.0])
    found = rates.matmul(library, 1, size=8, rounds=3, clock=lambda: next(ticks))
    assert found == {f"matmul {library}": 2 * 512 / 2.0}


def test_the_median_of_the_memory_and_the_best_product_count():
    before, after = {"matmul numpy": 100.0}, {"matmul numpy": 90.0, "matmul torch": 120.0}
    assert rates.combine([5.0, 9.0, 7.0], before, after) == {
        "bandwidth_bytes_per_second": 7.0,
        "matmul_flops_per_second": 120.0,
    }


def test_each_kind_has_a_process_of_its_own(monkeypatch):
    asked = []

    def run(argv, *, env, **_):
        asked.append((argv[-2:], env["OPENBLAS_NUM_THREADS"]))
        return subprocess.CompletedProcess(argv, 0, json.dumps({f"matmul {argv[-2]}": 1.0}), "")

    monkeypatch.setattr(subprocess, "run", run)
    assert rates.measure(6) == {"matmul numpy": 1.0, "matmul torch": 1.0}
    assert asked == [(["numpy", "6"], "6"), (["torch", "6"], "6")]


def test_a_process_prints_its_rates(capsys, monkeypatch):
    monkeypatch.setattr(rates, "matmul", lambda kind, threads: {f"matmul {kind}": float(threads)})
    rates.main("numpy", 3)
    assert json.loads(capsys.readouterr().out) == {"matmul numpy": 3.0}


def test_a_failure_is_a_sentence(monkeypatch):
    def fails(argv, **_):
        return subprocess.CompletedProcess(argv, 1, "", "Traceback\nMemoryError: too much\n")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(P2Error, match=r"rates cannot be measured \(numpy\): MemoryError: too much"):
        rates.measure(1)

    def hangs(argv, **_):
        raise subprocess.TimeoutExpired(argv, 1)

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(P2Error, match="measuring numpy took longer than"):
        rates.measure(1)


def test_caches_are_read_from_the_system(tmp_path):
    for at, (level, kind, size) in enumerate(
        [
            ("1", "Data", "32K"),
            ("1", "Instruction", "64K"),
            ("2", "Unified", "1024K"),
            ("3", "Unified", "32M"),
        ]
    ):
        (tmp_path / f"index{at}").mkdir()
        for name, value in (("level", level), ("type", kind), ("size", size)):
            (tmp_path / f"index{at}" / name).write_text(value + "\n")
    (tmp_path / "index9").mkdir()
    assert machine.caches(tmp_path) == {"L1d": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
    assert machine.caches(tmp_path / "nowhere") == {}


def test_the_machine_can_be_written_as_json():
    found = json.loads(json.dumps(machine.machine()))
    assert found["processors"] >= 1
    assert found["packages"]["numpy"] == np.__version__
