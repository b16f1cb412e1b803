"""Plans: what is chosen from measured times, and that it is measured once."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.runtime import onnx_engine, tuning
from p2.runtime.onnx_engine import OnnxEngine, open_onnx
from p2.runtime.tuning import LARGEST, MARGIN, Memory, Plan, choose, groups, size_class, thread_counts
from p2.spec.sampling import Sampling


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=5))
def test_the_choice_is_near_the_best_and_as_plain_as_that_allows(times):
    options = [Plan(n + 1, 1) for n in range(len(times))]
    chosen = choose(options, lambda plan: times[plan.threads - 1])
    assert times[chosen.threads - 1] <= min(times) * (1 + MARGIN)
    assert all(time > min(times) * (1 + MARGIN) for time in times[: chosen.threads - 1])


def test_disturbances_of_more_than_half_of_the_turns_do_not_decide():
    turns = {1: iter([9, *[2.0] * 8]), 2: iter([9, *[5.0] * 5, *[1.0] * 3])}
    assert choose([Plan(1, 1), Plan(2, 1)], lambda plan: next(turns[plan.threads])) == Plan(2, 1)


def test_a_single_option_is_not_measured():
    assert choose([Plan(3, 2)], lambda plan: pytest.fail("measured")) == Plan(3, 2)


@pytest.mark.parametrize(("batch", "size"), [(1, 1), (2, 2), (3, 4), (64, 64), (65, 128), (5000, LARGEST)])
def test_a_batch_is_measured_as_the_next_power_of_two(batch, size):
    assert size_class(batch) == size


def test_what_is_tried():
    assert thread_counts(1) == [1]
    assert thread_counts(2) == [1, 2]
    assert thread_counts(6) == [1, 2, 4, 6]
    assert thread_counts(8) == [1, 2, 4, 8]
    assert thread_counts(8, least=2) == [2, 4, 8]
    assert thread_counts(2, least=2) == [2]
    assert thread_counts(1, least=2) == [1]
    assert groups(1) == [1]
    assert groups(2) == [2, 1]
    assert groups(64) == [64, 32, 16]


def test_plans_are_remembered_for_the_same_shape_and_place_only(tmp_path, card_of):
    model, card = tmp_path / "charlm.onnx", card_of()
    memory = Memory(model, card, "here")
    assert memory.get(8) is None
    memory.put(8, Plan(2, 4))
    memory.put(1, Plan(1, 1))
    again = Memory(model, card, "here")
    assert (again.get(8), again.get(1), again.get(2)) == (Plan(2, 4), Plan(1, 1), None)
    assert Memory(model, card, "there").get(8) is None
    assert Memory(model, card_of(hidden=64), "here").get(8) is None
    Memory(model, card, "there").put(8, Plan(7, 8))
    assert Memory(model, card, "here").get(8) == Plan(2, 4)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"p2.tuning": 1}', '{"p2.tuning": 1, "plans": {"x": 3}}', '{"p2.tuning": 9}']
)
def test_a_damaged_file_is_measured_again_and_replaced(text, tmp_path, card_of):
    model = tmp_path / "charlm.onnx"
    model.with_suffix(".tuning.json").write_text(text)
    memory = Memory(model, card_of(), "here")
    assert memory.get(1) is None
    memory.put(1, Plan(2, 1))
    assert Memory(model, card_of(), "here").get(1) == Plan(2, 1)


@pytest.mark.parametrize("plan", [{"threads": 0, "group": 1}, {"threads": "x", "group": 1}, {"group": 1}, 5])
def test_a_plan_that_makes_no_sense_is_not_used(plan, tmp_path, card_of):
    model = tmp_path / "charlm.onnx"
    Memory(model, card_of(), "here").put(1, Plan(1, 1))
    path = model.with_suffix(".tuning.json")
    data = json.loads(path.read_text())
    (key,) = data["plans"]
    data["plans"][key]["1"] = plan
    path.write_text(json.dumps(data))
    assert Memory(model, card_of(), "here").get(1) is None


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path, card_of):
    memory = Memory(tmp_path / "missing" / "charlm.onnx", card_of(), "here")
    memory.put(1, Plan(2, 1))
    assert memory.get(1) == Plan(2, 1)


@pytest.fixture
def measurable(monkeypatch):
    """Let small steps be measured too, on a machine with two processors."""
    monkeypatch.setattr(onnx_engine, "ONE_THREAD_BYTES", 0)
    monkeypatch.setattr(onnx_engine, "ONE_THREAD_PRODUCTS", 0)
    monkeypatch.setattr(onnx_engine, "processors", lambda: 2)


def test_an_engine_measures_once_and_remembers(measurable, monkeypatch, card_of, write_step):
    path = write_step(card_of())
    times = {Plan(1, 1): 3.0, Plan(2, 1): 2.0, Plan(1, 4): 2.0, Plan(2, 4): 3.0, Plan(1, 2): 1.0}
    monkeypatch.setattr(OnnxEngine, "_seconds", lambda self, plan: times[plan])
    engine = open_onnx(path)
    assert engine.threads == 2
    assert engine.plan(1) == Plan(2, 1)
    times[Plan(1, 1)] = 3.0
    assert engine.plan(3) == Plan(1, 2)  # one thread is better, and pairs are better than all four
    monkeypatch.setattr(OnnxEngine, "_seconds", lambda self, plan: pytest.fail("measured again"))
    again = open_onnx(path)
    assert (again.plan(1), again.plan(4)) == (Plan(2, 1), Plan(1, 2))


def test_threads_that_are_given_are_not_measured(measurable, monkeypatch, card_of, write_step):
    monkeypatch.setattr(OnnxEngine, "_seconds", lambda self, plan: pytest.fail("measured"))
    path = write_step(card_of())
    engine = open_onnx(path, threads=3)
    assert engine.threads == 3
    assert engine.plan(5) == Plan(3, 8)
    assert not path.with_suffix(".tuning.json").exists()


def test_small_steps_take_one_thread_without_measuring(monkeypatch, card_of, write_step):
    monkeypatch.setattr(OnnxEngine, "_seconds", lambda self, plan: pytest.fail("measured"))
    path = write_step(card_of())
    assert open_onnx(path).threads == 1
    assert not path.with_suffix(".tuning.json").exists()


@pytest.mark.parametrize(("limit", "batch"), [("SHARED_BYTES", 1), ("SHARED_PRODUCTS", 4)])
def test_heavy_steps_do_not_try_one_thread(limit, batch, measurable, monkeypatch, card_of, write_step):
    path = write_step(card_of())
    monkeypatch.setattr(OnnxEngine, "_seconds", lambda self, plan: 1.0 if plan.threads == 2 else 1 / 0)
    monkeypatch.setattr(onnx_engine, "SHARED_BYTES", 1 << 60)
    monkeypatch.setattr(onnx_engine, "SHARED_PRODUCTS", 1 << 60)
    monkeypatch.setattr(onnx_engine, limit, 1)
    assert open_onnx(path).plan(batch) == Plan(2, batch)


def test_a_real_measurement_gives_a_plan(measurable, card_of, write_step):
    path = write_step(card_of())
    plan = open_onnx(path).plan(4)
    assert plan.threads in (1, 2)
    assert plan.group in (4, 2, 1)
    assert path.with_suffix(".tuning.json").exists()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_batch_in_groups_writes_what_it_writes_whole(precision, monkeypatch, cell, card_of, write_step):
    card = card_of(*cell, precision=precision)
    engine = open_onnx(write_step(card))
    rng = np.random.default_rng(5)
    noise = rng.gumbel(size=(30, 7, card.vocab)).astype(np.float32)
    last = rng.integers(0, card.vocab, 7)
    whole_state, cut_state = engine.zero_state(7), engine.zero_state(7)
    whole = engine.decode(whole_state, last, noise, Sampling())
    monkeypatch.setattr(OnnxEngine, "plan", lambda self, batch: Plan(1, 3))  # 3, 3 and 1
    np.testing.assert_array_equal(engine.decode(cut_state, last, noise, Sampling()), whole)
    for name, array in whole_state.items():
        np.testing.assert_allclose(cut_state[name], array, atol=1e-5)


def test_a_turn_lasts_as_long_as_asked(monkeypatch):
    now, taken = [0.0], []
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: now[0])

    def steps(count):
        taken.append(count)
        now[0] += 0.003 * count

    assert tuning.seconds_per_step(steps, 0.01) == pytest.approx(0.003)
    assert taken[0] == 1
    assert sum(taken) == 4  # the first whole number of steps that takes 10 ms
