"""One training run on the toy problem: what is counted, when it stops, what is tested."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.errors import P2Error, UsageError
from p2.practical.toy.classifier import shared
from p2.practical.toy.problem import BaumSweet, to_numbers
from p2.practical.toy.training import AFTER, WINDOW, ToyOptions, first_reaching, running_mean, train

TINY = ToyOptions("gru", 2, "balanced", seed=3, embedding=3, hidden=8, batch=16, updates=6)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(1, 25))
def test_running_mean(values, window):
    expected = [np.mean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]
    np.testing.assert_allclose(running_mean(values, window), expected, atol=1e-9)


def test_first_reaching_by_hand():
    assert first_reaching([0.98] + [1.0] * 30, level=1.0, window=21) == 22
    assert first_reaching([1.0] * 20, level=0.5, window=21) is None  # no full window yet
    assert first_reaching([0.0, 1.0, 1.0, 0.0], level=0.99, window=2) == 3
    assert first_reaching([0.9] * 50) is None


def test_the_same_options_give_the_same_run_and_loss_and_accuracy_are_those_of_the_batch():
    one, two = train(TINY), train(TINY)
    assert one.loss == two.loss
    assert len(one.loss) == len(one.accuracy) == 6
    fresh = train(dataclasses.replace(TINY, updates=1))
    data = BaumSweet(2, "balanced")
    untrained = type(fresh.model)("gru", 3, 3, 8, 2)
    untrained.initialise(3, 1.0)
    symbols, labels = data.batch(16, 3, 0)
    logits = untrained(shared(symbols)).detach().numpy().astype(float)
    shifted = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert one.loss[0] == pytest.approx(-shifted[np.arange(16), labels].mean(), rel=1e-5)
    assert one.accuracy[0] == pytest.approx((logits.argmax(axis=1) == labels).mean())


def test_it_stops_when_it_has_converged_for_good():
    run = train(ToyOptions("gru", 2, "balanced", hidden=16, batch=64, lr=3e-2, updates=900))
    assert run.converged == first_reaching(run.accuracy)
    assert run.converged is not None
    assert run.converged + AFTER <= len(run.loss) < 900
    assert np.mean(run.accuracy[-WINDOW:]) >= 0.995
    earlier = running_mean(run.accuracy)[run.converged + AFTER - 1 : -1]
    assert (earlier < 0.995).all()


def test_numbers_never_drawn_are_counted_and_rightly_judged():
    options = dataclasses.replace(TINY, withheld=0.25)
    run = train(options)
    data = BaumSweet(2, "balanced", 0.25)
    drawn = {int(n) for i in range(6) for n in to_numbers(data.batch(16, 3, i).symbols)}
    never = run.tests["never drawn"]
    assert never["0"]["numbers"] + never["1"]["numbers"] == 91 - len(drawn)
    withheld = run.tests["withheld"]
    assert withheld["0"]["numbers"] + withheld["1"]["numbers"] == data.withheld_table[10:].sum()
    for of_class in (*never.values(), *withheld.values()):
        assert 0 <= of_class["right"] <= of_class["tested"] == of_class["numbers"]
    with torch.no_grad():
        run.model.b_p[:] = torch.tensor([0.0, 1e6])  # it says class 1 to everything
    from p2.practical.toy.training import test as judged

    drawn_table = np.zeros(101, bool)
    found = judged(run.model, data, 0, drawn_table)["never drawn"]
    assert found["0"]["right"] == 0
    assert found["1"]["right"] == found["1"]["numbers"]
    assert found["0"]["numbers"] + found["1"]["numbers"] == 91


def test_long_numbers_are_tested_on_fresh_samples():
    run = train(ToyOptions("rnn", 12, "balanced", embedding=2, hidden=4, batch=8, updates=2))
    assert set(run.tests) == {"fresh"}
    assert run.tests["fresh"]["0"]["numbers"] is None
    assert run.tests["fresh"]["0"]["tested"] + run.tests["fresh"]["1"]["tested"] == 4096


def test_progress_is_told_after_every_update():
    told: list[int] = []
    train(dataclasses.replace(TINY, updates=3), told.append)
    assert told == [1, 2, 3]


@pytest.mark.parametrize(
    "change",
    [{"hidden": 0}, {"gain": 0.0}, {"lr": float("nan")}, {"fan": "both"}, {"seed": -1}, {"updates": 0}],
)
def test_what_cannot_be_meant_is_refused(change):
    with pytest.raises(UsageError):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize("updates", [1, 3])
def test_divergence_is_told_in_the_last_update_too(updates):
    with pytest.raises(P2Error, match=r"training diverged.*smaller initial weights help"):
        train(dataclasses.replace(TINY, lr=3e38, updates=updates))
