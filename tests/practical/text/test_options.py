"""What the command's options mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2.contract.errors import UsageError
from p2.practical.text.options import parse


def test_the_training_is_the_reports():
    for chosen in ({}, {"quick": True}, {"seed_scale": True}):
        training = parse({}, {}, **chosen).training
        assert (training.cell, training.layers, training.seq_len, training.batch_size) == ("lstm", 2, 30, 128)
        assert (training.dropout, training.val_fraction, training.stateful) == (0.0, 0.0, False)
        assert training.keep_at_accuracy == (0.65, 0.75, 0.84)


def test_seed_scale_is_the_reports_size():
    asked = parse({}, {}, seed_scale=True)
    training = asked.training
    assert (training.embedding, training.hidden, training.steps) == (2048, 4096, 10_000)
    assert training.lr == training.lr * training.lr_decay == 1e-3
    assert asked.characters == 0
    assert asked.mode == "full"


def test_named_options_win_over_the_size():
    asked = parse({"hidden": 12, "keep_at_accuracy": (0.5,)}, {"samples": 3}, quick=True, characters=999)
    assert (asked.training.hidden, asked.training.keep_at_accuracy) == (12, (0.5,))
    assert (asked.characters, asked.samples, asked.mode) == (999, 3, "quick")


def test_the_run_is_beside_the_document():
    asked = parse({}, {}, folder=Path("elsewhere"))
    assert asked.run == asked.training.out == Path("elsewhere/text")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"quick": True, "seed_scale": True}, "--quick or --seed-scale, not both"),
        ({"resume": True, "quick": True}, "--resume goes on with the run as it began"),
        ({"resume": True, "characters": 5000}, "--resume goes on with the run as it began"),
        ({"characters": 30}, "--characters must be more than a window of 30"),
        ({"characters": -1}, "--characters must be more than a window of 30"),
        ({"writing": {"length": 99}}, "--length must be at least 100, not 99"),
        ({"writing": {"sample_length": 5}}, "--sample-length must be at least 100, not 5"),
        ({"writing": {"samples": 0}}, "--samples must be at least 1, not 0"),
        ({"training": {"hidden": 0}}, "hidden"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(given, says):
    values = dict(given)
    with pytest.raises(UsageError, match=says.replace("(", r"\(")):
        parse(values.pop("training", {}), values.pop("writing", {}), **values)
