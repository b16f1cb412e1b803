"""The four ways to show text, and that none of them waits for the end."""

from __future__ import annotations

import io
import json

import pytest

from p2.contract.codec import UnknownCharacter
from p2.runtime import printing, streams
from p2.runtime.generate import Request
from p2.runtime.onnxruntime.engine import open_onnx


@pytest.fixture
def engine(card_of, write_step):
    return open_onnx(write_step(card_of("gru", layers=1)))


def shown(show, engine, request: Request, *more: object) -> str:
    out = io.StringIO()
    show(engine, request, out, *more)
    return out.getvalue()


def test_streamed_whole_and_json_are_the_same_text(engine):
    request = Request(prompt="the ", length=120, seed=2)
    streamed = shown(printing.print_stream, engine, request)
    answer = json.loads(shown(printing.print_json, engine, request))
    line = json.loads(shown(printing.print_lines, engine, request))
    assert streamed == shown(printing.print_whole, engine, request)
    assert streamed.rstrip("\n") == ("the " + answer["samples"][0]["text"]).rstrip("\n")
    assert (answer["seed"], answer["temperature"]) == (2, 1.0)
    assert line == {
        "prompt_index": 0,
        "sample": 0,
        "stream": 0,
        "seed": 2,
        "prompt": "the ",
        "text": answer["samples"][0]["text"],
        "stopped": False,
    }


def test_samples_stand_under_numbered_rules(engine):
    request = Request(prompt="a", length=5, num_samples=3)
    texts = [f"a{text}".removesuffix("\n") for text in printing.write_samples(engine, request)]
    assert shown(printing.print_whole, engine, request) == (
        f"--- sample 1 of 3 ---\n{texts[0]}\n\n"
        f"--- sample 2 of 3 ---\n{texts[1]}\n\n"
        f"--- sample 3 of 3 ---\n{texts[2]}\n"
    )


@pytest.mark.parametrize("samples", [1, 3])
def test_json_written_piece_by_piece_is_laid_out_as_in_one_go(engine, samples):
    text = shown(printing.print_json, engine, Request(length=20, num_samples=samples, first_stream=7))
    answer = json.loads(text)
    assert text == json.dumps(answer, indent=2) + "\n"
    assert [sample["stream"] for sample in answer["samples"]] == list(range(7, 7 + samples))


def test_what_any_terminal_can_show(card_of, write_step):
    engine = open_onnx(write_step(card_of("gru", layers=1, vocabulary="aé😀")))
    request = Request(prompt="é", length=30)
    for show in (printing.print_json, printing.print_lines):
        assert shown(show, engine, request).isascii()


def test_a_stopped_text_says_so(engine):
    whole = json.loads(shown(printing.print_lines, engine, Request(length=200)))
    stop = whole["text"][50]
    line = json.loads(shown(printing.print_lines, engine, Request(length=200, stop=(stop,))))
    assert line["stopped"]
    assert line["text"] == whole["text"][: whole["text"].index(stop)]


@pytest.mark.parametrize("show", [printing.print_whole, printing.print_json, printing.print_lines])
def test_texts_are_written_as_soon_as_they_are_done(show, engine, monkeypatch):
    monkeypatch.setattr(streams, "GROUP", 2)
    out, lengths = io.StringIO(), []
    decode = engine.decode

    def watched(state, last, noise, sampling):
        lengths.append(len(out.getvalue()))
        return decode(state, last, noise, sampling)

    monkeypatch.setattr(engine, "decode", watched)
    show(engine, Request(prompt="a", length=1, num_samples=6), out)
    assert len(lengths) == 3  # a group of two texts each, one character: one call
    assert lengths[0] < lengths[1] < lengths[2] < len(out.getvalue())


@pytest.mark.parametrize(
    "show", [printing.print_stream, printing.print_whole, printing.print_json, printing.print_lines]
)
def test_nothing_is_shown_of_a_prompt_that_is_refused(show, engine):
    out = io.StringIO()
    with pytest.raises(UnknownCharacter):
        show(engine, Request(prompt="the Q"), out)
    assert out.getvalue() == ""
