"""Engines that are held to what older processors have."""

from __future__ import annotations

import os

import numpy as np
import pytest

from p2.bench import plugins
from p2.bench.contenders import limited, registry
from p2.bench.contenders.openvino_contender import OpenVino, OpenVinoOperator
from p2.runtime import native
from p2.runtime.native import binding

from ...levels import LEVELS


@pytest.fixture(autouse=True)
def own_variables(monkeypatch):
    """What contenders set in processes of their own is taken back in this one."""
    for name in (native.CPU, "ONEDNN_MAX_CPU_ISA"):
        monkeypatch.setenv(name, "")
    yield
    if LEVELS:
        binding.use(LEVELS[0])


def test_they_take_part_where_they_are_named():
    usual = {contender.key for contender in registry.contenders()}
    for contender in registry.on_request():
        assert contender.key not in usual
        assert contender.group == "variant"
        assert type(plugins.find(contender.key)) is type(registry.by_key(contender.key)) is type(contender)
    chosen = plugins.choose(["p2-avx2-float32", "openvino-avx2"], None)
    assert [entrant.address for entrant in chosen] == ["p2-float32", "p2-avx2-float32", "openvino-avx2"]


@pytest.mark.skipif("avx2" not in LEVELS, reason="the decoder has no AVX2 here")
def test_p2_writes_the_same_text_on_its_level(load, card_of, monkeypatch):
    card, used = card_of("gru"), []
    usual = load("p2-float32", card)
    usual.start(2, 5)
    expected = usual.write(9)
    take = binding.use
    monkeypatch.setattr(binding, "use", lambda name: used.append(name) or take(name))
    held = load("p2-avx2-float32", card)
    held.start(2, 5)
    assert np.array_equal(held.write(9), expected)
    assert {*used} == {"avx2"}


def test_a_level_that_is_not_there_is_left_out(card_of):
    contender = limited.P2Level("avx2", "int8")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(binding, "library", lambda: None)
        assert contender.missing(card_of()) == binding.absence()
        patched.setattr(binding, "library", lambda: "one")
        for there in ({}, {"avx2": False}):
            patched.setattr(binding, "levels", lambda there=there: there)
            assert contender.missing(card_of()) == "this processor does not have the instructions of avx2"
        patched.setattr(binding, "levels", lambda: {"avx2": True})
        assert contender.missing(card_of()) is None


@pytest.mark.parametrize(
    ("key", "base"), [("openvino-avx2", OpenVino), ("openvino-operator-avx2", OpenVinoOperator)]
)
def test_openvino_is_told_before_it_is_loaded(key, base, model_of, card_of, monkeypatch):
    contender, told = registry.by_key(key), []
    monkeypatch.setattr(base, "load", lambda *_: told.append(os.environ["ONEDNN_MAX_CPU_ISA"]))
    contender.load(model_of(card_of()), 1)
    assert told == ["AVX2"]
