"""Many texts: each is what it would be alone, in order, group by group."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from p2.contract.codec import UnknownCharacter
from p2.contract.sampling import Sampling
from p2.runtime import streams
from p2.runtime.generate import Request, generate
from p2.runtime.onnxruntime.engine import open_onnx
from p2.runtime.streams import CLOSE_RANKS, GROUP, Text, write_texts

PROMPTS = ["a fox", "", "the quick brown fox", "the", "", "zebras and lions.", "the", "a"]


@pytest.fixture
def engine(card_of, write_step):
    return open_onnx(write_step(card_of("gru", layers=1)))


@pytest.fixture
def batches(monkeypatch, engine):
    """The batch of every call that decodes, and how many characters it wrote."""
    seen: list[tuple[int, int]] = []
    decode = engine.decode

    def watched(state, last, noise, sampling):
        seen.append((len(last), len(noise)))
        return decode(state, last, noise, sampling)

    monkeypatch.setattr(engine, "decode", watched)
    return seen


def alone(engine, request: Request, text: Text) -> str:
    return "".join(generate(engine, replace(request, prompt=text.prompt, first_stream=text.stream)))


@pytest.mark.parametrize(
    ("precision", "sampling"),
    [("float32", Sampling()), ("int8", Sampling(0.7, top_k=9, min_p=0.01))],
    ids=str,
)
def test_every_text_is_what_it_would_be_alone(cell, precision, sampling, card_of, write_step, monkeypatch):
    monkeypatch.setattr(streams, "GROUP", 7)  # so that groups begin within a prompt's samples
    engine = open_onnx(write_step(card_of(*cell, hidden=40, precision=precision)))
    request = Request(length=90, seed=11, num_samples=3, first_stream=1000, sampling=sampling)
    written = list(write_texts(engine, request, PROMPTS))
    assert [text.stream for text in written] == list(range(1000, 1000 + 3 * len(PROMPTS)))
    assert [text.prompt for text in written] == [prompt for prompt in PROMPTS for _ in range(3)]
    assert [(text.prompt_index, text.sample) for text in written] == list(
        itertools.product(range(len(PROMPTS)), range(3))
    )
    for text in written:
        assert text.text == alone(engine, request, text)
        assert not text.stopped


def test_groups_are_bounded_and_handed_out_when_they_are_done(engine, batches):
    prompts = iter(["a"] * 1000)
    texts = write_texts(engine, Request(length=4), prompts)
    next(texts)
    assert sum(1 for _ in prompts) == 1000 - GROUP
    assert {batch for batch, _ in batches} == {GROUP}


def test_a_million_samples_begin_at_once(engine):
    request = Request(length=20, seed=3, num_samples=1_000_000)
    first = next(write_texts(engine, request))
    assert first.text == alone(engine, request, first)


def test_without_prompts_the_request_has_its_own(engine):
    written = list(write_texts(engine, Request(prompt="the ", length=30, num_samples=3)))
    assert [(text.prompt_index, text.sample, text.prompt) for text in written] == [
        (0, sample, "the ") for sample in range(3)
    ]
    assert list(write_texts(engine, Request(), [])) == []


@pytest.mark.parametrize("length", [0, 1, 2])
def test_short_texts_are_as_long_as_they_should_be(engine, length):
    written = write_texts(engine, Request(length=length), ["a", "", "the"])
    assert [len(text.text) for text in written] == [length] * 3


@pytest.mark.parametrize("seconds", [1e-9, 0.2], ids=["long pieces", "single characters"])
def test_texts_that_stop_leave_their_group_at_fixed_places(engine, batches, monkeypatch, seconds):
    request = Request(length=4 * CLOSE_RANKS, seed=1)
    whole = [text.text for text in write_texts(engine, request, ["a"] * 40)]
    batches.clear()
    clock = itertools.count(0.0, seconds)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    stops = ("d", "th")
    written = list(write_texts(engine, replace(request, stop=stops), ["a"] * 40))

    # By hand: the stop string that is complete first ends the text before its beginning.
    found = [[(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0] for text in whole]
    for text, full, ends in zip(written, whole, found, strict=True):
        assert text.text == (full[: min(ends)[1]] if ends else full)
        assert text.stopped == bool(ends)

    expected, batch = [], 40
    for start in range(0, request.length, CLOSE_RANKS):
        going = sum(not ends or min(ends)[0] > start for ends in found)
        if 2 * going <= batch:
            batch = going
        expected += [batch] * CLOSE_RANKS
    assert len(set(expected)) > 2
    assert [batch for batch, count in batches for _ in range(count)] == expected


def test_a_group_in_which_all_have_stopped_is_done(engine, batches):
    written = list(write_texts(engine, Request(length=10**9, seed=1, stop=("a", "e", " ")), ["a", "", "the"]))
    assert all(text.stopped for text in written)
    assert sum(count for _, count in batches) < 10 * CLOSE_RANKS


@pytest.mark.parametrize("stop", [(), ("e",)])
def test_progress_adds_up_to_the_whole_job(engine, stop):
    told: list[int] = []
    request = Request(length=50, num_samples=2, stop=stop)
    list(write_texts(engine, request, ["a", "", "the"] * 30, told.append))
    assert sum(told) == 50 * 2 * 90
    assert min(told) >= 0


def test_a_prompt_that_cannot_be_read_is_named_by_its_line(engine):
    texts = write_texts(engine, Request(length=2), ["a"] * 70 + ["xQ"])
    assert len(list(itertools.islice(texts, 70))) == 70  # those before it, whole groups or not
    with pytest.raises(UnknownCharacter, match=r"line 71 of the prompts: .* 'Q' .* at position 1"):
        next(texts)
    with pytest.raises(UnknownCharacter, match=r"^the model does not know the character 'Q'"):
        next(write_texts(engine, Request(prompt="Q")))


def test_skipped_characters_can_leave_a_prompt_empty(engine):
    request = Request(length=30, on_unknown="skip")
    first, second = write_texts(engine, request, ["Q", "aQ"])
    assert (first.prompt, second.prompt) == ("Q", "aQ")
    assert first.text == "".join(generate(engine, Request(length=30)))
    assert second.text == "".join(generate(engine, Request(prompt="a", length=30, first_stream=1)))
