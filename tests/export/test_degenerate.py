"""Models whose weights are all alike, nothing, or at the ends of a number format."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from p2.contract.card import PRECISIONS, step_shapes
from p2.contract.errors import P2Error, ToleranceExceeded
from p2.export import verify
from p2.export.exporter import export_checkpoint
from p2.export.fold import fold
from p2.export.graph import step_graph
from p2.runtime.opening import open_step_engine, usable_backends
from p2.runtime.step_file import open_step
from p2.trainer.eager import EagerEngine
from p2.trainer.model import CharModel, parameter_shapes

RNG = np.random.default_rng(0)
KINDS = {
    "zeros": np.zeros,
    "equal": lambda shape: np.full(shape, 0.25),
    "zero rows and columns": lambda shape: (
        RNG.standard_normal(shape) * (np.indices(shape) % 3 > 0).all(axis=0) * 0.3
    ),
    "denormal": lambda shape: RNG.standard_normal(shape) * 1e-42,
}


def model_of(card, values):
    made = {n: torch.tensor(values(s), dtype=torch.float32) for n, s in parameter_shapes(card).items()}
    model = CharModel(card.with_(precision="float32"))
    model.load_state_dict(made)
    return model


def check_everywhere(card, kind, path):
    """What every reader says is what eager PyTorch says."""
    model = model_of(card, KINDS[kind])
    step = step_graph(card, fold(card, model.state_dict()))
    path.write_bytes(step.SerializeToString())
    names = {tensor.name.removesuffix("_q") for tensor in step.graph.initializer}
    assert names >= set(step_shapes(card))
    assert open_step(path).as_traced
    engine = EagerEngine(model)
    tokens = np.arange(8).reshape(2, 4) % card.vocab
    expected = engine.feed(engine.zero_state(2), tokens, logits=True)
    for backend in usable_backends(path):
        reader = open_step_engine(path, threads=1, backend=backend)
        logits = reader.feed(reader.zero_state(2), tokens, logits=True)
        tolerance = {"float32": 1e-5, "float16": 5e-3}.get(card.precision, 0.2)
        np.testing.assert_allclose(
            logits, expected, atol=tolerance, err_msg=f"{card.precision}, {reader.name}"
        )


def test_equal_weights(card_of, tmp_path):
    for precision in PRECISIONS:
        check_everywhere(card_of("gru", precision=precision), "equal", tmp_path / "m.onnx")
    check_everywhere(card_of("lstm", precision="int8"), "equal", tmp_path / "m.onnx")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "equal"])
def test_other_extremes(kind, card_of, tmp_path):
    for precision in ("float8", "int8", "int4"):
        check_everywhere(card_of("gru", precision=precision), kind, tmp_path / "m.onnx")


def test_one_unit_and_one_character(card_of, tmp_path):
    for precision in ("float32", "float8", "int8", "int4"):
        card = card_of("gru", layers=1, hidden=1, vocabulary="a", precision=precision)
        check_everywhere(card, "equal", tmp_path / "m.onnx")


def test_float16_that_overflows_on_the_way_is_told_what_to_choose(card_of, monkeypatch):
    """Every weight may be a float16 number, and their sums not."""
    engine = EagerEngine(model_of(card_of("rnn", layers=1), KINDS["equal"]))
    monkeypatch.setattr(verify, "_run", lambda *_: np.full((2, 256, engine.card.vocab), np.inf, np.float32))
    with pytest.raises(
        ToleranceExceeded, match=r"gives NaN or infinity within 256 steps.*choose --precision bfloat16"
    ):
        verify.verify(b"", engine, "float16")


def test_eager_logits_that_are_not_finite_are_said(card_of):
    card = card_of("rnn", layers=1)
    model = model_of(card, lambda shape: np.full(shape, 3e38 if shape == (card.vocab, 32) else 1.0))
    with pytest.raises(P2Error, match=r"computes NaN or infinity \(eager PyTorch"):
        verify.verify(b"", EagerEngine(model), "float32")


def test_a_reader_that_says_something_else_stops_the_export(tiny_run, tmp_path, monkeypatch):
    real = verify.open_step_engine

    def wrong(path, **options):
        engine = real(path, **options)
        if options["backend"] == "onnxruntime-cpu":
            feed = engine.feed
            monkeypatch.setattr(engine, "feed", lambda *given, **named: feed(*given, **named)[..., ::-1])
        return engine

    monkeypatch.setattr(verify, "open_step_engine", wrong)
    with pytest.raises(ToleranceExceeded, match=r"float32 file, read by ONNX Runtime"):
        export_checkpoint(tiny_run, out=tmp_path / "m.onnx", engine="none")
    assert list(tmp_path.iterdir()) == []
