"""The loop on the device: many characters in one launch, the same as step by step."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2.contract.errors import P2Error
from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling, choose, scale_noise
from p2.runtime.tensorrt import device_loop
from p2.runtime.tensorrt import engine as plan_engine

from ..cuda_double import GraphBuilder

SAMPLINGS = [
    Sampling(0),
    Sampling(),
    Sampling.from_tau(2),
    Sampling(temperature=0.7, top_k=3),
    Sampling(temperature=1.5, top_p=0.8),
    Sampling(min_p=0.1),
    Sampling(temperature=2, top_k=7, top_p=0.9, min_p=0.02),
]


STEPS = device_loop.STEPS


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(device_loop, "STEPS", 4)
    monkeypatch.setattr(device_loop, "_CHUNK", 2)
    monkeypatch.setattr(plan_engine, "READ", 6)


def noise_for(batch, count, vocab, sampling, seed=5):
    return scale_noise(gumbel(seed, tuple(range(batch)), 0, count, vocab), sampling)


def expected(model, state, token, noise, sampling):
    """Advance a numpy state; what the definition chooses, int64 [batch, count]."""
    written = []
    for row in noise:
        token = choose(model.step(state, token).astype(np.float32), row, sampling)
        written.append(token)
    return np.stack(written, axis=1)


def assert_state(engine, state, model_state):
    for name, values in engine.snapshot(state).items():
        np.testing.assert_allclose(values, model_state[name], atol=1e-6)


def test_a_launch_ends_where_the_next_one_begins():
    # With an odd number of steps the state would be in the other set of buffers.
    assert STEPS % 2 == 0


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
@pytest.mark.parametrize("batch", [1, 3])
def test_writes_what_the_definition_chooses(sampling, batch, bench, numpy_model):
    b = bench()
    model, first = numpy_model(b.engine.card), np.arange(batch) + 1
    noise = noise_for(batch, 22, b.engine.card.vocab, sampling)
    state, model_state = b.engine.zero_state(batch), model.zero(batch)
    np.testing.assert_array_equal(
        b.engine.decode(state, first, noise, sampling), expected(model, model_state, first, noise, sampling)
    )
    assert b.cuda.launches == 5
    assert_state(b.engine, state, model_state)


def test_every_cell(cell, bench, card_of, numpy_model):
    card = card_of(*cell)
    b = bench(card)
    noise = noise_for(2, 9, card.vocab, Sampling())
    model = numpy_model(card)
    written = b.engine.decode(b.engine.zero_state(2), np.array([3, 4]), noise, Sampling())
    np.testing.assert_array_equal(
        written, expected(model, model.zero(2), np.array([3, 4]), noise, Sampling())
    )


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("length", [6, 8, 21])
@pytest.mark.parametrize("logits", [False, True])
def test_long_texts_are_read_in_launches(flavour, batch, length, logits, bench, numpy_model):
    b, steps = bench(flavour=flavour), bench(flavour=flavour, step_by_step=True)
    recorded = batch == 1 or flavour == "tensorrt"  # TensorRT-RTX would compile for a batch of many
    model, vocab = numpy_model(b.engine.card), b.engine.card.vocab
    texts = np.random.default_rng(length).integers(0, vocab, (2, batch, length))
    state, model_state, other = b.engine.zero_state(batch), model.zero(batch), steps.engine.zero_state(batch)
    for text in texts:
        read = b.engine.feed(state, text, logits=logits)
        by_step = steps.engine.feed(other, text, logits=logits)
        wanted = np.stack([model.step(model_state, column) for column in text.T], axis=1)
        if logits:
            np.testing.assert_allclose(read, wanted, atol=1e-5)
            np.testing.assert_array_equal(read, by_step)
        else:
            assert read is None
        assert_state(b.engine, state, model_state)
    assert b.cuda.launches == (2 * (length // 4) if recorded else 0)
    first = np.arange(batch)
    noise = noise_for(batch, 9, vocab, Sampling())
    np.testing.assert_array_equal(
        b.engine.decode(state, first, noise, Sampling()),
        expected(model, model_state, first, noise, Sampling()),
    )
    assert b.cuda.graphs == (2 if recorded else 1)
    b.cuda.launches = 0
    b.engine.feed(state, texts[0])  # the loop of this batch is there now
    assert b.cuda.launches == length // 4


def test_the_host_waits_once_for_many_launches_of_known_text(bench):
    b = bench()
    state, text = b.engine.zero_state(1), np.zeros((1, 40), np.int64)
    b.engine.feed(state, text)
    b.cuda.waits, b.cuda.launches, enqueued = 0, 0, len(b.trt.steps)
    b.engine.feed(state, text)
    assert (b.cuda.waits, b.cuda.launches) == (5, 10)  # a chunk is two launches
    assert len(b.trt.steps) == enqueued


def test_short_texts_are_not_worth_a_recording(bench):
    b = bench()
    b.engine.feed(b.engine.zero_state(1), np.zeros((1, 5), np.int64))
    assert b.cuda.graphs == 0


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_step_by_step_writes_the_same_and_launches_nothing(sampling, bench):
    loop, steps = bench(), bench(step_by_step=True)
    noise = noise_for(2, 13, loop.engine.card.vocab, sampling)
    written = [
        b.engine.decode(b.engine.zero_state(2), np.array([3, 4]), noise, sampling) for b in (loop, steps)
    ]
    np.testing.assert_array_equal(*written)
    assert loop.cuda.launches == 3  # both engines are on the same GPU


def test_a_plan_that_does_not_choose_is_decoded_step_by_step(bench, numpy_model):
    b = bench(chooses=False)
    noise = noise_for(1, 9, b.engine.card.vocab, Sampling())
    model = numpy_model(b.engine.card)
    np.testing.assert_array_equal(
        b.engine.decode(b.engine.zero_state(1), np.array([3]), noise, Sampling()),
        expected(model, model.zero(1), np.array([3]), noise, Sampling()),
    )
    assert b.cuda.launches == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_an_older_tensorrt_has_shorter_integers(batch, bench, numpy_model):
    b = bench(flavour="tensorrt", integer="INT32")
    model, first = numpy_model(b.engine.card), np.arange(batch) + 1
    known = np.random.default_rng(0).integers(0, b.engine.card.vocab, (batch, 5))
    state, model_state = b.engine.zero_state(batch), model.zero(batch)
    b.engine.feed(state, known)
    for column in known.T:
        model.step(model_state, column)
    noise = noise_for(batch, 9, b.engine.card.vocab, Sampling())
    written = b.engine.decode(state, first, noise, Sampling())
    np.testing.assert_array_equal(written, expected(model, model_state, first, noise, Sampling()))
    assert written.dtype == np.int64
    assert_state(b.engine, state, model_state)


def test_the_host_waits_once_for_all_the_characters(bench):
    b = bench()
    state, noise = b.engine.zero_state(1), noise_for(1, 40, b.engine.card.vocab, Sampling())
    b.engine.decode(state, np.array([3]), noise[:4], Sampling())
    b.cuda.waits, enqueued = 0, len(b.trt.steps)
    b.engine.decode(state, np.array([3]), noise, Sampling())
    assert (b.cuda.waits, b.cuda.launches) == (2, 11)  # and once for the state, to see that it is one
    assert len(b.trt.steps) == enqueued  # TensorRT itself is not called any more


def test_a_step_never_writes_what_it_or_the_next_one_reads(bench):
    b = bench()
    b.engine.decode(
        b.engine.zero_state(1), np.array([3]), noise_for(1, 4, b.engine.card.vocab, Sampling()), Sampling()
    )
    recorded = [step["addresses"] for step in b.trt.steps[-4:]]
    for name in b.engine.card.state_names:
        ins, outs = ([step[f"{name}_{end}"] for step in recorded] for end in ("in", "out"))
        assert outs[:-1] == ins[1:]
        assert outs[-1] == ins[0]  # the next launch goes on from there
        assert len(set(ins)) == 2
    assert [step["token"] for step in recorded[1:]] == [step["next"] for step in recorded[:-1]]
    assert len({step["noise"] for step in recorded}) == 4


@pytest.mark.parametrize("reads", [False, True])
def test_capture_leaves_every_state_as_it_was(reads, bench, numpy_model):
    b = bench()
    state, other = b.engine.zero_state(1), b.engine.zero_state(1)
    b.engine.feed(state, np.array([[1, 2, 3]]))
    b.engine.feed(other, np.array([[4, 5, 6]]))
    loop, before = b.engine._loop_for(1), b.engine.snapshot(state)
    loop._record(reads)
    for name, values in b.engine.snapshot(state).items():
        np.testing.assert_array_equal(values, before[name])
    assert b.cuda.launches == 0
    model = numpy_model(b.engine.card)
    for one, tokens in ((state, [1, 2, 3]), (other, [4, 5, 6])):
        model_state = model.zero(1)
        for token in tokens:
            model.step(model_state, np.array([token]))
        noise = noise_for(1, 8, b.engine.card.vocab, Sampling())
        written = b.engine.decode(one, np.array([7]), noise, Sampling())
        np.testing.assert_array_equal(written, expected(model, model_state, np.array([7]), noise, Sampling()))
        assert_state(b.engine, one, model_state)


def test_a_capture_that_runs_the_step_is_found_out(bench):
    b = bench(spills=True)
    noise = noise_for(1, 4, b.engine.card.vocab, Sampling())
    with pytest.raises(P2Error, match="recording the CUDA graph has run the step and changed the state"):
        b.engine.decode(b.engine.zero_state(1), np.array([3]), noise, Sampling())
    with pytest.raises(P2Error, match="recording the CUDA graph has run the step and changed the state"):
        b.engine.feed(b.engine.zero_state(1), np.zeros((1, 6), np.int64))
    b.engine.close()
    assert b.cuda.used() == 0


def test_a_step_that_cannot_be_recorded_is_one_sentence_and_the_stream_goes_on(bench, monkeypatch):
    b = bench()
    state = b.engine.zero_state(1)
    noise = noise_for(1, 4, b.engine.card.vocab, Sampling())
    begin = GraphBuilder.begin_building

    def refuse(builder, mode):
        b.trt.refuses.add("execute")
        return begin(builder, mode)

    monkeypatch.setattr(GraphBuilder, "begin_building", refuse)
    with pytest.raises(P2Error, match=r"could not run a step .*enqueueV3: Error Code 3"):
        b.engine.decode(state, np.array([3]), noise, Sampling())
    b.trt.refuses.clear()
    assert b.cuda.recording is None
    assert b.cuda.graphs == 0
    assert b.engine.decode(state, np.array([3]), noise[:3], Sampling()).shape == (1, 3)


def test_out_of_memory_is_one_sentence_and_smaller_batches_go_on(bench):
    b = bench()
    state, small = b.engine.zero_state(8), b.engine.zero_state(1)
    b.cuda.memory = b.cuda.used() + 8000
    noise = noise_for(8, 1, b.engine.card.vocab, Sampling())
    with pytest.raises(P2Error, match="the GPU is out of memory"):
        b.engine.decode(state, np.zeros(8, np.int64), noise, Sampling())
    b.cuda.memory = 1 << 28
    assert b.engine.decode(small, np.array([1]), noise[:, :1], Sampling()).shape == (1, 1)


def test_batches_take_turns_without_piling_up(bench, numpy_model):
    b = bench()
    model = numpy_model(b.engine.card)
    states = {batch: (b.engine.zero_state(batch), model.zero(batch)) for batch in (1, 4)}
    used = set()
    for turn in range(6):
        batch = (1, 4)[turn % 2]
        state, model_state = states[batch]
        noise = noise_for(batch, 9, b.engine.card.vocab, Sampling(), seed=turn)
        first = np.full(batch, turn)
        np.testing.assert_array_equal(
            b.engine.decode(state, first, noise, Sampling()),
            expected(model, model_state, first, noise, Sampling()),
        )
        if turn >= 2:
            used.add((batch, b.cuda.used()))
    assert len(used) == 2
    assert b.cuda.graphs == 1


def test_close_gives_everything_back_in_the_right_order(bench):
    b = bench()
    noise = noise_for(1, 4, b.engine.card.vocab, Sampling())
    b.engine.decode(b.engine.zero_state(1), np.array([3]), noise, Sampling())
    b.engine.feed(b.engine.zero_state(1), np.array([[3]]))
    b.engine.close()
    gc.collect()
    assert (b.cuda.used(), b.cuda.streams, b.cuda.graphs) == (0, 0, 0)
    assert b.trt.gone == ["context", "context", "engine", "runtime"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("feed"), st.integers(0, 2), st.integers(0, 9)),
            st.tuples(st.just("decode"), st.integers(0, 2), st.integers(0, 13)),
            st.tuples(st.just("restore"), st.integers(0, 2), st.integers(0, 2)),
        ),
        max_size=12,
    ),
    st.integers(0, 2**32),
)
def test_any_mix_of_calls_on_several_states_matches_numpy(bench, numpy_model, card_of, calls, seed):
    card = card_of("gru", layers=2, hidden=5)
    b = bench(card)
    rng, model = np.random.default_rng(seed), numpy_model(card)
    batches = [1, 4, 1]
    states = [b.engine.zero_state(batch) for batch in batches]
    models = [model.zero(batch) for batch in batches]
    for kind, which, argument in calls:
        if kind == "feed":
            tokens = rng.integers(0, card.vocab, (batches[which], argument))
            b.engine.feed(states[which], tokens)
            for column in tokens.T:
                model.step(models[which], column)
        elif kind == "decode":
            noise = rng.gumbel(size=(argument, batches[which], card.vocab)).astype(np.float32)
            first = rng.integers(0, card.vocab, batches[which])
            written = b.engine.decode(states[which], first, noise, Sampling())
            if argument:
                np.testing.assert_array_equal(
                    written, expected(model, models[which], first, noise, Sampling())
                )
        else:
            states[which] = b.engine.restore(b.engine.snapshot(states[argument]))
            models[which] = {name: values.copy() for name, values in models[argument].items()}
            batches[which] = batches[argument]
        assert_state(b.engine, states[which], models[which])
    b.engine.close()
    assert b.cuda.used() == 0
