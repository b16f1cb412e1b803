"""The plan runtime, driven on a GPU made of host memory, and everything that it says without a GPU."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2.contract.engine import Engine
from p2.contract.errors import BackendMissing, ContractError, P2Error, UsageError
from p2.contract.noise import gumbel
from p2.contract.plan import TENSORRT, TENSORRT_RTX, write_sidecar
from p2.contract.sampling import Sampling, choose, scale_noise
from p2.runtime import nvidia
from p2.runtime.tensorrt import engine as tensorrt

from ..cuda_double import ILLEGAL_ADDRESS

NO_GPU = nvidia.Gpus(problem="no NVIDIA driver is installed")
GPU = nvidia.Gpus((nvidia.Gpu("NVIDIA Test", (8, 9), 1 << 34),), "570.1", (13, 0))


def tokens_for(card, batch, length, seed=0):
    return np.random.default_rng(seed).integers(0, card.vocab, (batch, length))


def test_keeps_the_protocol_and_says_what_it_is(bench):
    b = bench()
    assert isinstance(b.engine, Engine)
    assert b.engine.name == "TensorRT-RTX 1.7.1.116 float32 (NVIDIA Test)"


@pytest.mark.parametrize("batch", [1, 3])
def test_feed_says_what_the_equations_say(cell, batch, bench, card_of, numpy_model):
    card = card_of(*cell)
    b = bench(card)
    tokens = tokens_for(card, batch, 60)
    state = b.engine.zero_state(batch)
    logits = b.engine.feed(state, tokens, logits=True)
    np.testing.assert_allclose(logits, numpy_model(card).run(tokens), atol=1e-4)


def test_a_step_reads_one_buffer_and_writes_the_other(bench, card_of):
    card = card_of("lstm", layers=2)
    b = bench(card)
    b.engine.feed(b.engine.zero_state(2), tokens_for(card, 2, 5))
    steps = [step["addresses"] for step in b.trt.steps]
    for name in card.state_names:
        for earlier, later in itertools.pairwise(steps):
            assert later[f"{name}_in"] == earlier[f"{name}_out"]
            assert later[f"{name}_out"] == earlier[f"{name}_in"]


@pytest.mark.parametrize("limit", [("_CHUNK_STEPS", 7), ("_CHUNK_BYTES", 1000)])
def test_long_texts_go_up_in_pieces(limit, bench, card_of, numpy_model, monkeypatch):
    monkeypatch.setattr(tensorrt, *limit)
    b = bench()
    tokens = tokens_for(b.plan.sidecar.card, 2, 30)
    logits = b.engine.feed(b.engine.zero_state(2), tokens, logits=True)
    np.testing.assert_allclose(logits, numpy_model(b.plan.sidecar.card).run(tokens), atol=1e-4)


def test_feeding_nothing_changes_nothing(bench):
    b = bench()
    state = b.engine.restore(b.engine.snapshot(fed := b.engine.zero_state(2)))
    b.engine.feed(fed, np.zeros((2, 0), np.int64))
    assert b.engine.feed(fed, np.zeros((2, 0), np.int64), logits=True).shape == (2, 0, b.engine.card.vocab)
    assert b.engine.decode(
        fed, np.zeros(2, np.int64), np.zeros((0, 2, b.engine.card.vocab), np.float32), Sampling(0)
    ).shape == (2, 0)
    for name, values in b.engine.snapshot(state).items():
        np.testing.assert_array_equal(b.engine.snapshot(fed)[name], values)
    assert not b.trt.steps


@pytest.mark.parametrize(
    "sampling",
    [Sampling(0), Sampling(1.0), Sampling.from_tau(2), Sampling(top_k=3), Sampling(top_p=0.8)],
    ids=str,
)
def test_decode_writes_what_the_definition_chooses(sampling, bench, numpy_model):
    b = bench()
    model, vocab = numpy_model(b.engine.card), b.engine.card.vocab
    noise = scale_noise(gumbel(5, (0, 1, 2), 0, 50, vocab), sampling)
    first = np.array([1, 2, 3])
    written = b.engine.decode(b.engine.zero_state(3), first, noise, sampling)
    state, token, expected = model.zero(3), first, []
    for row in noise:
        token = choose(model.step(state, token).astype(np.float32), row, sampling)
        expected.append(token)
    np.testing.assert_array_equal(written, np.stack(expected, axis=1))


def test_each_batch_runs_on_its_profile(bench):
    b = bench()
    states = {batch: b.engine.zero_state(batch) for batch in (1, 8, 3)}
    for batch in (1, 8, 3, 1, 8, 8, 1):
        b.engine.feed(states[batch], tokens_for(b.engine.card, batch, 1))
    ran = [(step["profile"], step["batch"]) for step in b.trt.steps]
    assert ran == [(0, 1), (1, 8), (1, 3), (0, 1), (1, 8), (1, 8), (0, 1)]


@pytest.mark.parametrize("batch", [9, 100])
def test_a_batch_that_no_profile_covers(batch, bench):
    b = bench()
    with pytest.raises(UsageError, match=rf"for a batch of 1 or 1 to 8, not of {batch}"):
        b.engine.zero_state(batch)


def test_float16_states_are_rounded_on_the_device_and_plain_in_a_snapshot(bench, card_of, numpy_model):
    card = card_of(precision="float16")
    b = bench(card, "float16")
    tokens = tokens_for(card, 2, 20)
    state = b.engine.zero_state(2)
    b.engine.feed(state, tokens)
    model = numpy_model(card)
    expected = model.zero(2)
    for column in tokens.T:
        model.step(expected, column)
        expected = {name: values.astype(np.float16).astype(np.float64) for name, values in expected.items()}
    snapshot = b.engine.snapshot(state)
    assert tuple(snapshot) == card.state_names
    for name, values in snapshot.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, expected[name].astype(np.float32))


def test_a_snapshot_is_a_copy(bench):
    b = bench()
    state = b.engine.zero_state(1)
    before = b.engine.snapshot(state)
    kept = {name: values.copy() for name, values in before.items()}
    b.engine.feed(state, tokens_for(b.engine.card, 1, 3))
    for name, values in before.items():
        np.testing.assert_array_equal(values, kept[name])
        assert not np.array_equal(b.engine.snapshot(state)[name], values)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("feed"), st.integers(0, 2), st.integers(0, 9)),
            st.tuples(st.just("decode"), st.integers(0, 2), st.integers(0, 5)),
            st.tuples(st.just("restore"), st.integers(0, 2), st.integers(0, 2)),
        ),
        max_size=12,
    ),
    st.integers(0, 2**32),
)
def test_any_mix_of_calls_on_several_states_matches_numpy(bench, numpy_model, card_of, calls, seed):
    card = card_of("lstm", layers=2, hidden=5)
    b = bench(card)
    rng, model = np.random.default_rng(seed), numpy_model(card)
    batches = [1, 4, 1]
    states = [b.engine.zero_state(batch) for batch in batches]
    expected = [model.zero(batch) for batch in batches]
    for kind, which, argument in calls:
        if kind == "feed":
            tokens = rng.integers(0, card.vocab, (batches[which], argument))
            logits = b.engine.feed(states[which], tokens, logits=True)
            for index, column in enumerate(tokens.T):
                np.testing.assert_allclose(logits[:, index], model.step(expected[which], column), atol=1e-4)
        elif kind == "decode":
            noise = rng.gumbel(size=(argument, batches[which], card.vocab)).astype(np.float32)
            token = rng.integers(0, card.vocab, batches[which])
            written = b.engine.decode(states[which], token, noise, Sampling())
            for index, row in enumerate(noise):
                token = choose(model.step(expected[which], token).astype(np.float32), row, Sampling())
                np.testing.assert_array_equal(written[:, index], token)
        else:
            states[which] = b.engine.restore(b.engine.snapshot(states[argument]))
            expected[which] = {name: values.copy() for name, values in expected[argument].items()}
            batches[which] = batches[argument]
    b.engine.close()
    assert b.cuda.used() == 0


def test_a_state_of_another_model_is_refused(bench, card_of):
    b = bench(card_of("lstm", layers=2))
    snapshot = b.engine.snapshot(b.engine.zero_state(1))
    for wrong in (
        {},
        {name: values for name, values in snapshot.items() if name != "c_01"},
        snapshot | {"c_02": snapshot["c_01"]},
        snapshot | {"h_00": np.zeros((1, 3), np.float32)},
        snapshot | {"c_01": np.zeros((2, 32), np.float32)},
    ):
        with pytest.raises(ContractError, match="snapshot does not fit the model"):
            b.engine.restore(wrong)


@pytest.mark.parametrize("token", [-1, 30])
def test_a_token_outside_the_vocabulary_never_reaches_the_gpu(token, bench):
    b = bench()
    state = b.engine.zero_state(1)
    with pytest.raises(UsageError, match="outside the vocabulary of 30"):
        b.engine.feed(state, np.array([[0, token]]))
    with pytest.raises(UsageError, match="outside the vocabulary of 30"):
        b.engine.decode(state, np.array([token]), np.zeros((1, 1, 30), np.float32), Sampling(0))
    assert not b.trt.steps


def test_a_forgotten_state_gives_its_memory_back(bench):
    b = bench()
    kept = b.engine.zero_state(1)
    used = b.cuda.used()
    for _ in range(3):
        b.engine.restore(b.engine.snapshot(kept))
        gc.collect()
    assert b.cuda.used() == used


def test_close_gives_everything_back_in_the_right_order(bench):
    b = bench()
    states = [b.engine.zero_state(batch) for batch in (1, 4)]
    for state in states:
        b.engine.feed(state, tokens_for(b.engine.card, state.batch, 2), logits=True)
    b.engine.close()
    gc.collect()
    assert (b.cuda.used(), b.cuda.streams) == (0, 0)
    assert b.trt.gone == ["context", "context", "engine", "runtime"]
    b.engine.close()
    del states  # their memory is gone already
    gc.collect()


def test_the_scratch_memory_grows_but_does_not_pile_up(bench):
    b = bench()
    state = b.engine.zero_state(4)
    b.engine.feed(state, tokens_for(b.engine.card, 4, 100), logits=True)
    used = b.cuda.used()
    for length in (1, 50, 100):
        b.engine.feed(state, tokens_for(b.engine.card, 4, length), logits=True)
    assert b.cuda.used() == used


def test_out_of_memory_is_one_sentence(bench):
    b = bench()
    b.cuda.memory = b.cuda.used() + 100
    with pytest.raises(P2Error, match=r"the GPU is out of memory: 0\.0 MiB more were needed and 0\.0 of"):
        b.engine.zero_state(8)


@pytest.mark.parametrize(
    ("refuses", "sentence"),
    [
        ("context", "could not prepare to run .charlm.plan.: out of memory while creating a context"),
        ("shape", "could not take a batch of 1 .charlm.plan.: it gives no reason"),
        ("execute", "could not run a step .charlm.plan.: IExecutionContext::enqueueV3: Error Code 3"),
    ],
)
def test_what_tensorrt_refuses_is_said_with_its_reason(refuses, sentence, bench):
    b = bench(refuses={refuses})
    state = b.engine.zero_state(1)
    with pytest.raises(P2Error, match=f"TensorRT-RTX 1.7.1.116 {sentence}"):
        b.engine.feed(state, np.array([[0]]))


def test_a_failure_on_the_gpu_is_one_sentence(bench):
    b = bench()
    state = b.engine.zero_state(1)
    b.cuda.failing["Stream.sync"] = ILLEGAL_ADDRESS
    with pytest.raises(
        P2Error, match=r"the GPU could not finish its work: .* invalid memory address .CUDA_ERROR_ILLEGAL"
    ):
        b.engine.feed(state, np.array([[0]]))


def test_a_plan_that_does_not_load_is_refused_and_leaves_nothing_on_the_gpu(bench, fake_cuda):
    with pytest.raises(
        P2Error,
        match=r"could not load the plan .*: IRuntime::deserializeCudaEngine: Error Code 1: Cuda Runtime",
    ):
        bench(refuses={"deserialize"})
    assert (fake_cuda.used(), fake_cuda.streams) == (0, 0)


@pytest.mark.parametrize(
    ("bits", "reason"),
    [
        (2, "TensorRT-RTX does not run on this GPU"),
        (12, "driver is too old and the CUDA runtime is too old"),
        (0, "it gives no reason"),
    ],
)
def test_a_plan_that_is_invalid_here_says_why(bits, reason, bench):
    with pytest.raises(BackendMissing, match=f"does not run on the NVIDIA Test with TensorRT-RTX .*{reason}"):
        bench(validity=(2, bits))


def test_a_plan_that_is_only_slower_here_runs(bench):
    assert bench(validity=(1, 0)).engine.zero_state(1)


def test_tensorrt_itself_is_not_asked_for_validity(bench):
    assert bench(flavour="tensorrt", validity=(2, 32)).engine.name.startswith("TensorRT 1.7.1.116")


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("logits", ("FLOAT", (-1, 31))),
        ("c_01_in", ("HALF", (-1, 32))),
        ("token", ("FLOAT", (-1,))),
        ("extra", ("FLOAT", (-1, 2))),
    ],
)
def test_an_engine_that_breaks_the_contract_is_refused(name, tensor, bench):
    with pytest.raises(ContractError, match=rf"breaks the step contract \(tensor {name}\)"):
        bench(changed={name: tensor})


# What a machine without a GPU says.


@pytest.fixture
def plan_file(bench, tmp_path):
    """A plan on disk that only the double could load."""

    def write(**how):
        plan = bench(**how).plan
        path = tmp_path / "charlm.plan"
        path.write_bytes(plan.data)
        write_sidecar(path, plan.sidecar)
        return path

    return write


def machine(monkeypatch, gpus=NO_GPU, installed=(TENSORRT_RTX,)):
    monkeypatch.setattr(nvidia, "gpus", lambda: gpus)
    monkeypatch.setattr(nvidia, "installed", lambda flavour: flavour in installed)


def fake_library(monkeypatch, library):
    monkeypatch.setattr(nvidia, "library", lambda flavour: library)


def test_opens_where_there_is_a_gpu(bench, plan_file, monkeypatch, numpy_model):
    path, b = plan_file(), bench()
    machine(monkeypatch, GPU)
    fake_library(monkeypatch, b.library)
    device = tensorrt.Device(b.cuda)
    monkeypatch.setattr(tensorrt, "Device", lambda: device)
    engine = tensorrt.open_plan(path)
    tokens = tokens_for(engine.card, 1, 5)
    logits = engine.feed(engine.zero_state(1), tokens, logits=True)
    np.testing.assert_allclose(logits, numpy_model(engine.card).run(tokens), atol=1e-4)


@pytest.mark.parametrize("installed", [(), (TENSORRT_RTX,)])
def test_without_a_gpu_the_command_that_works_here_is_named(installed, bench, plan_file, monkeypatch):
    path, b = plan_file(), bench()
    machine(monkeypatch, installed=installed)
    fake_library(monkeypatch, b.library)
    with pytest.raises(
        BackendMissing,
        match=r"charlm.plan needs an NVIDIA GPU and there is none here: p2 export --engine none",
    ):
        tensorrt.open_plan(path)
    other = path.with_suffix(".onnx")
    other.touch()
    with pytest.raises(
        BackendMissing, match=rf"p2 generate --engine {other} runs the same model on this machine"
    ):
        tensorrt.open_plan(path)
    with pytest.raises(BackendMissing) as caught:
        tensorrt.open_plan(path, asked="charlm.plan")
    assert str(caught.value) == (
        "charlm.plan needs an NVIDIA GPU and there is none here: p2 generate --engine charlm.onnx runs the"
        " same model on this machine"
    )
    assert caught.value.exit_code == 1


def test_with_a_gpu_but_without_tensorrt_the_package_is_named(plan_file, monkeypatch):
    path = plan_file()
    machine(monkeypatch, GPU, installed=())
    with pytest.raises(
        BackendMissing,
        match=r"for TensorRT-RTX 1.7.1.116, and no TensorRT is installed here: pip install tensorrt-rtx==1",
    ):
        tensorrt.open_plan(path)


@pytest.mark.parametrize("gpus", [GPU, nvidia.Gpus()])
def test_a_plan_of_the_other_flavour(gpus, plan_file, monkeypatch):
    path = plan_file(flavour="tensorrt")
    machine(monkeypatch, gpus)
    with pytest.raises(
        BackendMissing,
        match=r"plan for TensorRT 1.7.1.116, and only TensorRT-RTX is installed here: run `p2 export` again",
    ):
        tensorrt.open_plan(path)


@pytest.mark.parametrize("gpus", [GPU, nvidia.Gpus()])
def test_a_plan_of_another_version(gpus, bench, plan_file, monkeypatch):
    path, b = plan_file(), bench()
    machine(monkeypatch, gpus, installed=(TENSORRT, TENSORRT_RTX))
    b.library.version = "1.6.0.40"
    fake_library(monkeypatch, b.library)
    with pytest.raises(BackendMissing, match=r"and TensorRT-RTX 1.6.0.40 is installed here") as caught:
        tensorrt.open_plan(path)
    assert str(caught.value).startswith(f"{path} was built by TensorRT-RTX 1.7.1.116, ")
    assert str(caught.value).endswith("run `p2 export` again, or pip install tensorrt-rtx==1.7.1.116")


@pytest.mark.parametrize("capability", [(9, 0), (7, 5), (10, 0)])
def test_a_gpu_that_the_plan_is_not_for(capability, bench, plan_file, monkeypatch):
    path, b = plan_file(), bench()
    machine(monkeypatch, nvidia.Gpus((nvidia.Gpu("NVIDIA H100", capability, 1 << 34),), "570.1", (13, 0)))
    fake_library(monkeypatch, b.library)
    with pytest.raises(BackendMissing) as caught:
        tensorrt.open_plan(path)
    major, minor = capability
    assert str(caught.value) == (
        f"{path} does not run on the NVIDIA H100: it has compute capability {major}.{minor}, and the plan is"
        " for 8.0, 8.6, 8.9, 12.0, 12.1: run the checkpoint with `--backend cuda-graph`, or the .onnx file"
    )


def test_a_driver_that_is_too_old_for_the_library(bench, plan_file, monkeypatch):
    path, b = plan_file(), bench()
    machine(monkeypatch, nvidia.Gpus(GPU.devices, "550.54", (12, 4)))
    monkeypatch.setattr(nvidia, "cuda_of", lambda flavour: 13)
    fake_library(monkeypatch, b.library)
    with pytest.raises(
        BackendMissing,
        match=r"this NVIDIA driver 550.54 knows CUDA 12.4, and the TensorRT-RTX installed here is built for"
        r" CUDA 13: update the driver, or run the .onnx file",
    ):
        tensorrt.open_plan(path)


def test_a_plan_larger_than_the_free_memory_is_not_loaded(bench, fake_cuda):
    fake_cuda.memory = 100
    with pytest.raises(P2Error, match="the GPU is out of memory"):
        bench()
    assert fake_cuda.streams == 0


OPEN = """
import sys
from pathlib import Path
from p2.contract.errors import P2Error
from p2.runtime.tensorrt.engine import open_plan
for path in map(Path, sys.argv[1:]):
    try:
        open_plan(path).zero_state(1)
    except P2Error as error:
        print(path.name, error.exit_code, error)
"""


@pytest.mark.rtx
def test_a_real_plan_without_a_gpu_never_ends_the_process(write_step, card_of, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    if nvidia.gpus().devices:
        pytest.skip("this machine has an NVIDIA GPU")
    from p2.export.builder import build_plan

    onnx = write_step(card_of())
    path = tmp_path / "charlm.plan"
    build_plan(onnx, card_of(), path, engine="tensorrt-rtx")
    data = path.read_bytes()
    broken = {
        "whole.plan": data,
        "cut.plan": data[:-1000],
        "other.plan": b"ftrt" + data[4:],
        "onnx.plan": onnx.read_bytes(),
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name}.json").write_bytes((tmp_path / "charlm.plan.json").read_bytes())
    command = [sys.executable, "-c", OPEN, *(tmp_path / name for name in broken)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    said = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    assert all(one.startswith("1 ") for one in said.values())
    assert "needs an NVIDIA GPU and there is none here" in said["whole.plan"]
    assert "is cut off" in said["cut.plan"]
    assert "is not the plan that other.plan.json describes" in said["other.plan"]
    assert "is not a TensorRT plan" in said["onnx.plan"]
