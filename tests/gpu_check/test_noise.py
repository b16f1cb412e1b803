"""The noise of a GPU beside numpy's, with a GPU that is numpy."""

from __future__ import annotations

import numpy as np
import pytest

from p2.contract.errors import BackendMissing
from p2.contract.noise import Address, words
from p2.gpu_check import check as outcomes
from p2.gpu_check import noise, worker
from p2.gpu_check.check import Check

CASES = ((Address(3, (0, 7), 1), 5, 11, 1.0), (Address(1, (2**64 - 1,), 2**64 - 4), 4, 3, 0.5))
NUMBERS = 5 * 2 * 11 + 4 * 3


class Device:
    def __init__(self):
        self.memory, self.closed = {}, False

    def allocate(self, nbytes):
        self.memory[len(self.memory)] = np.full(nbytes // 4, np.nan, np.float32)
        return len(self.memory) - 1

    def download(self, array, address):
        array[:] = self.memory[address].reshape(array.shape)

    def synchronize(self):
        pass

    def close(self):
        self.closed = True


class DeviceNoise:
    """The equation itself, word by word; `wrong` numbers of each fill are another's."""

    wrong = 0

    def __init__(self, device):
        self.device = device

    def source(self, address, temperature, vocab):
        def fill(out, start, steps, row):
            drawn = [words(address.seed, s, address.position + start, steps, vocab) for s in address.streams]
            uniform = (np.stack(drawn, axis=1).astype(np.float64) + 0.5) / 2**32
            made = -np.log(-np.log(uniform))
            numbers = (made.astype(np.float32) * np.float32(temperature)).reshape(-1)
            numbers[: self.wrong] = np.nextafter(numbers[: self.wrong], np.float32(9))
            assert row == numbers.size // steps
            self.device.memory[out][:] = numbers

        return fill


@pytest.fixture
def device(monkeypatch):
    made = Device()
    monkeypatch.setattr(noise, "CASES", CASES)
    monkeypatch.setattr(noise, "Device", lambda: made)
    monkeypatch.setattr(noise, "DeviceNoise", DeviceNoise)
    return made


def test_noise_that_is_numpys_passes(device, tmp_path):
    found = worker.run(Check("noise", 9.0), tmp_path)
    assert (found.outcome, found.details["numbers"], found.details["different"]) == ("passed", NUMBERS, 0)
    assert found.details["numbers_per_second"] > 0
    assert device.closed


def test_every_number_that_differs_is_counted(device, tmp_path, monkeypatch):
    monkeypatch.setattr(DeviceNoise, "wrong", 3)
    found = worker.run(Check("noise", 9.0), tmp_path)
    assert (found.outcome, found.reason) == ("failed", f"6 of {NUMBERS} numbers differ from numpy's")
    assert found.details["different"] == 6


def test_without_a_compiler_it_does_not_run(device, tmp_path, monkeypatch):
    def none(device):
        raise BackendMissing("compiling the decoder needs NVRTC")

    monkeypatch.setattr(noise, "DeviceNoise", none)
    assert worker.run(Check("noise", 9.0), tmp_path).outcome == outcomes.NOT_RUN
    assert device.closed


def test_ten_million_numbers_are_compared():
    assert sum(count * len(a.streams) * vocab for a, count, vocab, _ in noise.CASES) > 10_000_000
    assert all(a.position + count <= 2**64 for a, count, *_ in noise.CASES)
