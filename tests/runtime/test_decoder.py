"""The decoder: texts of different lengths begun together, and rows that leave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2.contract.noise import first_tokens, gumbel
from p2.contract.sampling import Sampling
from p2.runtime.decoder import Decoder, read_texts
from p2.runtime.onnxruntime.engine import OnnxEngine, open_onnx


class Watched:
    """Passes everything on to an engine and keeps the shapes of what was fed."""

    def __init__(self, engine: OnnxEngine) -> None:
        self.card, self.name, self._engine = engine.card, engine.name, engine
        self.zero_state, self.decode = engine.zero_state, engine.decode
        self.snapshot, self.restore, self.close = engine.snapshot, engine.restore, engine.close
        self.fed: list[tuple[int, int]] = []

    def feed(self, state, tokens, *, logits=False):
        self.fed.append(tokens.shape)
        return self._engine.feed(state, tokens, logits=logits)


@pytest.fixture
def engine(card_of, write_step):
    return Watched(open_onnx(write_step(card_of("gru", layers=2))))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(texts=st.lists(st.lists(st.integers(0, 29), max_size=12), min_size=1, max_size=9))
def test_each_row_is_the_state_that_its_text_leaves(engine, numpy_model, texts):
    rows = [np.array(text, np.int64) for text in texts]
    found = engine.snapshot(read_texts(engine, rows))
    model = numpy_model(engine.card)
    for row, text in enumerate(rows):
        state = model.zero(1)
        for token in text:
            model.step(state, np.array([token]))
        for name, values in state.items():
            np.testing.assert_allclose(found[name][row], values[0], atol=1e-4)


def test_rows_advance_together_and_equal_texts_are_read_once(engine):
    texts = [
        np.array(text, np.int64) for text in ([1, 2, 3, 4, 5], [7], [1, 2, 3, 4, 5], [8], [9, 9, 9], [7])
    ]
    found = engine.snapshot(read_texts(engine, texts))
    assert engine.fed == [(4, 1), (2, 2), (1, 2)]
    for row, text in enumerate(texts):
        for name, values in engine.snapshot(read_texts(engine, [text])).items():
            np.testing.assert_allclose(found[name][row], values[0], atol=1e-6)


def test_texts_begun_together_go_on_as_each_alone(engine):
    texts = [np.array(text, np.int64) for text in ([3], [1, 2, 3], [3], [5, 6])]
    together = Decoder(engine, Sampling(), seed=5, streams=(4, 7, 9, 1))
    together.begin(texts)
    written = together.write(80)
    for row, (text, stream) in enumerate(zip(texts, (4, 7, 9, 1), strict=True)):
        alone = Decoder(engine, Sampling(), seed=5, streams=(stream,))
        alone.prompt(text[None])
        np.testing.assert_array_equal(alone.write(80)[0], written[row])


def test_a_first_character_that_is_drawn_takes_a_position(engine):
    vocab, streams = engine.card.vocab, (4, 7)
    first = first_tokens(5, streams, vocab)
    noise = gumbel(5, streams, 1, 30, vocab)
    rest = engine.decode(engine.zero_state(2), first, noise, Sampling())
    written = Decoder(engine, Sampling(), seed=5, streams=streams).write(31)
    np.testing.assert_array_equal(written, np.hstack([first[:, None], rest]))


@pytest.mark.parametrize("before", [0, 1, 30])
def test_rows_that_are_kept_write_on_and_the_others_do_not_matter(engine, before):
    whole = Decoder(engine, Sampling(), seed=2, streams=range(6)).write(before + 40)
    decoder = Decoder(engine, Sampling(), seed=2, streams=range(6))
    decoder.write(before)
    decoder.keep([4, 1])
    assert decoder.streams == (4, 1)
    np.testing.assert_array_equal(decoder.write(40), whole[[4, 1], before:])


def test_noise_follows_the_position_wherever_a_snapshot_puts_it(engine):
    decoder = Decoder(engine, Sampling(), seed=3, streams=(0, 5))
    decoder.write(10)
    kept = decoder.snapshot()
    expected = decoder.write(20)
    decoder.write(7)
    decoder.restore(kept)
    np.testing.assert_array_equal(decoder.write(20), expected)
