"""The choice of a character in the kernels is `contract.sampling.choose`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling, choose, scale_noise

from .memory import Memory
from .test_kernels import Case, decoder_of, step_of_case

COUNT = 6

# A warp chooses for each text, or a block does.
WARP, BLOCK = Case("float32", "rnn", 1, 8, 31, 2, 2, 4), Case("float32", "rnn", 1, 8, 1100, 2, 2, 4)


def samplings(vocab):
    return st.builds(
        Sampling,
        temperature=st.sampled_from([1.0, 0.0, 0.5, 1.7, 1e-3, 100.0]),
        top_k=st.integers(0, 9) | st.integers(0, vocab + 1),
        top_p=st.just(1.0) | st.floats(0.001, 1.0),
        min_p=st.just(0.0) | st.floats(0.0, 0.999),
    )


def choices(logits, noise, sampling):
    """What may be chosen: a probability that equals a bound up to its rounding lies on either side of it."""
    for scale in (1, 1 - 1e-5, 1 + 1e-5):
        bounds = replace(sampling, top_p=min(1.0, sampling.top_p * scale), min_p=sampling.min_p * scale)
        yield choose(logits, noise, bounds)


@pytest.mark.parametrize("case", [WARP, BLOCK], ids=["warp", "block"])
def test_every_setting(case, kernels_of):
    step = step_of_case(case)

    @settings(max_examples=40 if case is WARP else 12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        each=st.tuples(samplings(case.vocab), samplings(case.vocab)),
        steps=st.sampled_from([0, 1, 2, 64]),
        spread=st.sampled_from([0.0, 0.5, 3.0, 1e4]),
        seed=st.integers(0, 1000),
    )
    @example(each=(Sampling(0), Sampling(1.0, top_k=1)), steps=1, spread=0.5, seed=3)
    @example(each=(Sampling(top_p=0.5), Sampling(min_p=0.5)), steps=0, spread=0.0, seed=1)
    def check(each, steps, spread, seed):
        memory = Memory()
        decoder = decoder_of(case, step, kernels_of, memory)
        logits = np.random.default_rng(seed).standard_normal(case.vocab) * spread
        if steps:  # so that some are alike
            logits = np.rint(logits * steps) / steps
        logits = logits.astype(np.float32)
        decoder.predict(logits)
        noise = gumbel(seed, (0, 1), 0, COUNT, case.vocab)
        for row, sampling in enumerate(each):
            scale_noise(noise[:, row], sampling)
        text = decoder.write(decoder.zero_state(2), np.array([0, 1]), noise, COUNT, each, seed=seed)
        memory.check()
        for row, sampling in enumerate(each):
            rows = np.broadcast_to(logits, (COUNT, case.vocab))
            allowed = np.array(list(choices(rows, noise[:, row], sampling)))
            assert (allowed == text[row]).any(axis=0).all()

    check()


@pytest.mark.parametrize("case", [WARP, BLOCK], ids=["warp", "block"])
def test_both_zeros_are_alike_and_the_lowest_of_equals_is_chosen(case, kernels_of, memory):
    decoder = decoder_of(case, step_of_case(case), kernels_of, memory)
    logits = np.full(case.vocab, -1, np.float32)
    logits[[5, 9, 20]] = [-0.0, 0.0, 0.0]
    decoder.predict(logits)
    noise = np.zeros((COUNT, 2, case.vocab), np.float32)
    noise[:, :, 9] = 0.5
    noise[:, :, 20] = 0.5
    each = Sampling(0), Sampling(1.0, top_k=1)
    noise[:, 0] = 0
    text = decoder.write(decoder.zero_state(2), np.array([0, 1]), noise, COUNT, each)
    assert text.tolist() == [[5] * COUNT, [9] * COUNT]


@pytest.mark.parametrize("case", [WARP, BLOCK], ids=["warp", "block"])
def test_the_most_probable_one_alone_in_any_order_of_threads(case, kernels_of, memory):
    decoder = decoder_of(case, step_of_case(case), kernels_of, memory)
    noise = np.zeros((COUNT, 2, case.vocab), np.float32)
    for seed in range(16):
        logits = np.random.default_rng(seed).standard_normal(case.vocab).astype(np.float32)
        decoder.predict(logits)
        each = Sampling(top_k=1), Sampling(top_p=0.001)
        text = decoder.write(decoder.zero_state(2), np.array([0, 1]), noise, COUNT, each, seed=seed)
        assert (text == logits.argmax()).all()
