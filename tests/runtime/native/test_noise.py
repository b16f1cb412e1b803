"""Noise that the compiled decoder makes itself: the texts are those of the definition's noise."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.contract.noise import Address, first_tokens, gumbel, words
from p2.contract.sampling import Sampling, scale_noise
from p2.runtime import native
from p2.runtime.decoder import Decoder
from p2.runtime.native import binding
from p2.runtime.native.engine import NativeEngine
from p2.runtime.onnx_tensors import Tensor
from p2.runtime.step_file import open_step

pytestmark = pytest.mark.skipif(
    not native.available(), reason="the decoder was not compiled, or this processor has none of its levels"
)

# What is left of it is for the rounding of the noise and of its product with the temperature.
HEADER = (Path(native.__file__).parent / "noise.h").read_text()
NOISE_ERROR = float.fromhex(re.search(r"#define NOISE_ERROR (\S+)f\n", HEADER)[1])

VOCABULARIES = [2, 16, 30, 65]


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """On one to three threads, with vocabularies of a part of a vector, of one, and of more than a panel."""
    from tests.conftest import make_card, step_bytes

    made = {}
    for vocab in VOCABULARIES:
        path = tmp_path_factory.mktemp("steps") / "charlm.onnx"
        vocabulary = "".join(chr(ord("A") + index) for index in range(vocab))
        path.write_bytes(step_bytes(make_card("gru", vocabulary=vocabulary)))
        made |= {(vocab, threads): NativeEngine(open_step(path), threads) for threads in (1, 2, 3)}
    return made


def in_full(engine, last, address, count, sampling):
    """What it writes with the definition's noise."""
    noise = scale_noise(gumbel(*address, count, engine.card.vocab), sampling)
    state = engine.zero_state(len(last))
    return engine.decode(state, last, noise, sampling), state


@settings(max_examples=60, deadline=None)
@given(
    vocab=st.sampled_from(VOCABULARIES),
    threads=st.integers(1, 3),
    streams=st.lists(st.integers(0, 2**64), min_size=1, max_size=9),
    seed=st.integers(-(2**70), 2**70),
    position=st.one_of(st.integers(0, 100), st.integers(2**61, 2**63)),
    count=st.integers(0, 40),
    division=st.sampled_from([binding.PANELS, binding.TEXTS]),
    sampling=st.sampled_from(
        [
            Sampling(),
            Sampling(0.6),
            Sampling(2.5),
            Sampling(0.0),
            Sampling(0.8, top_k=4),
            Sampling(1.4, 0, 0.7, 0.02),
        ]
    ),
)
def test_texts_are_those_of_noise_that_is_handed_over(
    vocab, threads, streams, seed, position, count, division, sampling, engines
):
    engine = engines[vocab, threads]
    engine._division = lambda *_: division
    address = Address(seed, streams, position)
    last = np.arange(len(streams)) % vocab
    state = engine.zero_state(len(streams))
    found = engine.draw(state, last, address, count, sampling)
    wanted, reached = in_full(engine, last, address, count, sampling)
    np.testing.assert_array_equal(found, wanted)
    assert all(np.array_equal(state[name], reached[name]) for name in state)


def test_the_decoder_lets_it_draw(engines, monkeypatch):
    engine = engines[30, 1]
    decoder = Decoder(engine, Sampling(0.9), seed=3, streams=(5, 2))
    monkeypatch.setattr(engine, "decode", lambda *_: pytest.fail("noise was handed over"))
    found = np.concatenate([decoder.write(11), decoder.write(30)], axis=1)
    monkeypatch.undo()
    first = first_tokens(3, (5, 2), 30)
    rest, _ = in_full(engine, first, Address(3, (5, 2), 1), 40, Sampling(0.9))
    np.testing.assert_array_equal(found, np.concatenate([first[:, None], rest], axis=1))


@pytest.mark.parametrize("height", [0.0, 3e4, 1e6, 3e7])
@pytest.mark.parametrize("temperature", [1e-6, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("threads", [1, 2])
def test_close_scores_are_told_apart_as_float32_does(height, temperature, threads, card_of, write_step):
    """High equal logits leave few bits for the noise: many characters tie, and the first of them is taken."""
    card = card_of("rnn", layers=1)
    step = open_step(write_step(card))
    names = [name for name in step.graph.tensors if name.endswith("out")]
    changed = {name: np.zeros_like(step.graph.tensors[name].array()) for name in names}
    bias = next(name for name, array in changed.items() if array.ndim == 1)
    changed[bias] += np.float32(height)
    tensors = step.graph.tensors | {name: Tensor.of(name, array) for name, array in changed.items()}
    engine = NativeEngine(replace(step, graph=replace(step.graph, tensors=tensors)), threads)
    sampling, address = Sampling(temperature), Address(1, (0, 9), 0)
    logits = engine.feed(engine.zero_state(1), np.array([[0]]), logits=True)
    assert np.all(logits == np.float32(height))
    found = engine.draw(engine.zero_state(2), np.array([0, 1]), address, 200, sampling)
    np.testing.assert_array_equal(found, in_full(engine, np.array([0, 1]), address, 200, sampling)[0])
    if height == 3e7 and temperature < 1:
        assert not found.any()


def test_scores_closer_than_the_approximation_are_told_apart_by_exact_noise(card_of, write_step):
    """Of two characters the approximate noise favours one, and by less the logits the other."""
    step, seed = open_step(write_step(card_of("rnn", layers=1))), 3
    vocab, zeros = step.card.vocab, np.zeros(step.graph.tensors["w_out"].shape, np.float32)
    drawn, exact = words(seed, 0, 0, 3000, vocab), gumbel(seed, (0,), 0, 3000, vocab)[:, 0]
    near = binding.approximate_noise(drawn.reshape(-1)).reshape(drawn.shape)
    error, rows = near - exact, np.arange(len(drawn))
    favoured, other = error.argmax(axis=1), error.argmin(axis=1)
    gap = error[rows, favoured] - error[rows, other]
    raised = exact[rows, favoured] - exact[rows, other] + gap / 2
    right = raised + exact[rows, other] > exact[rows, favoured]
    wrong = near[rows, favoured] > raised + near[rows, other]
    found = np.flatnonzero(right & wrong)
    assert len(found) > 100
    for position in found[:4].tolist():
        logits = np.full(vocab, -100, np.float32)
        logits[favoured[position]], logits[other[position]] = 0, raised[position]
        changed = {"w_out": Tensor.of("w_out", zeros), "b_out": Tensor.of("b_out", logits)}
        tensors = step.graph.tensors | changed
        engine = NativeEngine(replace(step, graph=replace(step.graph, tensors=tensors)), 1)
        chosen = engine.draw(
            engine.zero_state(1), np.array([0]), Address(seed, (0,), position), 1, Sampling()
        )
        assert chosen == other[position]


def test_approximate_noise_is_near_enough():
    """At both ends, around the half where the formula changes, around powers of two, and at random."""
    rng = np.random.default_rng(0)
    ends = np.concatenate([np.arange(1 << 18), 2**32 - 1 - np.arange(1 << 18)])
    around = [2**power + offset for power in range(10, 32) for offset in range(-512, 512)]
    words = np.concatenate([ends, around, rng.integers(0, 2**32, 1 << 20)]).astype(np.uint32)
    exact = -np.log(-np.log((words.astype(np.float64) + 0.5) / 2.0**32))
    error = np.abs(binding.approximate_noise(words) - exact)
    assert error.max() < NOISE_ERROR / 4
