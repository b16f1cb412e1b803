"""What the machine can do: the arithmetic with a clock made for it, the rest for real and small."""

from __future__ import annotations

import itertools
import json
import subprocess

import numpy as np
import pytest

from p2.reports import machine
from p2.reports.bench import rates
from p2.spec.errors import P2Error


@pytest.mark.parametrize("threads", [1, 3])
def test_bytes_over_the_median_of_the_rounds(threads):
    read = []
    # Two readings of the clock a round; the untimed round takes the first only.
    ticks = iter([0.0, 10.0, 11.0, 20.0, 24.0, 30.0, 32.0])
    buffers = [np.zeros(1000, np.float32) for _ in range(threads)]
    rate = rates.read_rate(
        buffers, lambda a: read.append(a.size), rounds=3, passes=5, clock=lambda: next(ticks)
    )
    assert rate == 5 * threads * 4000 / 2.0
    assert len(read) == 4 * 5 * threads
    assert next(ticks, None) is None


def test_bandwidth_is_read_with_one_thread_and_with_all():
    found = rates.bandwidth(2, size=1 << 16, rounds=1)
    threads = ("1 thread", "2 threads")
    assert set(found) == {f"bandwidth {how}, {n}" for how, n in itertools.product(("dot", "max"), threads)}
    assert min(found.values()) > 0
    assert set(rates.bandwidth(1, size=1 << 16, rounds=1)) == {
        "bandwidth dot, 1 thread",
        "bandwidth max, 1 thread",
    }


@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_operations_of_a_product(library):
    ticks = iter([0.0, 1.0, 10.0, 14.0, 20.0, 22.0])
    found = rates.matmul(library, 1, size=8, rounds=3, clock=lambda: next(ticks))
    assert found == {f"matmul {library}": 2 * 512 / 2.0}


def test_the_best_of_what_was_seen_counts():
    before = {"bandwidth dot, 1 thread": 5.0, "bandwidth max, 2 threads": 7.0, "matmul numpy": 100.0}
    after = {"bandwidth dot, 1 thread": 8.0, "matmul numpy": 90.0, "matmul torch": 120.0}
    assert rates.combine(before, after) == {
        "bandwidth_bytes_per_second": 8.0,
        "matmul_flops_per_second": 120.0,
    }


def test_each_kind_has_a_process_of_its_own(monkeypatch):
    asked = []

    def run(argv, *, env, **_):
        asked.append((argv[-2:], env["OPENBLAS_NUM_THREADS"]))
        return subprocess.CompletedProcess(argv, 0, json.dumps({f"matmul {argv[-2]}": 1.0}), "")

    monkeypatch.setattr(subprocess, "run", run)
    assert len(rates.measure(6)) == 3
    assert asked == [(["bandwidth", "6"], "1"), (["numpy", "6"], "6"), (["torch", "6"], "6")]


def test_a_process_prints_its_rates(capsys, monkeypatch):
    monkeypatch.setattr(rates, "bandwidth", lambda threads: {"bandwidth dot, 1 thread": float(threads)})
    rates.main("bandwidth", 3)
    assert json.loads(capsys.readouterr().out) == {"bandwidth dot, 1 thread": 3.0}


def test_a_failure_is_a_sentence(monkeypatch):
    def fails(argv, **_):
        return subprocess.CompletedProcess(argv, 1, "", "Traceback\nMemoryError: too much\n")

    monkeypatch.setattr(subprocess, "run", fails)
    with pytest.raises(P2Error, match=r"rates cannot be measured \(bandwidth\): MemoryError: too much"):
        rates.measure(1)

    def hangs(argv, **_):
        raise subprocess.TimeoutExpired(argv, 1)

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(P2Error, match="measuring bandwidth took longer than"):
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
