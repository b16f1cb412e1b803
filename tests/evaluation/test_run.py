"""Whole evaluations beside the equations in numpy, and beside the engine that they are compared with."""

from __future__ import annotations

import hashlib
import math
import os
import unicodedata

import numpy as np
import pytest

import p2
from p2.contract.codec import UnknownCharacter
from p2.evaluation.run import Tokenizer

from ..conftest import TINY_TEXT

TEXT = "the quick, lazy dog.\njumps over a fox\n" * 5


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("window", [None, 16])
def test_figures_are_those_of_the_equations(window, cell, card_of, write_step, numpy_model, text):
    card = card_of(*cell, hidden=16)
    found = p2.evaluate(write_step(card), text, window=window)
    tokens = np.array([card.vocabulary.index(character) for character in TEXT])
    model, (engine,) = numpy_model(card), found.engines
    size = window or len(tokens)
    logits = np.concatenate(
        [model.run(tokens[None, at : at + size])[0] for at in range(0, len(tokens) - 1, size)]
    )[: len(tokens) - 1]
    bits = -np.log2(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))[
        np.arange(len(logits)), tokens[1:]
    ]
    best = np.argsort(-logits, axis=-1)
    assert engine.score.characters == len(TEXT) - 1 == found.characters - 1
    assert engine.score.bits_per_character == pytest.approx(bits.mean(), abs=1e-5)
    assert engine.score.perplexity == pytest.approx(2 ** bits.mean(), rel=1e-5)
    assert engine.score.accuracy == pytest.approx((best[:, 0] == tokens[1:]).mean())
    assert engine.score.top5_accuracy == pytest.approx((best[:, :5] == tokens[1:, None]).any(-1).mean())
    assert engine.difference is None
    positions = np.arange(len(bits)) % size + 1
    for (first, last), score in engine.by_position.items():
        within = (first <= positions) & (positions <= last)
        assert score.characters == within.sum()
        assert score.bits_per_character == pytest.approx(bits[within].mean(), abs=1e-5)
    assert sum(score.characters for score in engine.by_position.values()) == len(bits)
    breaks = np.array([character == "\n" for character in TEXT[1:]])
    lower = np.array([unicodedata.category(character) == "Ll" for character in TEXT[1:]])
    for name, within in (("line end", breaks), ("lower case", lower)):
        assert engine.by_class[name].characters == within.sum()
        assert engine.by_class[name].bits_per_character == pytest.approx(bits[within].mean(), abs=1e-5)
    assert engine.by_class.keys() == {"lower case", "space", "line end", "punctuation"}


def test_int8_is_within_its_limit_of_eager_on_100_000_characters(tiny_run, tmp_path):
    made = p2.export(tiny_run, precision="int8", engine="none")
    text = tmp_path / "text.txt"
    text.write_text((TINY_TEXT * 100)[:100_001])
    found = p2.evaluate([tiny_run, made.onnx], text)
    eager, int8 = found.engines
    assert (eager.score.characters, int8.precision) == (100_000, "int8")
    assert eager.engine.startswith("eager PyTorch")
    assert int8.difference == int8.score.bits_per_character - eager.score.bits_per_character
    assert 0 < abs(int8.difference) < 0.005
    assert eager.score.bits_per_character < math.log2(eager.score.characters)


def test_files_are_joined_and_hashed_as_in_training(tmp_path, card_of, write_step):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_bytes(b"\xef\xbb\xbfthe fox")
    (tmp_path / "texts" / "b.txt").write_bytes(b"a dog\r\n")
    sha256 = hashlib.sha256(b"the fox\na dog\n").hexdigest()
    engine = write_step(card_of("rnn", hidden=8, corpus_sha256=sha256))
    found = p2.evaluate(engine, tmp_path / "texts")
    assert found.sha256 == sha256
    assert found.characters == len("the fox\na dog\n")
    assert found.sources == [str(tmp_path / "texts" / name) for name in ("a.txt", "b.txt")]
    assert found.notes == [f"{engine} was trained on this text"]


def test_a_pipe_is_read_once(tmp_path, card_of, write_step, text):
    engine = write_step(card_of("rnn", hidden=8))
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as file:
        file.write(TEXT)
    try:
        piped = p2.evaluate([engine, engine], f"/dev/fd/{reading}")
    finally:
        os.close(reading)
    assert piped.engines[0].to_dict() == p2.evaluate(engine, text).engines[0].to_dict()
    assert piped.engines[1].difference == 0.0


def vocabularies(*each, on_unknown="error"):
    class Named:
        def __init__(self, vocabulary):
            self.card = type("Card", (), {"vocabulary": vocabulary})

    return Tokenizer([(f"model {number}", Named(one)) for number, one in enumerate(each)], on_unknown)


def test_each_engine_has_its_own_numbers():
    tokens = vocabularies("abc", "bc", on_unknown="skip")
    assert [[one.tolist() for one in both] for both in tokens.of(["abac", "bb"])] == [
        [[1, 2], [0, 1]],
        [[1, 1], [0, 0]],
    ]
    assert (tokens.characters, tokens.skipped) == (4, 2)
    assert tokens.sha256.hexdigest() == hashlib.sha256(b"abacbb").hexdigest()


def test_an_unknown_character_is_named_with_its_place_in_the_whole():
    tokens = vocabularies("abc", "bc")
    with pytest.raises(UnknownCharacter, match=r"^model 1: the model does not know .*'a'.* at position 5;"):
        list(tokens.of(["bcb", "bcab"]))
    with pytest.raises(p2.UsageError, match="no character in common"):
        vocabularies("ab", "cd", on_unknown="skip")
