"""The model card: what it refuses, how it travels, what it counts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.card import (
    CONTRACT_VERSION,
    Card,
    bytes_per_step,
    canonical_precision,
    formula_parameters,
    step_shapes,
    stored_parameters,
)
from p2.contract.errors import ContractError, UsageError

cards = st.builds(
    Card,
    cell=st.sampled_from(["rnn", "lstm", "gru"]),
    layers=st.integers(1, 4),
    embedding=st.integers(1, 50),
    hidden=st.integers(1, 70),
    vocabulary=st.sets(st.characters(codec="utf-8"), min_size=1, max_size=30).map(
        lambda s: "".join(sorted(s))
    ),
)


@given(cards)
def test_survives_json_and_metadata(card):
    assert Card.from_dict(json.loads(json.dumps(card.to_dict())), "here") == card
    metadata = card.to_metadata()
    assert all(text.isascii() for text in metadata.values())
    assert Card.from_metadata(metadata | {"other.tool": "1"}, "here") == card


def test_formula_is_the_seeds():
    """4*N_in*N_h + 4*N_h*N_h + N_h*N_out + 4*N_h + N_out: 273,922 for embedding 10, hidden 256, 2 classes."""
    card = Card("lstm", 1, 10, 256, "01")
    assert formula_parameters(card) - 2 * 10 == 273_922
    assert stored_parameters(card) - formula_parameters(card) == 4 * 256


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_stored_parameters_are_what_pytorch_has(cell):
    torch = pytest.importorskip("torch")
    kind = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    modules = [torch.nn.Embedding(5, 7), kind(7, 11, 3), torch.nn.Linear(11, 5)]
    counted = sum(p.numel() for module in modules for p in module.parameters())
    assert stored_parameters(Card(cell, 3, 7, 11, "abcde")) == counted


def test_bytes_per_step_by_hand():
    card = Card("lstm", 2, 8, 64, "abcde")
    floats = 256 + 64 * 256 + 128 * 256 + 256 + 64 * 5 + 5  # table row, two products, bias, output
    assert bytes_per_step(card) == 4 * floats
    assert bytes_per_step(card.with_(precision="float16")) == 2 * floats
    weights, rest = (64 + 128) * 256, 4 * (256 + 256 + 5)
    output = 64 * 5 + 4 * 5  # in 8 bits, a scale for each of its 5 outputs, in both
    assert bytes_per_step(card.with_(precision="int8")) == weights + 4 * 2 * 256 + output + rest
    # 64 rows are one block, and so are 128.
    assert bytes_per_step(card.with_(precision="int4")) == weights // 2 + 4 * 2 * 256 + output + rest


@pytest.mark.parametrize(("hidden", "scales"), [(48, 3 + 3), (40, 1 + 5), (256, 2 + 4)])
def test_bytes_per_step_counts_the_scales_that_there_are(hidden, scales):
    """48 rows: blocks of 16, 96: of 32; 40: a column, 80: blocks of 16; 256 and 512: blocks of 128."""
    card = Card("lstm", 2, 8, hidden, "abcde", precision="int4")
    wide = 4 * hidden
    integers = 3 * hidden * wide // 2 + 5 * hidden
    expected = integers + 4 * (scales * wide + 5) + 4 * (2 * wide + 5)
    assert bytes_per_step(card) == expected


def test_state_names_sort_alike_for_many_layers():
    card = Card("lstm", 12, 1, 1, "a")
    ins, outs = ([f"{name}{suffix}" for name in card.state_names] for suffix in ("_in", "_out"))
    assert [name.removesuffix("_in") for name in sorted(ins)] == [
        name.removesuffix("_out") for name in sorted(outs)
    ]
    assert len(step_shapes(card)) == 2 + 2 * 11 + 1 + 2 - 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden": 0}, "hidden must be at least 1, not 0"),
        ({"hidden": 10_000_000}, "hidden must be at most 65536"),
        ({"layers": 0}, "layers must be at least 1"),
        ({"layers": 100}, "layers must be at most 99"),
        ({"embedding": -3}, "embedding must be at least 1"),
        ({"cell": "mlp"}, "unknown cell 'mlp'"),
        ({"precision": "fp7"}, "unknown precision"),
        ({"gru_reset": "before"}, "is for the gru"),
        ({"vocabulary": ""}, "empty"),
        ({"vocabulary": "a\ud800"}, r"holds U\+D800, half of a surrogate pair, which is no character"),
        ({"vocabulary": "a\ud800\udfff"}, r"holds U\+D800, half of a surrogate pair"),
        ({"vocabulary": "\udc00\uffff"}, r"holds U\+DC00, half of a surrogate pair"),
        ({"vocabulary": "ba"}, "not sorted"),
        ({"vocabulary": "aa"}, "twice"),
    ],
)
def test_refuses_in_words(changes, words):
    with pytest.raises(UsageError, match=words):
        Card("lstm", 1, 2, 3, "ab").with_(**changes)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.pop("hidden"), "lacks hidden"),
        (lambda d: d.update(hidden="12"), "hidden is not int"),
        (lambda d: d.update(hidden=True), "hidden is not int"),
        (lambda d: d.update(hidden=0), "hidden must be at least 1"),
        (lambda d: d.update(contract_version=CONTRACT_VERSION + 1), "contract version 2"),
        (lambda d: d.update(contract_version=True), "contract version True"),
        (lambda d: d.update({"corpus_sha2%6": ""}), "unknown field"),
    ],
)
def test_damaged_cards_are_refused_with_the_file(damage, words):
    data = Card("lstm", 1, 2, 3, "ab").to_dict()
    damage(data)
    with pytest.raises(ContractError, match=f"model.onnx.*{words}"):
        Card.from_dict(data, "model.onnx")


def test_metadata_without_a_card_says_so():
    with pytest.raises(ContractError, match="carries no model card"):
        Card.from_metadata({"author": "x"}, "model.onnx")
    with pytest.raises(ContractError, match="damaged"):
        Card.from_metadata({"p2.contract_version": "1", "p2.cell": "{"}, "model.onnx")


def test_precision_names():
    assert canonical_precision("fp16") == canonical_precision("float16") == "float16"
    with pytest.raises(UsageError, match="unknown precision 'int3'"):
        canonical_precision("int3")
