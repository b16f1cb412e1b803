"""Text as it is written: prompts, stop strings, samples, lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p2.contract.codec import Codec, UnknownCharacter
from p2.contract.errors import UsageError
from p2.contract.sampling import Sampling
from p2.runtime import printing
from p2.runtime.decoder import Decoder
from p2.runtime.generate import (
    MAX_SAMPLES,
    PIECE_CHARACTERS,
    Cutter,
    PieceWriter,
    Request,
    generate,
    sampling_of,
)
from p2.runtime.onnxruntime.engine import open_onnx


@pytest.fixture
def engine(card_of, write_step):
    return open_onnx(write_step(card_of("gru", layers=1)))


def text_of(engine, **settings) -> str:
    return "".join(generate(engine, Request(**settings)))


@pytest.mark.parametrize("length", [0, 1, 2, 333])
def test_length_is_the_number_of_new_characters(engine, length):
    assert len(text_of(engine, length=length)) == length
    assert len(text_of(engine, length=length, prompt="abc")) == length


def test_a_shorter_text_is_the_beginning_of_a_longer_one(engine):
    assert text_of(engine, length=700, seed=4).startswith(text_of(engine, length=90, seed=4))


def test_seed_and_temperature_matter(engine):
    texts = {
        text_of(engine, length=60, seed=seed, sampling=Sampling(temperature))
        for seed in (1, 2)
        for temperature in (0.5, 1.5)
    }
    assert len(texts) == 4


def test_the_prompt_is_read_into_the_state(engine):
    """Writing after a prompt is writing from the state that the prompt leaves."""
    decoder = Decoder(engine, Sampling(), seed=5)
    decoder.prompt(Codec(engine.card.vocabulary).encode("the r")[None])
    expected = Codec(engine.card.vocabulary).decode(decoder.write(30)[0])
    assert text_of(engine, prompt="the r", length=30, seed=5) == expected


def test_samples_are_the_streams_of_one_seed(engine):
    samples = printing.write_samples(engine, Request(length=80, num_samples=3, seed=6))
    assert samples[0] == text_of(engine, length=80, seed=6)
    assert len(set(samples)) == 3


def test_an_unknown_prompt_character_is_named_or_skipped(engine):
    with pytest.raises(UnknownCharacter, match=r"'Q' \(U\+0051 LATIN CAPITAL LETTER Q\) at position 1"):
        text_of(engine, prompt="aQb")
    skipped = text_of(engine, prompt="aQb", on_unknown="skip", length=40)
    assert skipped == text_of(engine, prompt="ab", length=40)


def test_stop_ends_the_text_before_the_stop_string(engine):
    whole = text_of(engine, length=300, seed=1)
    stop = whole[100:103]
    assert text_of(engine, length=300, seed=1, stop=(stop,)) == whole[: whole.index(stop)]
    assert text_of(engine, length=300, seed=1, stop=("\0",)) == whole


@given(
    st.text("ab", max_size=40),
    st.lists(st.text("ab", min_size=1, max_size=4), max_size=3).map(tuple),
    st.lists(st.integers(0, 5), max_size=20),
)
@example("abc", ("bc", "a"), [])  # the first that is complete, not the first that was named
def test_cutter_shows_everything_before_the_first_stop_however_it_comes(text, stops, sizes):
    cutter, shown, at = Cutter(stops), "", 0
    for size in [*sizes, len(text)]:
        shown += cutter.push(text[at : at + size])
        at += size
    shown += cutter.finish()
    # By hand: grow the text a character at a time until it ends with a stop string.
    for end in range(len(text) + 1):
        stops_here = [stop for stop in stops if text[:end].endswith(stop)]
        if stops_here:
            assert shown == text[: end - max(map(len, stops_here))]
            assert cutter.stopped
            return
    assert shown == text


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"length": -1}, "length must be 0 or more"),
        ({"num_samples": 0}, "num-samples must be 1 to 1,000,000"),
        ({"num_samples": MAX_SAMPLES + 1}, "num-samples must be 1 to 1,000,000"),
        ({"first_stream": -1}, "first-stream must be 0 to 9,223,372,036,854,775,808"),
        ({"first_stream": 2**63 + 1}, "first-stream must be 0 to"),
        ({"stop": ("",)}, "stop string"),
        ({"on_unknown": "guess"}, "on-unknown takes error or skip"),
    ],
)
def test_impossible_requests_are_named(settings, words):
    with pytest.raises(UsageError, match=words):
        Request(**settings)


def test_options_mean_one_sampling():
    assert sampling_of(None, None, False, 0, 1.0, 0.0) == Sampling(1.0)
    assert sampling_of(0.25, None, False, 3, 0.5, 0.1) == Sampling(0.25, 3, 0.5, 0.1)
    assert sampling_of(None, 4.0, False, 0, 1.0, 0.0) == Sampling(0.25)
    assert sampling_of(None, None, True, 0, 1.0, 0.0).greedy
    with pytest.raises(UsageError, match="give one of --temperature, --tau, --greedy"):
        sampling_of(1.0, 1.0, False, 0, 1.0, 0.0)


class TimedDecoder:
    """Takes a chosen time for each character, on a clock of its own."""

    def __init__(self, monkeypatch, seconds: float) -> None:
        self.now, self.seconds, self.sizes = 0.0, seconds, []
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def write(self, count: int):
        self.sizes.append(count)
        self.now += self.seconds * count
        return np.zeros((1, count), np.int64)


@pytest.mark.parametrize(
    ("seconds", "sizes"),
    [
        (1e-9, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, PIECE_CHARACTERS, PIECE_CHARACTERS]),
        (0.01, [1, 2, 4, 4]),
        (0.3, [1, 1, 1]),
    ],
)
def test_pieces_grow_until_they_take_their_time(seconds, sizes, monkeypatch):
    decoder, writer = TimedDecoder(monkeypatch, seconds), PieceWriter()
    for _ in sizes:
        writer.write(decoder, 10_000)
    assert decoder.sizes == sizes


def test_pieces_shrink_when_the_engine_slows_down_and_never_pass_the_limit(monkeypatch):
    decoder, writer = TimedDecoder(monkeypatch, 1e-9), PieceWriter()
    for _ in range(6):
        writer.write(decoder, 10_000)
    writer.write(decoder, 3)  # a short piece says nothing about the next one
    decoder.seconds = 0.1
    for _ in range(3):
        writer.write(decoder, 10_000)
    assert decoder.sizes == [1, 2, 4, 8, 16, 32, 3, 64, 32, 16]
