"""The engine over PyTorch CUDA graphs, on the processor with a recorder in place of the graph."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from p2.contract.engine import Engine
from p2.contract.errors import BackendMissing, ContractError, P2Error, UsageError
from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling, choose, scale_noise
from p2.export import cuda_graph
from p2.export.cuda_graph import CudaGraphEngine, open_cuda_graph
from p2.export.fold import fold
from p2.export.step import Step
from p2.runtime import nvidia

SAMPLINGS = [
    Sampling(0),
    Sampling(),
    Sampling.from_tau(2),
    Sampling(temperature=0.7, top_k=3),
    Sampling(temperature=1.5, top_p=0.8),
    Sampling(min_p=0.1),
    Sampling(temperature=2, top_k=7, top_p=0.9, min_p=0.02),
]


class Recorder(TorchDispatchMode):
    """A CUDA graph of tensors in host memory.

    Capturing notes every operation with the tensors that it read and wrote, and undoes what it wrote to
    tensors that were there before. Replaying writes to those same tensors, whatever Python did since.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = []
        self.undo = []
        self.replays = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        written = [
            value
            for argument, value in zip(function._schema.arguments, args, strict=False)
            if argument.alias_info is not None and argument.alias_info.is_write
        ]
        self.undo += [(tensor, tensor.clone()) for tensor in written]
        result = function(*args, **kwargs)
        self.operations.append((function, args, kwargs, result, bool(written)))
        return result

    def replay(self) -> None:
        self.replays += 1
        for function, args, kwargs, result, in_place in self.operations:
            again = function(*args, **kwargs)
            if in_place:
                continue
            for old, new in zip(*map(_tensors, (result, again)), strict=True):
                if old.data_ptr() != new.data_ptr():  # a view is where it was
                    old.copy_(new)


def _tensors(result):
    return [result] if isinstance(result, torch.Tensor) else list(result)


class Captures:
    """Captures by `Recorder`; `executes` also runs what it captures."""

    def __init__(self, executes: bool = False) -> None:
        self.executes = executes
        self.recorders: list[Recorder] = []

    def __call__(self, body: Callable[[], None]) -> Callable[[], None]:
        recorder = Recorder()
        with recorder:
            body()
        if not self.executes:
            for tensor, before in reversed(recorder.undo):
                tensor.copy_(before)
        self.recorders.append(recorder)
        return recorder.replay

    @property
    def replays(self) -> int:
        return sum(recorder.replays for recorder in self.recorders)


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(cuda_graph, "STEPS", 4)


@pytest.fixture
def load(card_of, parameters_of):
    """An engine on doubles: (engine, captures)."""

    def make(cell=("lstm", "after"), executes=False):
        card = card_of(*cell)
        weights = {name: torch.from_numpy(array) for name, array in parameters_of(card).items()}
        captures = Captures(executes)
        return CudaGraphEngine(card, Step(card, fold(card, weights)).eval(), "test", captures), captures

    return make


def expected(model, state, token, noise, sampling):
    written = []
    for row in noise:
        token = choose(model.step(state, token).astype(np.float32), row, sampling)
        written.append(token)
    return np.stack(written, axis=1)


def noise_for(batch, count, vocab, sampling, seed=5):
    return scale_noise(gumbel(seed, tuple(range(batch)), 0, count, vocab), sampling)


def assert_state(engine, state, model_state):
    for name, values in engine.snapshot(state).items():
        np.testing.assert_allclose(values, model_state[name], atol=1e-4)


def test_keeps_the_protocol_and_says_what_it_is(load):
    engine, _ = load()
    assert isinstance(engine, Engine)
    assert engine.name == "PyTorch CUDA graphs (test)"


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_writes_what_the_definition_chooses(sampling, batch, load, numpy_model):
    engine, captures = load()
    model, first = numpy_model(engine.card), np.arange(batch) + 1
    noise = noise_for(batch, 23, engine.card.vocab, sampling)
    state, model_state = engine.zero_state(batch), model.zero(batch)
    np.testing.assert_array_equal(
        engine.decode(state, first, noise, sampling), expected(model, model_state, first, noise, sampling)
    )
    assert captures.replays == 23 // 4 + 23 % 4
    assert_state(engine, state, model_state)


def test_every_cell_feeds_and_writes(cell, load, numpy_model):
    engine, _ = load(cell)
    model = numpy_model(engine.card)
    tokens = np.random.default_rng(0).integers(0, engine.card.vocab, (2, 30))
    state = engine.zero_state(2)
    np.testing.assert_allclose(engine.feed(state, tokens, logits=True), model.run(tokens), atol=1e-3)
    model_state = model.zero(2)
    for column in tokens.T:
        model.step(model_state, column)
    noise = noise_for(2, 9, engine.card.vocab, Sampling())
    np.testing.assert_array_equal(
        engine.decode(state, tokens[:, -1], noise, Sampling()),
        expected(model, model_state, tokens[:, -1], noise, Sampling()),
    )


def test_settings_and_states_change_between_calls_of_one_graph(load, numpy_model):
    engine, captures = load()
    model = numpy_model(engine.card)
    states = [(engine.zero_state(2), model.zero(2)) for _ in range(2)]
    for turn, sampling in enumerate([*SAMPLINGS, *SAMPLINGS]):
        state, model_state = states[turn % 2]
        first = np.full(2, turn)
        noise = noise_for(2, 8, engine.card.vocab, sampling, seed=turn)
        np.testing.assert_array_equal(
            engine.decode(state, first, noise, sampling), expected(model, model_state, first, noise, sampling)
        )
    assert len(captures.recorders) == 2  # with filters, and without
    for state, model_state in states:
        assert_state(engine, state, model_state)


def test_a_state_is_untouched_until_it_is_advanced(load):
    engine, _ = load()
    state = engine.zero_state(1)
    engine.feed(state, np.array([[1, 2, 3]]))
    copy = engine.restore(engine.snapshot(state))
    before = engine.snapshot(copy)
    engine.decode(state, np.array([4]), noise_for(1, 9, engine.card.vocab, Sampling()), Sampling())
    for name, values in engine.snapshot(copy).items():
        np.testing.assert_array_equal(values, before[name])
        assert not np.array_equal(engine.snapshot(state)[name], values)


def test_a_capture_that_runs_the_step_is_found_out(load):
    engine, _ = load(executes=True)
    noise = noise_for(1, 4, engine.card.vocab, Sampling())
    with pytest.raises(P2Error, match="recording the CUDA graph has run the step and changed the state"):
        engine.decode(engine.zero_state(1), np.array([1]), noise, Sampling())


def test_another_batch_captures_anew(load, numpy_model):
    engine, captures = load()
    model = numpy_model(engine.card)
    for batch in (1, 3, 1):
        noise = noise_for(batch, 4, engine.card.vocab, Sampling())
        first = np.ones(batch, np.int64)
        np.testing.assert_array_equal(
            engine.decode(engine.zero_state(batch), first, noise, Sampling()),
            expected(model, model.zero(batch), first, noise, Sampling()),
        )
    assert len(captures.recorders) == 3


def test_nothing_to_do_captures_nothing(load):
    engine, captures = load()
    state = engine.zero_state(2)
    empty = np.zeros((0, 2, engine.card.vocab), np.float32)
    assert engine.decode(state, np.zeros(2, np.int64), empty, Sampling()).shape == (2, 0)
    assert engine.feed(state, np.zeros((2, 0), np.int64)) is None
    assert engine.feed(state, np.zeros((2, 0), np.int64), logits=True).shape == (2, 0, engine.card.vocab)
    assert not captures.recorders


def test_a_token_outside_the_vocabulary_never_reaches_the_gpu(load):
    engine, _ = load()
    state = engine.zero_state(1)
    for token in (-1, engine.card.vocab):
        with pytest.raises(UsageError, match="outside the vocabulary of 30"):
            engine.feed(state, np.array([[token]]))
        with pytest.raises(UsageError, match="outside the vocabulary of 30"):
            engine.decode(state, np.array([token]), np.zeros((1, 1, 30), np.float32), Sampling(0))


def test_a_state_of_another_model_is_refused(load):
    engine, _ = load()
    snapshot = engine.snapshot(engine.zero_state(1))
    for wrong in ({}, snapshot | {"h_00": np.zeros((1, 3), np.float32)}, snapshot | {"x": snapshot["h_00"]}):
        with pytest.raises(ContractError, match="the snapshot does not fit the model"):
            engine.restore(wrong)


def test_out_of_memory_is_one_sentence(load, monkeypatch):
    engine, _ = load()

    def exhausted(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has ...")

    monkeypatch.setattr(cuda_graph, "_zeros", exhausted)
    with pytest.raises(P2Error, match=r"^the GPU is out of memory \(CUDA out of memory\): use fewer streams"):
        engine.zero_state(1)


def test_a_pytorch_that_does_not_reach_the_gpu(monkeypatch, tiny_run):
    gpu = nvidia.Gpu("NVIDIA Test", (9, 0), 1 << 34)
    monkeypatch.setattr(nvidia, "gpus", lambda: nvidia.Gpus((gpu,), "570.1", (13, 0)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendMissing, match=r"a PyTorch that reaches the GPU, and PyTorch .* was built"):
        open_cuda_graph(tiny_run)


def p2(*arguments):
    code = "import sys; from p2.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )


def test_without_a_gpu_the_command_says_what_to_do(tiny_run):
    if nvidia.gpus().devices:
        pytest.skip("this machine has an NVIDIA GPU")
    done = p2("generate", "--engine", str(tiny_run), "--backend", "cuda-graph")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "--backend cuda-graph needs an NVIDIA GPU, and " in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.gpu
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_on_the_gpu_it_writes_what_eager_pytorch_writes(sampling, tiny_run):
    if not torch.cuda.is_available():
        pytest.skip("no GPU that PyTorch reaches")
    from p2.trainer.eager import open_checkpoint

    engine, eager = open_cuda_graph(tiny_run), open_checkpoint(tiny_run)
    noise, first = noise_for(3, 50, engine.card.vocab, sampling), np.array([1, 2, 3])
    written = [one.decode(one.zero_state(3), first, noise, sampling) for one in (engine, eager)]
    np.testing.assert_array_equal(*written)
