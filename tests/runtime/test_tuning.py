"""Plans: what is chosen from measured times, and that it is measured once."""

from __future__ import annotations

import json
import tempfile
import unittest.mock
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.sampling import Sampling
from p2.runtime import cache, tuning
from p2.runtime.onnxruntime import engine as onnx_engine
from p2.runtime.onnxruntime.engine import OnnxEngine, open_onnx
from p2.runtime.tuning import LARGEST, MARGIN, Memory, Setting, choose, groups, size_class, thread_counts

from ..conftest import make_card


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=5))
def test_the_choice_is_near_the_best_and_as_plain_as_that_allows(times):
    options = [Setting(n + 1, 1) for n in range(len(times))]
    chosen = choose(options, lambda setting: times[setting.threads - 1])
    assert times[chosen.threads - 1] <= min(times) * (1 + MARGIN)
    assert all(time > min(times) * (1 + MARGIN) for time in times[: chosen.threads - 1])


def test_disturbances_of_more_than_half_of_the_turns_do_not_decide():
    turns = {1: iter([9, *[2.0] * 8]), 2: iter([9, *[5.0] * 5, *[1.0] * 3])}
    options = [Setting(1, 1), Setting(2, 1)]
    assert choose(options, lambda setting: next(turns[setting.threads])) == options[1]


def test_a_single_option_is_not_measured():
    assert choose([Setting(3, 2)], lambda setting: pytest.fail("measured")) == Setting(3, 2)


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


def test_plans_are_remembered_for_the_same_shape_and_place_only(card_of):
    card = card_of()
    memory = Memory(card, "here", 2)
    assert memory.get(8) is None
    memory.put(8, Setting(2, 4))
    memory.put(1, Setting(1, 1))
    again = Memory(card, "here", 2)
    assert (again.get(8), again.get(1), again.get(2)) == (Setting(2, 4), Setting(1, 1), None)
    assert Memory(card, "there", 2).get(8) is None
    assert Memory(card_of(hidden=64), "here", 2).get(8) is None
    Memory(card, "there", 9).put(8, Setting(7, 8))
    assert Memory(card, "here", 2).get(8) == Setting(2, 4)


def test_two_that_measure_at_once_lose_nothing(card_of):
    one, other = Memory(card_of(), "here", 2), Memory(card_of(), "here", 2)
    one.put(1, Setting(2, 1))
    other.put(8, Setting(1, 4))
    one.put_layout(3)
    again = Memory(card_of(), "here", 2)
    assert (again.get(1), again.get(8), again.layout()) == (Setting(2, 1), Setting(1, 4), 3)


DAMAGED = [
    b"", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"key": 1, "plans": {}}', b'{"key": "", "plans": {"1": 3}}',
    b'{"key": "", "plans": {"1": {"threads": 1e999, "group": 1}}}', b"1" * 10_000,
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_file_is_measured_again_and_replaced(text, card_of):
    path = Memory(card_of(), "here", 2).path
    path.parent.mkdir(parents=True)
    path.write_bytes(text)
    memory = Memory(card_of(), "here", 2)
    assert memory.get(1) is None
    memory.put(1, Setting(2, 1))
    assert Memory(card_of(), "here", 2).get(1) == Setting(2, 1)


WORDS = (
    1,
    2,
    3,
    4,
    0,
    -1,
    3000,
    2**31,
    2**32,
    2**32 + 1,
    2**63,
    2**64,
    10**30,
    1.5,
    1e300,
    True,
    "2",
    None,
    [1],
)


@given(threads=st.sampled_from(WORDS), group=st.sampled_from(WORDS), layout=st.sampled_from(WORDS))
def test_what_is_remembered_is_a_hint_within_what_can_be_done_here(threads, group, layout):
    with (
        tempfile.TemporaryDirectory() as folder,
        unittest.mock.patch.object(cache, "folder", return_value=Path(folder)),
    ):
        memory = Memory(make_card(), "here", 2)
        memory.put(2, Setting(1, 1))
        data = json.loads(memory.path.read_text())
        data["plans"]["2"], data["layout"] = {"threads": threads, "group": group}, layout
        memory.path.write_text(json.dumps(data))
        found = Memory(make_card(), "here", 2).get(2)
        sensible = all(type(word) is int and 1 <= word <= 2 for word in (threads, group))
        assert found == (
            Setting(threads, group) if sensible and (type(layout) is int and 0 <= layout < 2**63) else None
        )


def unwritable(monkeypatch, folder):
    def fail(*_):
        raise PermissionError(13, "no")

    monkeypatch.setattr(tuning, "write_json", fail)


def a_file_in_its_place(monkeypatch, folder):
    folder.parent.mkdir()
    folder.write_text("")


def no_home(monkeypatch, folder):
    monkeypatch.undo()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))


@pytest.mark.parametrize("trouble", [unwritable, a_file_in_its_place, no_home])
def test_a_cache_that_cannot_be_used_is_no_error(trouble, monkeypatch, cache_folder, card_of):
    trouble(monkeypatch, cache_folder)
    memory = Memory(card_of(), "here", 2)
    memory.put(1, Setting(2, 1))
    memory.put_layout(1)
    assert (memory.get(1), memory.layout()) == (Setting(2, 1), 1)
    assert Memory(card_of(), "here", 2).get(1) is None


@pytest.fixture
def measurable(monkeypatch):
    """Let small steps be measured too, on a machine with two processors."""
    monkeypatch.setattr(onnx_engine, "ONE_THREAD_BYTES", 0)
    monkeypatch.setattr(onnx_engine, "ONE_THREAD_PRODUCTS", 0)
    monkeypatch.setattr(onnx_engine, "processors", lambda: 2)


def test_an_engine_measures_once_and_remembers(measurable, monkeypatch, card_of, write_step):
    path = write_step(card_of())
    times = {
        Setting(1, 1): 3.0,
        Setting(2, 1): 2.0,
        Setting(1, 4): 2.0,
        Setting(2, 4): 3.0,
        Setting(1, 2): 1.0,
    }
    monkeypatch.setattr(OnnxEngine, "_seconds", lambda self, setting: times[setting])
    engine = open_onnx(path)
    assert engine.threads == 2
    assert engine.setting(1) == Setting(2, 1)
    times[Setting(1, 1)] = 3.0
    assert engine.setting(3) == Setting(1, 2)  # one thread is better, and pairs are better than all four
    monkeypatch.setattr(OnnxEngine, "_seconds", lambda self, setting: pytest.fail("measured again"))
    again = open_onnx(path)
    assert (again.setting(1), again.setting(4)) == (Setting(2, 1), Setting(1, 2))


def test_threads_that_are_given_are_not_measured(measurable, monkeypatch, card_of, write_step, cache_folder):
    monkeypatch.setattr(OnnxEngine, "_seconds", lambda self, setting: pytest.fail("measured"))
    path = write_step(card_of())
    engine = open_onnx(path, threads=3)
    assert engine.threads == 3
    assert engine.setting(5) == Setting(3, 8)
    assert not (cache_folder / "tuning").exists()


def test_small_steps_take_one_thread_without_measuring(monkeypatch, card_of, write_step, cache_folder):
    monkeypatch.setattr(OnnxEngine, "_seconds", lambda self, setting: pytest.fail("measured"))
    path = write_step(card_of())
    assert open_onnx(path).threads == 1
    assert not (cache_folder / "tuning").exists()


@pytest.mark.parametrize(("limit", "batch"), [("SHARED_BYTES", 1), ("SHARED_PRODUCTS", 4)])
def test_heavy_steps_do_not_try_one_thread(limit, batch, measurable, monkeypatch, card_of, write_step):
    path = write_step(card_of())
    monkeypatch.setattr(OnnxEngine, "_seconds", lambda self, setting: 1.0 if setting.threads == 2 else 1 / 0)
    monkeypatch.setattr(onnx_engine, "SHARED_BYTES", 1 << 60)
    monkeypatch.setattr(onnx_engine, "SHARED_PRODUCTS", 1 << 60)
    monkeypatch.setattr(onnx_engine, limit, 1)
    assert open_onnx(path).setting(batch) == Setting(2, batch)


def test_a_real_measurement_gives_a_plan_and_leaves_nothing_beside_the_model(
    measurable, card_of, write_step, cache_folder
):
    path = write_step(card_of())
    setting = open_onnx(path).setting(4)
    assert setting.threads in (1, 2)
    assert setting.group in (4, 2, 1)
    assert [file.name for file in path.parent.glob("charlm*")] == ["charlm.onnx"]
    assert len(list((cache_folder / "tuning").iterdir())) == 1


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_batch_in_groups_writes_what_it_writes_whole(precision, monkeypatch, cell, card_of, write_step):
    card = card_of(*cell, precision=precision)
    engine = open_onnx(write_step(card))
    rng = np.random.default_rng(5)
    noise = rng.gumbel(size=(30, 7, card.vocab)).astype(np.float32)
    last = rng.integers(0, card.vocab, 7)
    whole_state, cut_state = engine.zero_state(7), engine.zero_state(7)
    whole = engine.decode(whole_state, last, noise, Sampling())
    monkeypatch.setattr(OnnxEngine, "setting", lambda self, batch: Setting(1, 3))  # 3, 3 and 1
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
