"""Text as it is written: prompts, stop strings, samples, lengths."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.runtime import printing
from p2.runtime.decoder import Decoder
from p2.runtime.generate import Cutter, Request, generate
from p2.runtime.onnx_engine import open_onnx
from p2.spec.codec import Codec, UnknownCharacter
from p2.spec.errors import UsageError
from p2.spec.sampling import Sampling


@pytest.fixture
def engine(card_of, write_step):
    return open_onnx(write_step(card_of("gru", layers=1)))


def text_of(engine, **settings) -> str:
    return "".join(piece for (piece,) in generate(engine, Request(**settings)))


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
    [({"length": -1}, "length"), ({"num_samples": 0}, "num-samples"), ({"stop": ("",)}, "stop string")],
)
def test_impossible_requests_are_named(settings, words):
    with pytest.raises(UsageError, match=words):
        Request(**settings)


def test_streamed_whole_and_json_are_the_same_text(engine):
    request = Request(prompt="the ", length=120, seed=2)
    streamed, whole, as_json = io.StringIO(), io.StringIO(), io.StringIO()
    printing.print_stream(engine, request, streamed)
    printing.print_whole(engine, request, whole)
    printing.print_json(engine, request, as_json)
    answer = json.loads(as_json.getvalue())
    assert streamed.getvalue() == whole.getvalue()
    assert streamed.getvalue().rstrip("\n") == ("the " + answer["samples"][0]["text"]).rstrip("\n")
    assert (answer["seed"], answer["temperature"]) == (2, 1.0)


def test_several_samples_are_told_apart(engine):
    out = io.StringIO()
    printing.print_whole(engine, Request(length=5, num_samples=2), out)
    assert "--- sample 1 of 2 ---" in out.getvalue()
    assert "--- sample 2 of 2 ---" in out.getvalue()
