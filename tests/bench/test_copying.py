"""What a GPU's memory does: the arithmetic with a clock made for it, the calls on a driver that pretends."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

from p2.bench import copying
from p2.contract.errors import P2Error
from p2.runtime import nvidia


def test_a_rate_is_the_median_of_the_rounds_after_the_first():
    # Two readings of the clock a round.
    ticks = iter([0.0, 9.0, 10.0, 11.0, 20.0, 24.0, 30.0, 32.0])
    done = []
    found = copying.rate(
        lambda: done.append("act"), lambda: done.append("wait"), 100, 3, clock=lambda: next(ticks)
    )
    assert found == copying.REPEATS * 100 / 2.0
    assert done == (["wait"] + ["act"] * copying.REPEATS + ["wait"]) * 4


class Driver:
    """The driver's library with a GPU of 100 bytes, 80 of them free."""

    def __init__(self, fails=""):
        self.fails, self.copies, self.live, self.retained = fails, [], {}, 0

    def __getattr__(self, name):
        def call(*arguments):
            if name == self.fails:
                return 2
            known = getattr(type(self), f"_{name}", None)
            return (known and known(self, *arguments)) or 0

        return call

    def _cuDevicePrimaryCtxRetain(self, context, device):
        self.retained += 1

    def _cuDevicePrimaryCtxRelease_v2(self, device):
        self.retained -= 1

    def _cuMemGetInfo_v2(self, free, total):
        free._obj.value, total._obj.value = 80, 100

    def _cuMemAlloc_v2(self, address, size):
        address._obj.value = 1 + len(self.live)
        self.live[address._obj.value] = size.value

    def _cuMemFree_v2(self, address):
        del self.live[address.value]

    def _cuMemcpyDtoDAsync_v2(self, target, source, size, stream):
        self.copies.append((source.value, target.value, size.value, self.live[target.value]))


def test_a_gpu_copies_within_its_memory_and_gives_it_back(monkeypatch):
    driver = Driver()
    monkeypatch.setattr(nvidia, "driver_library", lambda: driver)
    counted = []
    monkeypatch.setattr(
        copying, "rate", lambda act, wait, amount: counted.append(amount) or act() or wait() or 7.0
    )
    assert copying.copy("cuda", 1000) == 7.0
    assert counted == [40]  # a quarter of what is free, read and written
    assert driver.copies == [(1, 2, 20, 20)]
    assert (driver.live, driver.retained) == ({}, 0)


@pytest.mark.parametrize("fails", ["cuInit", "cuMemAlloc_v2", "cuMemcpyDtoDAsync_v2", "cuCtxSynchronize"])
def test_a_call_that_fails_is_a_sentence_and_nothing_is_kept(fails, monkeypatch):
    driver = Driver(fails)
    monkeypatch.setattr(nvidia, "driver_library", lambda: driver)
    with pytest.raises(P2Error, match=f"memory cannot be copied: {fails} answers with error 2"):
        copying.copy("cuda", 1000)
    assert (driver.live, driver.retained) == ({}, 0)


def test_the_processor_copies_and_multiplies():
    assert copying.copy("cpu", 1 << 12) > 0
    assert copying.product("cpu", 8) > 0


def test_every_line_is_answered(monkeypatch):
    monkeypatch.setattr(copying, "copy", lambda device: {"cuda": 5.0}[device])
    monkeypatch.setattr(copying, "product", lambda device: 0.0)
    replies = io.StringIO()
    copying.answer("cuda", ["copy\n", "product\n", "copy\n"], replies)
    assert replies.getvalue().split() == ["5.0", "0.0", "5.0"]


@pytest.mark.skipif(bool(nvidia.gpus().devices), reason="there is a GPU")
def test_without_a_gpu_the_process_says_why():
    with (
        copying.Copying("cuda") as gpu,
        pytest.raises(P2Error, match=r"exit code 1: the GPU's memory cannot be"),
    ):
        gpu.read()


def test_what_was_seen_of_a_gpu():
    def gone():
        raise P2Error("its process ended")

    for product, expected in ((lambda: 9.0, 9.0), (lambda: None, None), (gone, None)):
        found = copying.observed([1.0, 5.0, 2.0], SimpleNamespace(product=product))
        assert found == {"copy_bytes_per_second": 2.0, "matmul_flops_per_second": expected}
