"""Options: ranges, merging with a checkpoint's or a run's, the settled device and precision."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.card import Card
from p2.contract.errors import BackendMissing, ContractError, UsageError
from p2.trainer import device
from p2.trainer.options import LATER, TrainOptions, named, parse_accuracies, resumed, started_from
from p2.trainer.presets import PRESETS
from p2.trainer.ranges import flag


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("cell", "mamba", "unknown cell 'mamba': choose one of rnn, lstm, gru"),
        ("gru_reset", "before", "gru_reset 'before' is for the gru"),
        ("hidden", 0, "hidden must be at least 1, not 0"),
        ("embedding", -3, "embedding must be at least 1, not -3"),
        ("layers", 100, "layers must be at most 99"),
        ("dropout", 1.0, "--dropout must be at least 0 .off. and below 1, not 1.0"),
        ("seq_len", 0, "--seq-len must be at least 1, not 0"),
        ("batch_size", 0, "--batch-size must be at least 1"),
        ("steps", -5, "--steps must be at least 1, not -5"),
        ("val_every", 0, "--val-every must be at least 1"),
        ("threads", 0, "--threads must be at least 1"),
        ("lr", 0.0, "--lr must be positive"),
        ("lr", math.nan, "--lr must be positive"),
        ("lr", math.inf, "--lr must be positive"),
        ("lr_decay", 1.5, "--lr-decay must be above 0 and at most 1"),
        ("clip", -1.0, "--clip must be positive or 0"),
        ("val_fraction", 1.0, "--val-fraction must be at least 0"),
        ("keep_at_accuracy", (0.5, 65.0), "--keep-at-accuracy takes shares above 0 and at most 1, not 65"),
        ("device", "tpu", "unknown --device 'tpu': choose one of auto, cpu, cuda"),
        ("precision", "x" * 9999, f"unknown --precision '{'x' * 39}...': choose"),
        (
            "schedule",
            "linear",
            "unknown --schedule 'linear': choose one of exponential, cosine, step, plateau",
        ),
        ("decay_every", 0, "--decay-every must be at least 1"),
        ("accumulate", 0, "--accumulate must be at least 1"),
        ("accumulate", 1 << 17, "--accumulate must be at most 65,536, not 131,072"),
        ("warmup", -1, "--warmup must be at least 0, not -1"),
        ("patience", -1, "--patience must be at least 0, not -1"),
        ("output_dropout", -0.1, "--output-dropout must be at least 0 .off. and below 1, not -0.1"),
        ("embedding_dropout", 1.0, "--embedding-dropout must be at least 0 .off. and below 1"),
        ("recurrent_dropout", math.nan, "--recurrent-dropout must be at least 0 .off. and below 1, not nan"),
        ("ema", 1.0, "--ema must be at least 0 .off. and below 1"),
        (
            "weight_decay",
            math.inf,
            "--weight-decay must be at least 0 .off. and below 1 / --lr, 125, not inf",
        ),
        ("weight_decay", -1.0, "--weight-decay must be at least 0"),
        ("variational", True, "--variational says how --dropout and --output-dropout drop: give one of them"),
        ("tied", True, "--tied makes .* it needs --embedding 256, as wide as --hidden, not 64"),
        ("precision", "int8", "unknown --precision 'int8': choose one of auto, float32, bfloat16"),
    ],
)
def test_values_out_of_range(name: str, value: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainOptions(**{name: value})


def test_dropout_needs_a_place_to_act() -> None:
    with pytest.raises(UsageError, match="--dropout acts between layers: it needs --layers 2 or more"):
        TrainOptions(layers=1, dropout=0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schedule": "plateau"}, "--schedule plateau goes by the held-out text: it needs a --val-fraction"),
        ({"patience": 2}, "--patience goes by the held-out text: it needs a --val-fraction above 0"),
        (
            {"schedule": "cosine", "decay_every": 5},
            "--decay-every is for --schedule exponential or step, not",
        ),
    ],
)
def test_options_that_need_others(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainOptions(**values, val_fraction=0.0)


def test_a_cosine_ends_where_it_was_to_end() -> None:
    recorded = TrainOptions(schedule="cosine", steps=10)
    assert resumed(recorded, {"steps": 10, "patience": 3}).patience == 3
    with pytest.raises(UsageError, match="its cosine ends after 10 updates; --init-from starts a new run"):
        resumed(recorded, {"steps": 20})


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_gives_way_to_what_is_named(name: str) -> None:
    asked = named({"preset": name, "hidden": 72, "steps": 5000, "lr": None})
    assert asked == PRESETS[name] | {"hidden": 72, "steps": 5000}
    assert TrainOptions(**asked).hidden == 72
    tuned = named({"preset": name, "init_from": "there"})
    assert "hidden" not in tuned
    assert tuned.get("dropout") == PRESETS[name].get("dropout")


def test_no_preset_is_the_demo_and_that_is_the_defaults() -> None:
    assert named({}) == named({"preset": "demo"}) == {}


def test_accuracies_are_sorted_and_counted_once() -> None:
    assert parse_accuracies("0.75,0.65, 0.75") == (0.65, 0.75)
    for text in ("", "0.5,", "much"):
        with pytest.raises(UsageError, match="--keep-at-accuracy takes numbers"):
            parse_accuracies(text)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "cell": st.sampled_from(["rnn", "lstm", "gru"]),
            "hidden": st.integers(1, 2**16),
            "lr": st.floats(1e-9, 10),
            "keep_at_accuracy": st.lists(st.floats(0.01, 1)).map(tuple),
            "stateful": st.booleans(),
            "encoding": st.none() | st.text(),
            "encoding_errors": st.sampled_from(["strict", "replace", "skip"]),
            "init_from": st.none() | st.just(Path("a/b")),
            "threads": st.none() | st.integers(1, 64),
            "schedule": st.sampled_from(["exponential", "cosine", "step", "plateau"]),
            "warmup": st.integers(0, 999),
            "ema": st.floats(0, 1, exclude_max=True),
        },
    )
)
def test_options_survive_json(values: dict[str, Any]) -> None:
    options = TrainOptions(**values, out=Path("x"))
    data = json.loads(json.dumps(options.to_dict()))
    assert TrainOptions.from_dict(data, Path("x"), "model.json") == options


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("hidden"), "the recorded options do not match this p2's: hidden"),
        (lambda d: d.update(width=3), "the recorded options do not match this p2's: width"),
        (lambda d: d.update({"a\n\x1b": 3}), r"the recorded options do not match this p2's: a\\n\\x1b$"),
        (lambda d: d.update(hidden=0), "the recorded options are damaged: hidden must be"),
        (
            lambda d: d.update(hidden="8"),
            "the recorded options are damaged: hidden is not a whole number: '8'",
        ),
        (lambda d: d.update(hidden=8.0), "the recorded options are damaged: hidden is not a whole number"),
        (lambda d: d.update(lr="8"), "the recorded options are damaged: lr is not a number"),
        (lambda d: d.update(lr=float("nan")), "the recorded options are damaged: lr is not a finite number"),
        (lambda d: d.update(seed=2**64), "the recorded options are damaged: seed has more than 63 bits"),
        (lambda d: d.update(stateful=0), "the recorded options are damaged: stateful is not true or false"),
        (lambda d: d.update(encoding=[]), "the recorded options are damaged: encoding is not text"),
        (lambda d: d.update(init_from=1), "the recorded options are damaged: init_from is not text"),
        (lambda d: d.update(keep_at_accuracy=1), "the recorded options are damaged: keep_at_accuracy is not"),
        (
            lambda d: d.update(keep_at_accuracy=["x"]),
            r"the recorded options are damaged: keep_at_accuracy\[0\] is not a number",
        ),
    ],
)
def test_damaged_options(change: Callable[[dict[str, Any]], object], message: str) -> None:
    data = TrainOptions().to_dict()
    change(data)
    with pytest.raises(ContractError, match=rf"model\.json: {message}"):
        TrainOptions.from_dict(data, Path("x"), "model.json")


def test_a_checkpoint_keeps_its_vocabulary() -> None:
    with pytest.raises(UsageError, match="give --init-from or --vocab-from, not both"):
        TrainOptions(init_from=Path("a"), vocab_from=Path("b"))


def test_what_earlier_versions_did_not_record_has_its_default() -> None:
    options = TrainOptions(hidden=8)
    data = options.to_dict()
    for name in LATER:
        del data[name]
    assert TrainOptions.from_dict(data, options.out, "model.json") == options


def test_resuming_keeps_the_runs_options_but_for_where_and_how_far() -> None:
    recorded = TrainOptions(hidden=8, precision="bfloat16")
    assert resumed(recorded, {}) == recorded
    same = {"hidden": 8, "precision": "auto", "steps": 5000, "device": "cpu", "threads": 1}
    changed = dataclasses.replace(recorded, steps=5000, device="cpu", threads=1)
    assert resumed(recorded, same) == changed
    for name, value in (("hidden", 9), ("lr", 0.1), ("precision", "float32"), ("encoding", "latin-1")):
        with pytest.raises(UsageError, match=f"--{name} {value} contradicts the run in"):
            resumed(recorded, {name: value})


def test_starting_from_a_checkpoint_takes_its_architecture() -> None:
    card = Card("gru", 3, 5, 7, "ab", gru_reset="before")
    options = started_from({"hidden": 7, "lr": 0.5, "init_from": Path("c")}, card)
    assert options == TrainOptions(
        cell="gru", gru_reset="before", layers=3, embedding=5, hidden=7, lr=0.5, init_from=Path("c")
    )
    with pytest.raises(
        UsageError, match="--cell lstm contradicts the checkpoint of --init-from, which has gru"
    ):
        started_from({"cell": "lstm"}, card)


@pytest.mark.parametrize("gpu", [False, True])
def test_the_device(monkeypatch: pytest.MonkeyPatch, gpu: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert device.choose_device("auto").type == ("cuda" if gpu else "cpu")
    assert device.choose_device("cpu").type == "cpu"
    if gpu:
        assert device.choose_device("cuda").type == "cuda"
    else:
        with pytest.raises(BackendMissing, match="--device cuda needs an NVIDIA GPU"):
            device.choose_device("cuda")


@pytest.mark.parametrize(
    ("capabilities", "cell", "expected"),
    [
        ({"avx512_bf16": True}, "lstm", "bfloat16"),
        ({"amx_bf16": True}, "lstm", "bfloat16"),
        ({"avx512_bf16": True}, "gru", "float32"),
        ({"avx512_bf16": False, "avx512_f": True}, "lstm", "float32"),
        (None, "lstm", "float32"),
    ],
)
def test_automatic_precision_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool] | None, cell: str, expected: str
) -> None:
    if capabilities is None:  # a PyTorch that cannot tell
        monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    else:
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    cpu = torch.device("cpu")
    assert device.choose_precision("auto", cpu, cell) == expected
    assert device.choose_precision("float32", cpu, cell) == "float32"
    assert device.choose_precision("bfloat16", cpu, cell) == "bfloat16"


def test_the_page_has_every_option_of_its_panels() -> None:
    import inspect

    from p2.commands.train import train

    page = (Path(__file__).parents[2] / "docs" / "train.md").read_text(encoding="utf-8")
    table = page.split("## Quality")[1].split("\n## ")[0]
    panels = {
        name: parameter.annotation
        for name, parameter in inspect.signature(train).parameters.items()
        if re.search("Schedule|Regularisation", str(parameter.annotation))
    }
    assert len(panels) > 10
    assert [name for name in panels if f"`{flag(name)}`" not in table] == []
