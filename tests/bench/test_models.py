"""The models that are measured, and their held-out text."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from p2.bench import models
from p2.bench.memory import fits, needed_bytes, preparing_bytes
from p2.bench.options import VOCABULARY, parse_batches, parse_shape, shape_name
from p2.contract.card import Card
from p2.contract.codec import Codec
from p2.contract.documents import write_sealed
from p2.contract.errors import UsageError
from p2.runtime.onnxruntime.engine import open_onnx
from p2.trainer import checkpoint, loop
from p2.trainer.corpus import load
from p2.trainer.display import Silent
from p2.trainer.options import TrainOptions


def text_of(run: Path) -> str:
    """The text that the fixture's model was trained on."""
    (source,) = checkpoint.load(run).record.sources
    return Path(source).read_text()


def test_a_shape_makes_the_same_model_every_time(tmp_path):
    card = parse_shape("gru,2,8,16")
    found = models.from_shape(card, ["float32", "int8"], tmp_path / "a")
    model = found.model
    assert (model.name, found.held_out) == ("gru,2,8,16", None)
    assert set(model.steps) == {"float32", "int8"}
    assert open_onnx(model.steps["int8"]).card.precision == "int8"
    assert checkpoint.load(model.checkpoint).card == model.card
    again = models.from_shape(card, ["float32"], tmp_path / "b").model
    assert again.card.checkpoint_sha256 == model.card.checkpoint_sha256 != ""


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_random_weights_do_not_explode(cell):
    """Root-mean-square of the recurrent weights times the square root of the width: the spread."""
    state = models.random_state(Card(cell, 1, 32, 256, VOCABULARY))
    weights = state["rnn.weight_hh_l0"].numpy()
    assert np.sqrt((weights**2).mean() * 256) == pytest.approx(models.SPREAD[cell], rel=0.02)
    if cell == "rnn":
        assert np.abs(np.linalg.eigvals(weights)).max() < 1


def test_weights_are_those_of_the_matrices():
    card = Card("lstm", 2, 64, 128, VOCABULARY)
    assert card.vocab == 96
    assert models.count_weights(card) == 128 * 512 + 256 * 512 + 128 * 96


@pytest.fixture
def nothing_exported(monkeypatch):
    monkeypatch.setattr(models, "export_steps", lambda *_: {})
    monkeypatch.setattr(models, "prepare_peers", lambda _: None)


def test_a_run_is_measured_on_the_tail_that_it_held_out(tiny_run, tmp_path, nothing_exported):
    before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}
    prepared = models.from_checkpoint("tiny", tiny_run, ["float32"], tmp_path, None)
    text = text_of(tiny_run)
    tail = text[len(text) - len(text) // 10 :]
    assert Codec(prepared.model.card.vocabulary).decode(prepared.held_out) == tail
    assert prepared.model.name == "tiny"
    assert prepared.model.checkpoint == tiny_run / "best"
    assert {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")} == before


def change(run: Path, **training: object) -> None:
    """Rewrite parts of the training record."""
    path = run / "best" / "model.json"
    manifest = json.loads(path.read_text())
    manifest["training"] |= training
    write_sealed(path, manifest)


def test_no_quality_where_the_text_is_not_the_one_held_out(tiny_run, tmp_path):
    record = checkpoint.load(tiny_run).record

    def note() -> str:
        held_out, said = models.held_out_text(checkpoint.load(tiny_run))
        assert held_out is None
        return said

    other = tmp_path / "other.txt"
    other.write_text(text_of(tiny_run) + "more")
    change(tiny_run, corpus=record.corpus | {"sources": [str(other)]})
    assert "other.txt) has changed: give held-out text with --text" in note()
    change(tiny_run, corpus=record.corpus | {"sources": [str(tmp_path / "gone.txt")]})
    assert "gone.txt: no such file or folder: give" in note()
    change(tiny_run, corpus=record.corpus | {"sources": ["-"]})
    assert "cannot be read again" in note()
    change(tiny_run, corpus=record.corpus, options=record.options | {"val_fraction": 0.0})
    assert "held no text out" in note()


def test_a_text_that_is_named_is_taken(tiny_run, tmp_path, nothing_exported):
    text = tmp_path / "new.txt"
    text.write_text("the lazy dog sells shells")
    prepared = models.from_checkpoint("tiny", tiny_run, ["float32"], tmp_path, text)
    assert len(prepared.held_out) == 25
    text.write_text("the größe")
    with pytest.raises(UsageError, match=r"new.txt holds 'ö' \(U\+00F6 .*, which the model in"):
        models.from_checkpoint("tiny", tiny_run, ["float32"], tmp_path, text)
    text.write_text("t")
    prepared = models.from_checkpoint("tiny", tiny_run, ["float32"], tmp_path, text)
    assert prepared.held_out is None
    assert prepared.note == f"{text} is too short"


def test_the_small_model_is_trained_once(tmp_path, monkeypatch, progress, capsys):
    monkeypatch.setattr(models, "TRAINED_STEPS", 2)
    monkeypatch.setattr(models, "TRAINED_HIDDEN", 8)
    folder = models.small_model(tmp_path / "model", progress)
    first = hashlib.sha256((folder / "last" / "model.json").read_bytes()).hexdigest()
    assert "training a small one" in capsys.readouterr().err
    models.small_model(folder, progress)
    assert hashlib.sha256((folder / "last" / "model.json").read_bytes()).hexdigest() == first
    assert "that an earlier benchmark trained" in capsys.readouterr().err
    monkeypatch.setattr(models, "TRAINED_STEPS", 3)
    models.small_model(folder, progress)
    assert checkpoint.load(folder / "last").record.step == 3
    _stopped_after_two(folder)
    models.small_model(folder, progress)
    assert checkpoint.load(folder / "last").record.step == 3
    assert [path.name for path in tmp_path.iterdir() if path.name != "model"] == ["model.old-1"]


def _stopped_after_two(folder: Path) -> None:
    """Put the run of three updates back to its second."""
    shutil.rmtree(folder)
    text = load([])
    options = TrainOptions(hidden=8, steps=3, device="cpu", out=folder)

    class Stopping(Silent):
        def update(self, report):
            if report.step == 2:
                os.kill(os.getpid(), signal.SIGINT)

    assert loop.train(options, text, Stopping()).interrupted


def test_shapes_and_batches_are_read():
    card = parse_shape(" lstm, 2,256,512")
    assert (card.cell, card.layers, card.embedding, card.hidden) == ("lstm", 2, 256, 512)
    assert shape_name(card) == "lstm,2,256,512"
    assert shape_name(Card("gru", 1, 2, 3, "ab", gru_reset="before")) == "gru,1,2,3,reset before"
    assert parse_batches("64, 1,8,8") == (1, 8, 64)


def test_what_a_model_may_need():
    """The textbook's numbers: 4 bytes for each of 2 x 512 LSTM's 4.3 million parameters."""
    card = Card("lstm", 2, 256, 512, VOCABULARY)
    parameters = 96 * 256 + 4 * 512 * (256 + 512 + 2) + 4 * 512 * (512 + 512 + 2) + 512 * 96 + 96
    assert needed_bytes(card) == (600 << 20) + 8 * 4 * parameters
    assert preparing_bytes(card) == 8 * 4 * parameters
    assert fits(90, 100)
    assert not fits(91, 100)
    assert fits(1 << 60, None)
