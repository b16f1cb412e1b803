"""The ONNX Runtime engine against the equations written out in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from p2.contract.agreement import LIMITS, agreement
from p2.contract.card import PRECISIONS
from p2.contract.engine import Engine
from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling, choose, scale_noise
from p2.runtime.decoder import Decoder
from p2.runtime.onnxruntime.engine import open_onnx


def test_keeps_the_protocol(card_of, write_step):
    assert isinstance(open_onnx(write_step(card_of())), Engine)


@pytest.mark.parametrize("layers", [1, 3])
def test_feed_says_what_the_equations_say(cell, layers, card_of, write_step, numpy_model):
    card = card_of(*cell, layers=layers)
    tokens = np.random.default_rng(1).integers(0, card.vocab, (3, 60))
    engine = open_onnx(write_step(card))
    logits = engine.feed(engine.zero_state(3), tokens, logits=True)
    np.testing.assert_allclose(logits, numpy_model(card).run(tokens), atol=2e-4)


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_smaller_precisions_stay_within_their_limits(cell, precision, card_of, write_step, numpy_model):
    card = card_of(*cell, hidden=40, precision=precision)  # 40: the last block of 32 is a short one
    tokens = np.random.default_rng(1).integers(0, card.vocab, (2, 100))
    engine = open_onnx(write_step(card))
    logits = engine.feed(engine.zero_state(2), tokens, logits=True)
    measured = agreement(numpy_model(card).run(tokens), logits)
    assert measured.within(LIMITS[precision]), measured
    assert measured.max_abs > 1e-5  # it really is another precision


SETTINGS = [
    Sampling(0),
    Sampling(1.0),
    Sampling.from_tau(0.5),
    Sampling.from_tau(2.0),
    Sampling(top_k=3),
    Sampling(top_p=0.7),
    Sampling(min_p=0.2),
    Sampling(0.8, top_k=8, top_p=0.9, min_p=0.02),
    Sampling(top_k=10_000),
]


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
def test_decode_writes_what_the_definition_chooses(sampling, cell, card_of, write_step, numpy_model):
    card = card_of(*cell)
    engine = open_onnx(write_step(card))
    first = np.array([3, 17], np.int64)
    noise = scale_noise(gumbel(7, (0, 1), 0, 120, card.vocab), sampling)
    model = numpy_model(card)
    state, token, expected = model.zero(2), first, []
    for now in noise:
        token = choose(model.step(state, token).astype(np.float32), now, sampling)
        expected.append(token)
    written = engine.decode(engine.zero_state(2), first, noise, sampling)
    np.testing.assert_array_equal(written, np.stack(expected, axis=1))


def test_text_depends_neither_on_the_batch_nor_on_the_cutting(card_of, write_step):
    engine = open_onnx(write_step(card_of()))
    sampling = Sampling(0.9)
    together = Decoder(engine, sampling, seed=5, streams=range(4)).write(150)
    alone = Decoder(engine, sampling, seed=5, streams=(2,))
    pieces = [alone.write(n) for n in (1, 7, 0, 64, 78)]
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1)[0], together[2])


def test_snapshot_goes_on_from_the_middle(cell, card_of, write_step):
    engine = open_onnx(write_step(card_of(*cell)))
    decoder = Decoder(engine, Sampling(), seed=3)
    decoder.write(40)
    kept = decoder.snapshot()
    expected = decoder.write(60)
    decoder.write(5)
    other = Decoder(engine, Sampling(), seed=3)
    other.restore(kept)
    np.testing.assert_array_equal(other.write(60), expected)


def test_feeding_a_prompt_is_the_same_as_feeding_it_in_pieces(card_of, write_step):
    engine = open_onnx(write_step(card_of()))
    tokens = np.random.default_rng(0).integers(0, 30, (1, 50))
    whole, pieces = Decoder(engine, Sampling(), 1), Decoder(engine, Sampling(), 1)
    whole.prompt(tokens)
    for part in np.split(tokens, [1, 2, 30], axis=1):
        pieces.prompt(part)
    np.testing.assert_array_equal(whole.write(80), pieces.write(80))


def test_zero_characters_and_an_empty_prompt_change_nothing(card_of, write_step):
    engine = open_onnx(write_step(card_of()))
    state = engine.zero_state(2)
    assert engine.feed(state, np.zeros((2, 0), np.int64)) is None
    assert engine.feed(state, np.zeros((2, 0), np.int64), logits=True).shape == (2, 0, 30)
    none = engine.decode(state, np.zeros(2, np.int64), np.zeros((0, 2, 30), np.float32), Sampling())
    assert none.shape == (2, 0)
    assert all(not array.any() for array in state.values())
