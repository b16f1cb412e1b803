"""The checks pass an engine that is right, and find each fault that they are for."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest

from p2.gpu_check import check as words
from p2.gpu_check import engine_checks, soak, worker
from p2.gpu_check.check import Check, CheckFailed
from p2.runtime import nvidia
from p2.runtime.onnxruntime.engine import OnnxEngine, open_onnx
from p2.runtime.onnxruntime.gpu import OnnxGpuEngine
from p2.runtime.onnxruntime.providers import STAND_IN
from p2.runtime.step_file import open_step


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(engine_checks, "STEPS", 60)
    monkeypatch.setattr(engine_checks, "CHARACTERS", 60)
    monkeypatch.setattr(engine_checks, "RUNS", 3)


class Faulty(OnnxEngine):
    """An engine with one of the faults that engines on a GPU have had."""

    openings = itertools.count()

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
        if self.fault == "another text each time" and next(self.openings) > 1:
            noise = noise[..., ::-1]
        if self.fault == "one buffer for all" and self.decoded > 1:
            state["h_00"] = state["h_00"] * 0
        return super().decode(state, last, noise, sampling)

    def feed(self, state, tokens, *, logits=False):
        found = super().feed(state, tokens, logits=logits)
        return found[::-1] if self.fault == "rows mixed up" and logits else found


@pytest.mark.parametrize("check", ["parity", "capture", "snapshot", "batches", "determinism"])
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
        ("determinism", "another text each time", "3 runs wrote 2 texts"),
    ],
)
def test_each_fault_is_found(check, fault, says, files, small):
    with pytest.raises(CheckFailed, match=says) as caught:
        getattr(engine_checks, check)(lambda: Faulty(files, fault), files.reference())
    assert caught.value.details


@pytest.mark.parametrize(("precision", "compared"), [("int8", True), ("float32", None)])
def test_integers_write_the_text_of_the_processor(precision, compared, models, small):
    """The rehearsal's engine has exact integers as well."""
    check = Check("determinism", 60.0, "onnxruntime-cpu", "lstm", "after", precision, "graph", 24)
    found = worker.run(check, models)
    assert (found.outcome, found.details.get("same_on_processor")) == (words.PASSED, compared)


def test_integers_that_are_not_the_processors_are_found(files, small):
    opener = lambda: open_onnx(files.step("int8"), 1)  # noqa: E731
    with pytest.raises(
        CheckFailed, match="the processor writes another text with the same integers"
    ) as caught:
        engine_checks.determinism(opener, files.reference(), lambda: open_onnx(files.step("float32"), 1))
    assert caught.value.details["texts"] == 1


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


@pytest.mark.parametrize(
    ("programs", "others"),
    [({}, None), (None, None), ({os.getpid(): 1}, 0), ({os.getpid(): 1, 7: 2, 8: 0}, 2), ({7: 2, 8: 3}, 1)],
)
def test_a_soak_says_who_else_uses_the_gpu(programs, others, files, monkeypatch):
    monkeypatch.setattr(nvidia, "programs", lambda: programs)
    found = soak.soak(lambda: open_onnx(files.step("float32"), 1), files.reference(), 1000)
    assert found["other_programs"] == others
    grown = iter(range(0, 1 << 40, 3 << 20))
    monkeypatch.setattr(soak, "device_memory", lambda: next(grown))
    with pytest.raises(CheckFailed) as caught:
        soak.soak(lambda: open_onnx(files.step("float32"), 1), files.reference(), 1000)
    assert (f"other programs used a GPU: {others}" in str(caught.value)) == bool(others)


def test_growth_is_from_the_second_quarter_to_the_last():
    assert soak.grown([900, 900, 10, 12, 50, 60, 20, 22]) == 10
    assert soak.grown([1, 2, 3]) is None
