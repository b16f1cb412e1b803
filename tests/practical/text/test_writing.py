"""Predictions over windows, against numpy by hand; texts through an engine."""

from __future__ import annotations

import numpy as np
import pytest

from p2.contract.codec import Codec
from p2.practical.text import measure, slurs, writing
from p2.practical.text.options import WINDOW, parse
from p2.runtime.opening import open_step_engine

BOOK = "the cat sat on the mat, and the dog. " * 20


@pytest.fixture
def engine(card_of, write_step):
    opened = open_step_engine(write_step(card_of("lstm", layers=1, hidden=16)))
    yield opened
    opened.close()


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(writing, "WINDOWS", 8)
    monkeypatch.setattr(writing, "_ROWS", 3)


@pytest.mark.usefixtures("few")
def test_predictions_are_the_models_from_a_zero_state(engine, numpy_model):
    found = writing.Predictions(engine, BOOK, seed=4)
    tokens = Codec(engine.card.vocabulary).encode(BOOK)
    starts = np.random.default_rng(4).integers(len(tokens) - WINDOW, size=8)
    inputs = np.stack([tokens[start : start + WINDOW] for start in starts])
    targets = np.stack([tokens[start + 1 : start + WINDOW + 1] for start in starts])
    logits = numpy_model(engine.card).run(inputs)
    np.testing.assert_allclose(found.logits, logits, atol=1e-4)
    assert (found.targets == targets).all()
    right = (logits.argmax(-1) == targets).mean(0)
    np.testing.assert_allclose(found.accuracy(), right)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    loss = -np.log(np.take_along_axis(p, targets[..., None], -1)).mean()
    assert found.loss() == pytest.approx(loss, abs=1e-4)
    q = p**2 / (p**2).sum(-1, keepdims=True)  # tau 2 squares the odds
    assert found.at_tau(2.0)["top"] == pytest.approx(q.max(-1).mean(), abs=1e-4)
    assert found.at_tau(2.0)["entropy"] == pytest.approx(-(q * np.log(q)).sum(-1).mean(), abs=1e-4)


def test_greedy_texts_go_on_from_their_prompts(engine, numpy_model):
    texts = writing.greedy(engine, ["the", "a"], 5, lambda _: None)
    codec, model = Codec(engine.card.vocabulary), numpy_model(engine.card)
    for text, prompt in zip(texts, ("the", "a"), strict=True):
        expected = prompt
        for _ in range(5):
            logits = model.run(codec.encode(expected)[None])[0, -1]
            expected += codec.decode([int(logits.argmax())])
        assert text == expected


@pytest.mark.usefixtures("few")
def test_everything_about_an_engine_is_measured(engine, monkeypatch):
    asked = parse({}, {"length": 100, "sample_length": 100, "samples": 2})
    analysis = measure.Analysis(BOOK, asked, "the cat", ["and the dog", "the mat, and"])
    said = []
    found = analysis.measure(engine, 3, said.append)
    assert len(said) == 6
    assert found["greedy"]["texts"] == len(engine.card.vocabulary)
    assert found["greedy"]["characters"] == 101 * len(engine.card.vocabulary)
    assert {shown["given"] for shown in found["greedy"]["excerpts"]} == {1}
    assert list(found["sampled"]) == ["0.5", "1", "2"]
    for texts in found["sampled"].values():
        assert (texts["texts"], texts["characters"]) == (2, 200)
    assert found["prompt"]["distinct"] == 1
    assert found["prompt"]["excerpt"]["text"].startswith("the cat")
    assert found["completions"]["texts"] == 2
    assert len(found["windows"]["by_position"]) == WINDOW
    assert found["tau"]["0.01"]["entropy"] > found["tau"]["100"]["entropy"]
    # The same seed gives the same texts.
    assert analysis.measure(engine, 3, said.append) == found
    # What is not shown is counted all the same.
    monkeypatch.setattr(slurs, "stands_in", lambda _: True)
    hidden = analysis.measure(engine, 3, said.append)
    kinds = [("greedy",), ("sampled", "0.5"), ("sampled", "1"), ("sampled", "2"), ("completions",)]
    for names in kinds:
        before, after = found, hidden
        for name in names:
            before, after = before[name], after[name]
        assert before["left_out"] == 0
        assert after == before | {"excerpts": [], "left_out": before["texts"]}
    assert hidden["prompt"] == found["prompt"]


def test_texts_are_described_by_their_loops_and_copies():
    asked = parse({}, {})
    analysis = measure.Analysis(BOOK, asked, "the", [])
    looping, copied, made_up = "xx," + "dog cat " * 10, "zz" + BOOK[:58], "qq ww " + "q1w2e3r4t5" * 2 + "ends"
    found = analysis.describe([looping, "yyyy" + looping, copied, made_up, made_up])
    assert found["texts"] == 5
    assert found["distinct"] == 4
    assert found["loops"] == 0.4
    assert found["period"] == 8
    assert found["different_loops"] == 1
    assert found["loops_seen_after"] == [3 + 24, 7 + 24]
    assert found["loops_at_a_glance"] == 0.4
    fresh = (3 + 8) + (7 + 8) + len(copied) + 2 * len(made_up)  # one round of each loop
    assert found["fresh"] == fresh
    assert found["copied"] == pytest.approx(58 / fresh)
    assert found["longest_copy"] == 58
    assert (
        found["wording"]["words"]
        == analysis.lexicon.count(["xx,dog cat ", "yyyyxx,dog cat ", copied, made_up, made_up]).words
    )


def test_a_completion_follows_the_book_as_far_as_it_says_the_same():
    analysis = measure.Analysis(BOOK, parse({}, {}), "the", [])
    assert analysis._follows("the cat sat on the mXX", "the cat") == len(" sat on the m")
    assert analysis._follows("the cow", "the cow") == 0
