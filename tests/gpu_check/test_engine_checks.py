"""The checks pass an engine that is right, and find each fault that they are for."""

from __future__ import annotations

import numpy as np
import pytest

from p2.gpu_check import engine_checks, soak
from p2.gpu_check.check import CheckFailed
from p2.gpu_check.copying import COPIES, copy_rate, measure
from p2.gpu_check.models import Files, card_of, make
from p2.runtime import nvidia
from p2.runtime.onnxruntime.engine import OnnxEngine, open_onnx
from p2.runtime.onnxruntime.gpu import OnnxGpuEngine
from p2.runtime.onnxruntime.providers import STAND_IN
from p2.runtime.step_file import open_step

HIDDEN = 24


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    files = Files(tmp_path_factory.mktemp("model"))
    found = make(files, card_of("lstm", "after", HIDDEN), ("float32", "int8"))
    assert set(found["bytes"]) == {"float32", "int8"}
    return files


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(engine_checks, "STEPS", 60)
    monkeypatch.setattr(engine_checks, "CHARACTERS", 60)


class Faulty(OnnxEngine):
    """An engine with one of the faults that engines on a GPU have had."""

    def __init__(self, files, fault):
        super().__init__(open_step(files.step("float32")), threads=1)
        self.fault, self.decoded, self.states = fault, 0, []

    def zero_state(self, batch):
        self.states.append(super().zero_state(batch))
        return self.states[-1]

    def restore(self, snapshot):
        if self.fault == "restores half":
            snapshot = snapshot | {"c_00": np.zeros_like(snapshot["c_00"])}
        return super().restore(snapshot)

    def decode(self, state, last, noise, sampling):
        self.decoded += 1
        if self.fault == "capturing runs a step" and self.decoded == 1:
            self.feed(state, last[:, None])
        if self.fault == "capturing changes others" and self.decoded == 1:
            self.feed(self.states[0], np.zeros((len(self.states[0]["h_00"]), 1), np.int64))
        if self.fault == "writes from an old state":
            state = {name: array * 0.9 for name, array in state.items()}
        if self.fault == "one buffer for all" and self.decoded > 1:
            state["h_00"] = state["h_00"] * 0
        return super().decode(state, last, noise, sampling)

    def feed(self, state, tokens, *, logits=False):
        found = super().feed(state, tokens, logits=logits)
        return found[::-1] if self.fault == "rows mixed up" and logits else found


@pytest.mark.parametrize("check", ["parity", "capture", "snapshot", "batches"])
@pytest.mark.parametrize("mode", ["graph", "steps"])
def test_right_engines_pass(check, mode, files, small):
    step = files.step("float32")
    opener = (
        (lambda: open_onnx(step, 1)) if mode == "graph" else lambda: OnnxGpuEngine(open_step(step), STAND_IN)
    )
    assert getattr(engine_checks, check)(opener, files.reference())


@pytest.mark.parametrize(
    ("check", "fault", "says"),
    [
        ("capture", "capturing runs a step", "first launch"),
        ("capture", "capturing changes others", "another state changes"),
        ("capture", "writes from an old state", "the state after writing is"),
        ("snapshot", "restores half", "out of tolerance"),
        ("batches", "rows mixed up", "a row of a batch is out of tolerance"),
        ("batches", "one buffer for all", "another one when other batches are written"),
        ("parity", "rows mixed up", "a row of a batch"),
    ],
)
def test_each_fault_is_found(check, fault, says, files, small):
    with pytest.raises(CheckFailed, match=says) as caught:
        getattr(engine_checks, check)(lambda: Faulty(files, fault), files.reference())
    assert caught.value.details


def test_a_soak_passes_and_tells_what_it_saw(files):
    found = soak.soak(lambda: open_onnx(files.step("int8"), 1), files.reference(), 2003)
    assert found["characters"] == found["samples"][-1]["characters"] == 2003
    assert len(found["samples"]) == soak.SAMPLES + 1
    assert found["same_end_again"]
    assert found["host_growth_bytes"] is not None


class Leaking(OnnxEngine):
    """Keeps a little of every call."""

    def decode(self, state, last, noise, sampling):
        self.kept = [*getattr(self, "kept", []), np.ones(8 << 17)]
        return super().decode(state, last, noise, sampling)


def test_a_soak_finds_a_leak(files):
    with pytest.raises(CheckFailed, match=r"host memory grew by [\d.]+ MiB \(limit 32\)") as caught:
        soak.soak(lambda: Leaking(open_step(files.step("float32")), 1), files.reference(), 1000)
    assert caught.value.details["host_growth_bytes"] > soak.HOST_GROWTH


def test_a_soak_watches_the_device(files, monkeypatch):
    sizes = iter(range(0, 1 << 40, 3 << 20))
    monkeypatch.setattr(soak, "device_memory", lambda: next(sizes))
    with pytest.raises(CheckFailed, match=r"device memory grew by 30\.0 MiB .*, of all programs on the GPU"):
        soak.soak(lambda: open_onnx(files.step("float32"), 1), files.reference(), 1000)


def test_another_program_on_the_gpu_is_no_leak(files, monkeypatch):
    others = iter(range(0, 1 << 40, 100 << 20))
    monkeypatch.setattr(nvidia, "memory", lambda: ((1 << 41) - next(others), 1 << 41))
    monkeypatch.setattr(nvidia, "process_memory", lambda: 512 << 20)
    found = soak.soak(lambda: open_onnx(files.step("float32"), 1), files.reference(), 1000)
    assert (found["device_growth_bytes"], found["device_bytes_of"]) == (0, "this process")


def test_growth_is_from_the_second_quarter_to_the_last():
    assert soak.grown([900, 900, 10, 12, 50, 60, 20, 22]) == 10
    assert soak.grown([1, 2, 3]) is None


def test_copy_rate_counts_every_byte_twice():
    times = iter(range(0, 1000, 2))
    calls = []
    found = copy_rate(lambda: calls.append(1), lambda: None, 100, rounds=3, clock=lambda: next(times))
    assert found == dict.fromkeys(("bytes_per_second", "slowest", "fastest"), COPIES * 2 * 100 / 2)
    assert len(calls) == 4 * COPIES


def test_the_processor_copies():
    assert measure("cpu", 1 << 16)["bytes_per_second"] > 0
