"""The CUDA engine on emulated kernels: whatever the batch, the launches and the way, the same text."""

from __future__ import annotations

import ctypes
import math

import numpy as np
import pytest

from p2.contract.engine import Draw, MixedEngine
from p2.contract.errors import BackendMissing, P2Error, UsageError
from p2.contract.integers import Definition
from p2.contract.noise import Address, gumbel
from p2.contract.sampling import Sampling, choose, scale_noise
from p2.runtime import nvidia
from p2.runtime.cuda import engine as engine_module
from p2.runtime.cuda import geometry, launches, packing
from p2.runtime.cuda.engine import open_cuda, why_not
from p2.runtime.cuda.job import job_type
from p2.runtime.onnxruntime.engine import OnnxEngine
from p2.runtime.step_file import open_step

from ...conftest import make_card
from ...quantized import step_of, tensors_of
from .emulated import EmulatedCuda

COUNT = 40
ADDRESS = Address(7, (3, 0, 2**64 - 1), 2**33 - 5)
FILTERED = Sampling(0.7, top_k=9, top_p=0.9, min_p=0.05)


@pytest.fixture
def cuda(kernels_of, monkeypatch):
    """An emulated GPU whose launches take 4 texts and write 7 characters at first."""
    monkeypatch.setattr(geometry, "STREAMS", (4,))
    monkeypatch.setattr(launches, "FIRST_CHARACTERS", 7)
    monkeypatch.setattr(
        launches, "LAUNCH_SECONDS", 10
    )  # four times as many in the next, however slow this is
    made = EmulatedCuda(kernels_of)
    yield made
    made.check()


@pytest.fixture
def integers():
    """A model with int8 weights, and what it computes."""
    card = make_card(precision="int8")
    tensors = tensors_of(card)
    return step_of(card, tensors), Definition(card, tensors)


def by_hand(definition, streams, count, sampling, seed=7, position=ADDRESS.position, state=None, last=None):
    """Text, and the state after it, as the contract defines them."""
    noise = scale_noise(gumbel(seed, list(streams), position, count, definition.card.vocab), sampling)
    state = definition.zero_state(len(streams)) if state is None else state
    last = np.arange(len(streams)) % definition.card.vocab if last is None else last
    text = []
    for scaled in noise:
        last = choose(definition.step(state, last), scaled, sampling)
        text.append(last)
    return np.array(text).T, state, noise


def first(batch, card):
    return np.arange(batch, dtype=np.int64) % card.vocab


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0), FILTERED], ids=["plain", "greedy", "filtered"])
def test_integers_say_what_the_definition_says_in_any_batch(sampling, cuda, integers):
    step, definition = integers
    engine, card = cuda.open(step), step.card
    assert engine.name == "CUDA int8 (NVIDIA Double)"
    streams = [*ADDRESS.streams, *range(10, 16)]  # groups of 4, 4 and 1
    wanted, states, noise = by_hand(definition, streams, COUNT, sampling)
    for some in ([0], [1, 2], list(range(9))):
        own = [streams[n] for n in some]
        state, last = engine.zero_state(len(own)), first(9, card)[some]
        drawn = engine.draw(state, last, Address(7, own, ADDRESS.position), COUNT, sampling)
        np.testing.assert_array_equal(drawn, wanted[some])
        for name, array in engine.snapshot(state).items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, states[name][some])
        handed = engine.decode(engine.zero_state(len(own)), last, noise[:, some], sampling)
        np.testing.assert_array_equal(handed, wanted[some])
    assert len({ran.grid for ran in cuda.ran}) == 1
    assert all(ran.is_cooperative for ran in cuda.ran)


def test_every_text_may_have_settings_of_its_own(cuda, integers):
    step, definition = integers
    engine = cuda.open(step)
    assert isinstance(engine, MixedEngine)
    settings = [
        Sampling(),
        Sampling(0),
        FILTERED,
        Sampling(2.0, top_k=3),
        Sampling(0.5, min_p=0.1),
        Sampling(),
    ]
    draws = [Draw(9 - row, 5 * row, 100 * row, one) for row, one in enumerate(settings)]
    state, last = engine.zero_state(6), first(6, step.card)
    written = engine.draw_each(state, last, draws, 20)
    later = [one._replace(position=one.position + 20) for one in draws]
    written = np.hstack([written, engine.draw_each(state, written[:, -1], later, 5)])
    for row, (seed, stream, position, sampling) in enumerate(draws):
        alone = by_hand(definition, [stream], 25, sampling, seed, position, last=last[row : row + 1])[0]
        np.testing.assert_array_equal(written[row], alone[0])
    for wrong in (draws[:5], 7, [*draws[:5], Draw(1, -1, 0, Sampling())]):
        with pytest.raises(UsageError):
            engine.draw_each(state, last, wrong, 3)


def test_integers_predict_what_the_definition_predicts(cuda, integers):
    step, definition = integers
    engine = cuda.open(step)
    tokens = np.random.default_rng(0).integers(0, step.card.vocab, (6, 23))
    own, states = engine.zero_state(6), definition.zero_state(6)
    np.testing.assert_array_equal(engine.feed(own, tokens, logits=True), definition.run(states, tokens))
    assert engine.feed(own, tokens[:, :5]) is None
    definition.run(states, tokens[:, :5])
    for name, array in engine.snapshot(own).items():
        np.testing.assert_array_equal(array, states[name])
    nothing = engine.feed(own, tokens[:, :0], logits=True)
    assert nothing.shape == (6, 0, step.card.vocab)
    assert engine.draw(own, tokens[:, 0], Address(1, range(6), 0), 0, Sampling()).shape == (6, 0)


def test_predictions_of_long_texts_are_fetched_in_pieces(cuda, integers, monkeypatch):
    step, definition = integers
    monkeypatch.setattr(engine_module, "HELD_BYTES", 4 << 10)
    engine = cuda.open(step)
    tokens = np.random.default_rng(1).integers(0, step.card.vocab, (2, 30))
    logits = engine.feed(engine.zero_state(2), tokens, logits=True)
    np.testing.assert_array_equal(logits, definition.run(definition.zero_state(2), tokens))
    wanted, _, noise = by_hand(definition, [0, 1], COUNT, Sampling())
    np.testing.assert_array_equal(
        engine.decode(engine.zero_state(2), first(2, step.card), noise, Sampling()), wanted
    )


def test_float32_writes_the_text_of_the_processor(cuda, card_of, write_step):
    step = open_step(write_step(card_of()))
    engine, other = cuda.open(step), OnnxEngine(step)
    tokens = np.random.default_rng(0).integers(0, step.card.vocab, (3, 11))
    ours, theirs = engine.zero_state(3), other.zero_state(3)
    for engine_, state in ((engine, ours), (other, theirs)):
        engine_.feed(state, tokens[:, :-1])
    noise = gumbel(1, range(3), 10, COUNT, step.card.vocab)
    written = other.decode(theirs, tokens[:, -1], noise, Sampling())
    at = Address(1, range(3), 10)
    np.testing.assert_array_equal(engine.draw(ours, tokens[:, -1], at, COUNT, Sampling()), written)
    after = other.snapshot(theirs)
    for name, array in engine.snapshot(ours).items():
        np.testing.assert_allclose(array, after[name], atol=2e-6)
    logits = engine.feed(ours, tokens, logits=True)
    np.testing.assert_allclose(logits, other.feed(theirs, tokens, logits=True), atol=1e-5)


def test_a_text_is_taken_up_again_from_a_snapshot_of_any_engine(cuda, integers):
    step, definition = integers
    engine, card = cuda.open(step), step.card
    wanted, states, _ = by_hand(definition, [0, 1, 2], 12, Sampling())
    restored = engine.restore({name: array.astype(np.float64) for name, array in states.items()})
    more, after, _ = by_hand(
        definition, [0, 1, 2], 9, Sampling(), position=ADDRESS.position + 12, state=states, last=wanted[:, -1]
    )
    address = Address(7, [0, 1, 2], ADDRESS.position + 12)
    np.testing.assert_array_equal(engine.draw(restored, wanted[:, -1], address, 9, Sampling()), more)
    kept = engine.snapshot(restored)
    again = engine.restore(kept)
    engine.draw(restored, more[:, -1], address, 5, Sampling())
    for name, array in engine.snapshot(again).items():
        np.testing.assert_array_equal(array, after[name])
        np.testing.assert_array_equal(array, kept[name])
    one = cuda.open(step)
    with pytest.raises(UsageError, match="one that this engine made"):
        one.feed(again, np.zeros((3, 1), np.int64))
    assert card.hidden == kept["h_00"].shape[1]


def test_launches_grow_with_what_they_take(cuda, integers, monkeypatch):
    step, definition = integers
    monkeypatch.setattr(launches, "LAUNCH_SECONDS", 0.05)
    seconds, now = 0.001, 0.0

    def clock():
        nonlocal now
        now += seconds
        return now

    monkeypatch.setattr(launches.time, "perf_counter", clock)
    engine = cuda.open(step)

    def launched(count):
        cuda.ran.clear()
        text = engine.draw(engine.zero_state(1), first(1, step.card), Address(7, [5], 0), count, Sampling())
        np.testing.assert_array_equal(text, by_hand(definition, [5], count, Sampling(), position=0)[0])
        return len(cuda.ran)

    assert launched(300) == 4  # 7, then four times as many each time: 28, 112, and 153 that are left
    assert launched(448) == 1
    seconds = 0.1
    assert launched(100) == 1  # takes twice as long as it should
    assert launched(100) > 2  # about 50, 25, 12, ...


def test_a_grid_that_cannot_meet_is_a_sentence_and_the_engine_goes_on(cuda, integers):
    step, definition = integers
    bad, load = [], cuda.load

    def failing(function):
        def run(grid, threads, shared_bytes, arguments):
            function(grid, threads, shared_bytes, arguments)
            if bad:
                job = job_type(step.card.layers).from_address(arguments[0])
                ctypes.c_uint32.from_address(job.barrier + 4).value = 1

        return run

    cuda.load = lambda module: {name: failing(function) for name, function in load(module).items()}
    engine = cuda.open(step)
    kept = engine.snapshot(engine.zero_state(2))
    bad.append(True)
    state = engine.restore(kept)
    for use in (
        lambda: engine.draw(state, first(2, step.card), Address(7, [0, 1], 0), 3, Sampling()),
        lambda: engine.feed(state, np.zeros((2, 3), np.int64)),
        lambda: engine.feed(state, np.zeros((2, 3), np.int64), logits=True),
    ):
        with pytest.raises(P2Error) as caught:
            use()
        assert str(caught.value) == (
            "the GPU's blocks waited 5 s for one another in vain: another program may be holding it, so try"
            " again when that has ended"
        )
    bad.clear()
    again = engine.draw(engine.restore(kept), first(2, step.card), Address(7, [0, 1], 0), 20, Sampling())
    np.testing.assert_array_equal(again, by_hand(definition, [0, 1], 20, Sampling(), position=0)[0])


def test_an_interruption_between_launches_leaves_an_engine_that_works(cuda, integers, monkeypatch):
    step, definition = integers
    engine = cuda.open(step)
    state = engine.zero_state(1)
    write, calls = launches.Launcher.write, []

    def interrupted(self, *given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(self, *given)

    monkeypatch.setattr(launches.Launcher, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.draw(state, first(1, step.card), Address(7, [0], 0), 60, Sampling())
    text = engine.draw(engine.zero_state(1), first(1, step.card), Address(7, [0], 0), 20, Sampling())
    np.testing.assert_array_equal(text, by_hand(definition, [0], 20, Sampling(), position=0)[0])


def test_what_is_held_goes_back(cuda, integers):
    step, _ = integers
    engine = cuda.open(step)
    device = engine._device
    before = device.allocated
    state = engine.zero_state(50)
    assert device.allocated == before + state.nbytes
    del state
    for _ in range(2):  # the second time in one launch
        engine.draw(engine.zero_state(1), first(1, step.card), Address(7, [0], 0), 9, Sampling())
    after = device.allocated
    for _ in range(3):
        engine.draw(engine.zero_state(1), first(1, step.card), Address(7, [0], 0), 9, Sampling())
    assert device.allocated == after
    engine.close()
    assert (device.allocated, cuda.used(), cuda.streams) == (0, 0, 0)


def test_too_little_memory_is_a_sentence_that_names_the_processor(cuda, integers):
    step, _ = integers
    cuda.memory = 20 << 10
    with pytest.raises(P2Error, match=r"^the GPU is out of memory: .*; --backend native or onnxruntime-cpu"):
        cuda.open(step)
    assert (cuda.used(), cuda.streams) == (0, 0)
    cuda.memory = 1 << 20
    engine = cuda.open(step)
    with pytest.raises(P2Error, match="the GPU is out of memory"):
        engine.zero_state(4000)


def test_how_a_model_is_shared_is_measured_once(cuda, integers, monkeypatch):
    step, definition = integers
    options = [(16, 0), (32, 0), (8, 16), (7, 0)]  # the third has more clusters than there is room for
    monkeypatch.setattr(geometry, "choices", lambda *_: options)
    plan = geometry.plan
    unfit = lambda *given: None if given[3] == (7, 0) else plan(*given)  # noqa: E731
    monkeypatch.setattr(geometry, "plan", unfit)

    def seconds_per_step(steps):
        steps(2)
        return {2: 1.0, 1: 0.5}[cuda.ran[-1].grid]

    monkeypatch.setattr(engine_module.tuning, "seconds_per_step", seconds_per_step)
    for compilations in (3, 1):
        cuda.compilations.clear()
        engine = cuda.open(step)
        text = engine.draw(engine.zero_state(1), first(1, step.card), Address(7, [0], 0), 20, Sampling())
        np.testing.assert_array_equal(text, by_hand(definition, [0], 20, Sampling(), position=0)[0])
        assert cuda.ran[-1].grid == 1  # 32 units in a block
        assert len({str(defines) for defines in cuda.compilations}) == compilations
        held = cuda.used()
        engine.close()
    assert held < 200 << 10


def test_many_texts_have_a_grid_where_few_have_a_cluster(cuda, integers, monkeypatch):
    step, definition = integers
    monkeypatch.setattr(geometry, "STREAMS", (1, 16))
    monkeypatch.setattr(engine_module, "_options", lambda *_: [(16, 2)])
    engine = cuda.open(step)
    streams = list(range(12))
    wanted, states, _ = by_hand(definition, streams, 9, Sampling(), position=0)
    for some, cluster in ([0], 2), (streams, 0):
        state = engine.zero_state(len(some))
        last = first(len(some), step.card)
        text = engine.draw(state, last, Address(7, some, 0), 9, Sampling())
        np.testing.assert_array_equal(text, wanted[some])
        for name, values in engine.snapshot(state).items():
            np.testing.assert_array_equal(values, states[name][some])
        assert cuda.compilations[-1]["CLUSTER"] == cluster


HOPPER = nvidia.Gpu("NVIDIA Test", (9, 0), 80 << 30, 132, 227 << 10)


@pytest.mark.parametrize(
    ("gpu", "changes", "reason"),
    [
        (HOPPER, {}, None),
        (None, {}, "it needs an NVIDIA GPU, and no NVIDIA driver is installed"),
        (
            nvidia.Gpu("NVIDIA Old", (7, 0), 16 << 30, 80, 96 << 10),
            {},
            "it needs a GPU of compute capability 7.5 or newer, and this NVIDIA Old has 7.0",
        ),
        (HOPPER, {"layers": 17}, "it has 17 layers, and the decoder takes 16 at most"),
        (
            nvidia.Gpu("NVIDIA Small", (7, 5), 16 << 30, 40, 64 << 10),
            {"hidden": 1 << 14, "precision": "float32", "layers": 1, "cell": "rnn"},
            "this GPU is too small for a model of hidden size 16384: a multiprocessor has 64 KiB of shared"
            " memory",
        ),
    ],
    ids=["a GPU", "no GPU", "an old GPU", "layers", "a small GPU"],
)
def test_what_it_cannot_run_is_said_before_anything_is_loaded(gpu, changes, reason, monkeypatch, integers):
    step, _ = integers
    found = nvidia.Gpus(() if gpu is None else (gpu,), "580.1", (13, 0), "no NVIDIA driver is installed")
    monkeypatch.setattr(nvidia, "gpus", lambda: found)
    card = step.card.with_(**changes)
    step = type(step)(step.path, card, step.graph, step.opset, step.float_type, as_traced=True)
    if card.precision == "float32":
        monkeypatch.setattr(packing, "kind_of", lambda *_: geometry.FLOAT32)
    assert why_not(step) == reason
    monkeypatch.setattr(engine_module, "Device", None)
    if reason and "too small" not in reason:
        with pytest.raises(BackendMissing) as caught:
            open_cuda(step)
        assert str(caught.value) == (
            f"the CUDA decoder cannot run made.onnx: {reason}; --backend native or onnxruntime-cpu runs the"
            " file on the processor"
        )


def test_a_launch_takes_as_many_texts_as_there_are_or_as_fit():
    card = make_card(precision="int8")
    limits = geometry.Limits(132, 227 << 10, 90)
    for batch in (1, 2, 3, 8, 9, 64, 65, 1000):
        found = geometry.largest(card, limits, batch, (16, 0), geometry.kind_of(card, limits))
        assert found.streams == min(64, 1 << math.ceil(math.log2(batch)))
