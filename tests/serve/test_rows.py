"""Rows of a batch: whoever comes, goes and comes back has the state that was its own."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.errors import NotFinite
from p2.contract.sampling import Sampling
from p2.runtime import native, step_weights
from p2.runtime.decoder import Decoder
from p2.runtime.host_states import HostStates
from p2.runtime.native.engine import NativeEngine
from p2.runtime.onnxruntime.engine import OnnxEngine
from p2.runtime.step_file import open_step
from p2.serve.rows import Rows
from p2.serve.text import ENDED, IN_BATCH, PAUSED, Text

from ..conftest import make_card, step_bytes
from ..overflowing import overflowing_step


class Held(HostStates):
    """States alone."""

    card = make_card("lstm", layers=1, hidden=2)


def text(number: int) -> Text:
    return Text(np.zeros(0, np.int64), 9, 0, number, Sampling(), (), None, False, number, None)


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "step.onnx"
    path.write_bytes(step_bytes(make_card("lstm")))
    made = {"onnxruntime": OnnxEngine(open_step(path), 1)}
    if not native.problem():
        made["native"] = NativeEngine(open_step(path), 1)
    return made


@given(
    st.lists(st.tuples(st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)), st.booleans()), max_size=12)
)
def test_every_text_keeps_its_own_state(borders):
    """At each border some leave, for ever or for a while, and others come, new ones or those that wait."""
    rows, texts = Rows(Held()), [text(number) for number in range(8)]
    steps = dict.fromkeys(range(8), 0)  # that the state of a text has seen
    for leave, come, for_ever in borders:
        here = {one.index for one in rows.texts}
        leaving = [one for one in rows.texts if one.index in leave]
        for one in leaving:
            one.place = ENDED if for_ever else PAUSED
        joining = [texts[number] for number in sorted(come - here) if texts[number].place != ENDED]
        for one in joining:
            one.place = IN_BATCH
        rows.change(leaving, joining)
        if rows.texts:
            state = rows.state
            for array in state.values():  # a step of each: it counts in its own units, never as far as 1
                array += np.array([[(1 + one.index) / 256] for one in rows.texts], np.float32)
            rows.state = state
        for one in rows.texts:
            steps[one.index] += 1
        for row, one in enumerate(rows.texts):
            found = rows.copy_of([row])
            assert all((array == steps[one.index] * (1 + one.index) / 256).all() for array in found.values())


@pytest.mark.parametrize("kind", ["onnxruntime", "native"])
@given(st.data())
def test_prompts_read_in_parts_lead_to_what_p2_generate_writes(kind, engines, data):
    """Whatever is read by itself, and whatever beside texts that are written."""
    if kind not in engines:
        pytest.skip(native.problem())
    engine = engines[kind]
    rows, reading = Rows(engine), Rows(engine)
    count = data.draw(st.integers(1, 3))
    prompts = [data.draw(st.lists(st.integers(0, engine.card.vocab - 1), min_size=2)) for _ in range(count)]
    texts = [
        Text(np.array(prompt), 20, 3, row, Sampling(), (), None, False, row, None)
        for row, prompt in enumerate(prompts)
    ]
    reading.change([], texts)
    while reading:
        steps = data.draw(st.integers(1, min(one.unread for one in reading.texts)))
        reading.read(steps)
        beside = data.draw(st.integers(0, 5)) if rows.reads_beside else 0
        done = [one for one in reading.texts if one.unread <= beside]
        for one in done:
            if not one.unread:
                one.begin(reading._codec)
        reading.change(done)
        rows.change([], done)
    written = dict.fromkeys(range(count), "")
    while rows:
        tokens, _ = rows.write(data.draw(st.integers(1, 9)))
        for row, one in enumerate(rows.texts):
            for piece in one.advance(tokens[row], rows._codec.decode(tokens[row]), rows._codec, 0.0, 0.0):
                written[one.index] += piece.shown
        rows.change([one for one in rows.texts if not one.left])
    for row, prompt in enumerate(prompts):
        alone = Decoder(engine, Sampling(), 3, [row])
        alone.begin([np.array(prompt)])
        assert written[row] == rows._codec.decode(alone.write(20)[0])


@pytest.mark.parametrize("kind", ["onnxruntime", "native"])
@pytest.mark.parametrize("scores", [None, 1])
def test_what_comes_after_the_end_of_a_text_is_no_fault_of_it(kind, scores, tmp_path, monkeypatch):
    """Its row goes on to the end of the chunk, and may compute NaN there."""
    if kind == "native" and native.problem():
        pytest.skip(native.problem())
    monkeypatch.setattr(step_weights, "MOST_WEIGHT", np.inf)
    (tmp_path / "step.onnx").write_bytes(overflowing_step())
    step = open_step(tmp_path / "step.onnx")
    engine = NativeEngine(step, 1) if kind == "native" else OnnxEngine(step, 1)
    seen = set()
    for seed in range(60):
        drawn = Decoder(engine, Sampling(), seed, [0])
        drawn.begin([np.array([3])])
        try:
            expected = drawn.write(8)[0]
        except NotFinite:
            expected = None
        one = Text(np.array([3]), 8, seed, 0, Sampling(), (), scores, False, 0, None)
        other = Text(np.array([3]), 40, 1000, 0, Sampling(), (), None, False, 1, None)
        rows = Rows(engine)
        for each in (one, other):
            each.begin(rows._codec)
        rows.change([], [one, other])
        tokens, problem = rows.write(40)
        lost = problem is not None and 0 in problem.rows
        assert lost == (expected is None), seed
        if not lost:
            assert tokens[0, :8].tolist() == expected.tolist()
        seen.add((lost, bool(np.isnan(np.concatenate([*rows.state.values()], axis=1)[0]).any())))
    assert {(True, True), (False, True), (False, False)} <= seen
