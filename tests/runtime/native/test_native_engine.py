"""The compiled decoder against numpy written by hand, against ONNX Runtime, and against itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2.contract.agreement import agreement
from p2.contract.card import bytes_per_step, step_shapes
from p2.contract.errors import P2Error, UsageError
from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling, choose
from p2.runtime import native, tuning
from p2.runtime.native import binding, packing
from p2.runtime.native import engine as engine_module
from p2.runtime.native.engine import NativeEngine
from p2.runtime.native.pace import Pace
from p2.runtime.native.packing import padded
from p2.runtime.onnx_format import Graph
from p2.runtime.onnx_tensors import FLOAT, Tensor
from p2.runtime.onnxruntime.engine import OnnxEngine
from p2.runtime.step_file import StepFile, open_step

from ...conftest import make_card
from ...quantized import step_of, tensors_of

pytestmark = pytest.mark.skipif(
    not native.available(), reason="the decoder was not compiled, or this processor has none of its levels"
)

WIDTHS = [32, 100]  # 100 is no multiple of a vector, nor of a block
SAMPLINGS = [
    Sampling(),
    Sampling(0.0),
    Sampling(0.7, top_k=5),
    Sampling(1.3, top_p=0.8, min_p=0.02),
    Sampling(1.2, top_k=4, top_p=0.7),
    Sampling(1.0, top_k=1000),
]


def tokens_of(card, batch, length, seed=1):
    return np.random.default_rng(seed).integers(0, card.vocab, (batch, length))


@pytest.mark.parametrize(
    ("layers", "hidden", "precision", "said"),
    [(65, 4, "float32", "65 layers"), (2, 24, "int4", "24, is no multiple of 16"), (1, 24, "int4", None)],
)
def test_a_step_that_it_does_not_know_is_refused_with_the_reason(layers, hidden, precision, said):
    card = make_card("lstm", layers=layers, hidden=hidden, precision=precision)
    found = engine_module.why_not(step_of(card, tensors_of(card)))
    assert (said in found) if said else found is None


@pytest.mark.parametrize("hidden", WIDTHS)
def test_float_logits_are_those_of_numpy(cell, hidden, card_of, write_step, numpy_model):
    card = card_of(*cell, hidden=hidden)
    engine = NativeEngine(open_step(write_step(card)), 2)
    tokens = tokens_of(card, 3, 50)
    found = engine.feed(engine.zero_state(3), tokens, logits=True)
    assert agreement(numpy_model(card).run(tokens).astype(np.float32), found).max_abs < 2e-5


@pytest.mark.parametrize("form", ["rnn", "lstm"])
def test_the_functions_of_the_cells_are_those_of_float64(form):
    """From a zero state a unit is one function of a number in the table."""
    card = make_card(form, layers=1, hidden=512)
    shapes = step_shapes(card)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    x = np.linspace(-9, 9, card.vocab * card.hidden).reshape(card.vocab, card.hidden).astype(np.float32)
    if form == "rnn":
        tensors["table"], name, wanted = x, "h_00", np.tanh(x.astype(np.float64))
    else:  # c is sigma(i) where tanh(g) is 1
        tensors["table"] = np.hstack([x, 0 * x, 0 * x, 0 * x + 20])
        name, wanted = "c_00", 1 / (1 + np.exp(-x.astype(np.float64)))
    held = {name: Tensor.of(name, array) for name, array in tensors.items()}
    engine = NativeEngine(StepFile(Path("made"), card, Graph([], held, [], []), 21, FLOAT, as_traced=True), 1)
    state = engine.zero_state(card.vocab)
    engine.feed(state, np.arange(card.vocab)[:, None])
    assert np.abs(state[name] - wanted).max() < 2e-7


@pytest.mark.parametrize("precision", ["float16", "bfloat16", "float8"])
def test_narrow_floats_agree_with_onnx_runtime(cell, precision, card_of, write_step):
    """ONNX Runtime widens the weights when it loads them, the decoder while it reads them."""
    step = open_step(write_step(card_of(*cell, precision=precision)))
    tokens = tokens_of(step.card, 2, 40)
    logits = [
        engine.feed(engine.zero_state(2), tokens, logits=True)
        for engine in (NativeEngine(step, 1), OnnxEngine(step, 1))
    ]
    assert agreement(logits[1], logits[0]).max_abs < 2e-5


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_weights_of_16_bits_are_read_as_they_are(cell, precision, card_of, write_step):
    """Widening is exact: the logits are those of the same numbers stored in 32 bits, to the last bit."""
    step = open_step(write_step(card_of(*cell, precision=precision)))
    wide = {
        name: Tensor.of(name, np.asarray(t.array(), np.float32)) for name, t in step.graph.tensors.items()
    }
    widened = replace(step, graph=replace(step.graph, tensors=wide))
    narrow, other = NativeEngine(step, 1), NativeEngine(widened, 1)
    kinds = [engine._packed.model.out.kind for engine in (narrow, other)]
    assert kinds == [{"float16": binding.HALVES, "bfloat16": binding.BRAIN}[precision], binding.FLOATS]
    for batch in (1, 2, 7):
        tokens = tokens_of(step.card, batch, 20)
        logits = [e.feed(e.zero_state(batch), tokens, logits=True) for e in (narrow, other)]
        assert np.array_equal(*logits)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "int4"])
@settings(max_examples=8, deadline=None)
@given(
    batch=st.integers(1, 15),
    cuts=st.lists(st.integers(0, 23), max_size=3),
    threads=st.integers(1, 3),
    division=st.sampled_from([binding.PANELS, binding.TEXTS, binding.LAYERS]),
    place=st.sampled_from([binding.OWN, binding.SHARED, binding.MEMORY]),
    seed=st.integers(0, 1000),
)
@example(batch=7, cuts=[5], threads=2, division=binding.TEXTS, place=binding.OWN, seed=1)
@example(batch=4, cuts=[], threads=1, division=binding.PANELS, place=binding.MEMORY, seed=2)
def test_a_text_depends_on_nothing_but_itself(
    precision, batch, cuts, threads, division, place, seed, engines
):
    """Not on its batch, its cuts, the threads, what they divide, where the weights stay: to the last bit."""
    for cell in (("rnn", "after"), ("lstm", "after"), ("gru", "after"), ("gru", "before")):
        step = engines(*cell, precision)
        card = step.card
        tokens, noise = tokens_of(card, batch, 24, seed), gumbel(seed, range(batch), 0, 9, card.vocab)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(packing, "PLACE_BYTES", [0] * place + [1 << 60] * (2 - place))
            many = NativeEngine(step, threads)
        many._division = lambda *_: division
        assert many._packed.place == many._packed.model.out.place == place
        state, pieces = many.zero_state(batch), []
        for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), 24], strict=True):
            pieces.append(many.feed(state, tokens[:, start:end], logits=True))
        logits = np.concatenate(pieces, axis=1)
        written = many.decode(state, tokens[:, -1], noise, Sampling())
        alone = NativeEngine(step, 1)
        for row in range(batch):  # each: a kernel takes several
            own = alone.zero_state(1)
            assert np.array_equal(alone.feed(own, tokens[row : row + 1], logits=True)[0], logits[row])
            first = alone.decode(own, tokens[row : row + 1, -1], noise[:4, row : row + 1], Sampling())
            rest = alone.decode(own, first[:, -1], noise[4:, row : row + 1], Sampling())
            assert np.array_equal(np.concatenate([first, rest], axis=1)[0], written[row])
            assert all(np.array_equal(own[name][0], state[name][row]) for name in card.state_names)


def test_of_equal_characters_the_first_is_written():
    card = make_card("rnn", precision="int8")
    tensors = tensors_of(card)
    tensors["w_out_q"][:], tensors["b_out"][:] = tensors["w_out_q"][:, :1], 0  # all logits are one number
    tensors["w_out_scale"][:] = tensors["w_out_scale"][0]
    engine = NativeEngine(step_of(card, tensors), 1)
    for sampling in (Sampling(0), Sampling(1.0, top_k=1)):
        state, last = engine.zero_state(2), np.array([3, 5])
        written = engine.decode(state, last, np.zeros((4, 2, card.vocab), np.float32), sampling)
        assert not written.any()


@pytest.mark.parametrize("layers", [1, 3, 4])
@pytest.mark.parametrize("threads", [2, 3, 5])
def test_layers_that_work_after_one_another_agree(cell, layers, threads):
    """A thread that reads with layers of its own passes on what one thread finds."""
    card = make_card(*cell, layers=layers, precision="int8")
    step = step_of(card, tensors_of(card))
    alone, many = NativeEngine(step, 1), NativeEngine(step, threads)
    many._division = lambda *_: binding.LAYERS
    for batch, length in ((1, 1), (1, 7), (3, 90), (2, 200)):
        tokens = tokens_of(card, batch, length)
        states = [engine.zero_state(batch) for engine in (alone, many)]
        logits = [
            engine.feed(state, tokens, logits=True)
            for engine, state in zip((alone, many), states, strict=True)
        ]
        assert np.array_equal(*logits)
        assert all(np.array_equal(states[0][name], states[1][name]) for name in card.state_names)


def test_one_thread_is_tried_where_a_step_is_short(card_of, write_step, monkeypatch):
    tried = []
    monkeypatch.setattr(engine_module, "processors", lambda: 4)
    monkeypatch.setattr(engine_module, "ONE_THREAD_BYTES", 0)
    monkeypatch.setattr(tuning, "choose", lambda options, _: tried.append(options) or options[0])
    step = open_step(write_step(card_of("lstm")))
    monkeypatch.setattr(engine_module, "TRIED_BYTES", 8 * bytes_per_step(step.card))
    engine = NativeEngine(step)
    engine.setting(4)
    engine.setting(5)
    assert [[setting.threads for setting in options] for options in tried] == [[1, 2, 4], [1, 2, 4], [2, 4]]


def test_two_threads_may_read_where_one_writes(card_of, write_step, monkeypatch):
    monkeypatch.setattr(engine_module, "processors", lambda: 4)
    step = open_step(write_step(card_of("lstm", layers=3)))
    engine = NativeEngine(step)
    monkeypatch.setattr(engine, "_threads", lambda *_: 1)
    engine._alone_until = 0.0
    monkeypatch.setattr(engine_module, "LITTLE_BYTES", 64 * bytes_per_step(step.card))
    assert engine._reading_threads(1, 64) == 3
    assert engine._reading_threads(1, 63) == 1  # too short
    assert engine._reading_threads(100, 64) == 1  # the texts are divided, as settings say
    engine._alone_until = float("inf")
    assert engine._reading_threads(1, 64) == 1
    assert NativeEngine(step, 1)._reading_threads(1, 64) == 1  # as asked


def test_what_the_threads_divide(card_of, write_step):
    """Layers for reading where one fits its thread's cache, texts for many of a small model, else panels."""
    engine = NativeEngine(open_step(write_step(card_of("lstm", precision="int8"))), 2)
    assert engine._division("p2_feed", 1, 2) == binding.LAYERS
    assert engine._division("p2_feed", 1, 1) == binding.PANELS
    assert engine._division("p2_feed", 100, 2) == binding.TEXTS
    assert engine._division("p2_decode", 1, 2) == binding.PANELS
    assert engine._division("p2_decode", 8, 2) == binding.TEXTS
    engine._packed.recurrent_bytes = 1 << 20
    assert engine._division("p2_feed", 1, 2) == binding.PANELS
    engine._packed.place = binding.SHARED
    assert engine._division("p2_decode", 8, 2) == binding.PANELS


def test_where_weights_stay(card_of, write_step, monkeypatch):
    """A step in 8 bits of a float is widened, and counts as what it becomes."""
    step = open_step(write_step(card_of("lstm", precision="float8")))
    packed = packing.Packed(step)
    assert packed.recurrent_bytes == 4 * packed.width**2 * 4
    stored = bytes_per_step(step.card)
    monkeypatch.setattr(packing, "PLACE_BYTES", (stored + 1, 1 << 60))
    assert packing.Packed(step).place == binding.SHARED


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_writes_what_its_logits_choose(cell, sampling, card_of, write_step):
    card = card_of(*cell)
    engine = NativeEngine(open_step(write_step(card)), 2)
    last, state, by_hand = np.array([1, 2, 3]), engine.zero_state(3), engine.zero_state(3)
    noise = gumbel(5, range(3), 0, 60, card.vocab) * np.float32(sampling.temperature)
    written = engine.decode(state, last, noise, sampling)
    for step in range(60):
        logits = engine.feed(by_hand, last[:, None], logits=True)
        last = choose(logits[:, 0], noise[step], sampling)
        assert np.array_equal(written[:, step], last), step
    assert all(np.array_equal(state[name], by_hand[name]) for name in card.state_names)


def test_activations_over_their_whole_range(card_of, write_weights):
    """A vanilla RNN that forgets everything is a table of hyperbolic tangents."""
    card = card_of("rnn", layers=1, hidden=64)
    values = np.concatenate([np.linspace(-12, 12, (card.vocab - 1) * 64), np.linspace(-1e-3, 1e-3, 64)])
    table = values.astype(np.float32).reshape(card.vocab, 64)
    step = open_step(write_weights(card, {"table": table, "w_00": np.zeros((64, 64), np.float32)}))
    engine = NativeEngine(step, 1)
    state = engine.zero_state(card.vocab)
    engine.feed(state, np.arange(card.vocab)[:, None])
    wanted = np.tanh(table.astype(np.float64))
    assert np.abs(state["h_00"] - wanted).max() < 1.5e-7
    small = np.abs(table) < 1e-3
    assert np.abs(state["h_00"][small] / wanted[small] - 1).max() < 3e-7


def test_long_texts_are_read_in_pieces(card_of, write_step, monkeypatch):
    from p2.runtime.native import engine as module

    card = card_of("lstm")
    step = open_step(write_step(card))
    tokens = tokens_of(card, 2, 50)
    whole, pieces = NativeEngine(step, 1), NativeEngine(step, 1)
    states = whole.zero_state(2), pieces.zero_state(2)
    logits = whole.feed(states[0], tokens, logits=True)
    monkeypatch.setattr(module, "FEED_NUMBERS", 7 * 2 * 4 * card.hidden)
    assert np.array_equal(pieces.feed(states[1], tokens, logits=True), logits)
    assert all(np.array_equal(states[0][name], states[1][name]) for name in card.state_names)


def test_nothing_to_do(card_of, write_step):
    engine = NativeEngine(open_step(write_step(card_of())), 1)
    state = engine.zero_state(2)
    assert engine.feed(state, np.zeros((2, 0), np.int64)) is None
    assert engine.feed(state, np.zeros((2, 0), np.int64), logits=True).shape == (2, 0, engine.card.vocab)
    noise = np.zeros((0, 2, engine.card.vocab), np.float32)
    assert engine.decode(state, np.zeros(2, np.int64), noise, Sampling()).shape == (2, 0)
    assert not any(array.any() for array in state.values())


@pytest.mark.parametrize("hidden", WIDTHS)
@pytest.mark.parametrize("apart", [np.s_[::2], np.s_[:, ::-1]], ids=["rows", "columns"])
def test_states_may_lie_anyhow_in_memory(hidden, apart, card_of, write_step):
    engine = NativeEngine(open_step(write_step(card := card_of("lstm", hidden=hidden))))
    rng = np.random.default_rng(0)
    given = {name: rng.normal(size=(6, hidden)).astype(np.float32)[apart] for name in card.state_names}
    packed = {name: np.ascontiguousarray(values) for name, values in given.items()}
    tokens = tokens_of(card, len(next(iter(given.values()))), 3)
    found, wanted = (engine.feed(state, tokens, logits=True) for state in (given, packed))
    assert np.array_equal(found, wanted)
    assert all(np.array_equal(given[name], packed[name]) for name in card.state_names)


@pytest.mark.parametrize("token", [-1, 30])
def test_tokens_outside_the_vocabulary_are_refused(token, card_of, write_step):
    engine = NativeEngine(open_step(write_step(card_of())), 1)
    with pytest.raises(UsageError, match="tokens must be 0 to 29"):
        engine.feed(engine.zero_state(1), np.array([[0, token]]))
    with pytest.raises(UsageError, match="tokens must be 0 to 29"):
        engine.decode(engine.zero_state(1), np.array([token]), np.zeros((1, 1, 30), np.float32), Sampling())


def test_the_measured_setting_is_remembered(card_of, write_step, monkeypatch):
    from p2.runtime.native import engine as module

    monkeypatch.setattr(module, "ONE_THREAD_BYTES", 0)
    monkeypatch.setattr(module, "processors", lambda: 2)
    path = write_step(card_of())
    first = NativeEngine(open_step(path)).setting(3)
    assert list(path.parent.glob("charlm*")) == [path]  # nothing beside the model
    monkeypatch.setattr(NativeEngine, "_seconds", lambda *_: pytest.fail("it measured again"))
    assert NativeEngine(open_step(path)).setting(4) == first


def test_one_thread_works_while_another_program_disturbs_two(card_of, write_step, monkeypatch):
    from p2.runtime.native import engine as module

    now, threads, waits, really = [0.0], [], [0], binding.run

    def run(name, model, job):
        really(name, model, job)
        threads.append(job.threads)
        job.waits = waits[0]

    monkeypatch.setattr(module, "ONE_THREAD_BYTES", 0)
    monkeypatch.setattr(module, "LITTLE_BYTES", 0)
    monkeypatch.setattr(module, "JUDGED_STEPS", 20)
    monkeypatch.setattr(module, "processors", lambda: 2)
    monkeypatch.setattr(module.tuning, "choose", lambda options, _: options[-1])
    monkeypatch.setattr(module.binding, "run", run)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    engine = NativeEngine(open_step(write_step(card_of())))
    noise = np.zeros((20, 1, engine.card.vocab), np.float32)

    def write():
        engine.decode(engine.zero_state(1), np.zeros(1, np.int64), noise, Sampling())

    write()  # in peace
    waits[0] = 20
    write()  # disturbed
    waits[0] = 0
    write()
    now[0] += module.ALONE_SECONDS
    write()
    waits[0] = 2  # one of which is for the other thread to begin
    write()
    monkeypatch.setattr(module, "LITTLE_BYTES", 1 << 30)
    write()  # over before it has begun
    assert threads == [2, 2, 1, 2, 2, 1]


def test_threads_are_chosen_anew_while_it_writes(card_of, write_step, monkeypatch):
    """Every call takes a second on one thread and two on two: time goes by as many, and no longer."""
    now, asked, really = [0.0], [], binding.run

    def run(name, model, job):
        asked.append(job.threads)
        now[0] += job.threads
        really(name, model, job)

    monkeypatch.setattr(engine_module, "ONE_THREAD_BYTES", 0)
    monkeypatch.setattr(engine_module, "LITTLE_BYTES", 0)
    monkeypatch.setattr(engine_module, "processors", lambda: 2)
    monkeypatch.setattr(tuning, "choose", lambda options, *_: options[-1])
    engine = NativeEngine(open_step(write_step(card_of())))
    monkeypatch.setattr(binding, "run", run)
    monkeypatch.setattr(engine_module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(
        engine_module, "Pace", lambda options, first: Pace(options, first, clock=lambda: now[0])
    )
    noise = np.zeros((20, 1, engine.card.vocab), np.float32)

    def write(times):
        asked.clear()
        for _ in range(times):
            engine.decode(engine.zero_state(1), np.zeros(1, np.int64), noise, Sampling())
        return list(asked)

    assert write(5) == [2, 1, 2, 1, 1]  # tried twice, then taken
    assert write(4) == [2, 1, 2, 1]  # the other one is tried now and then
    with monkeypatch.context() as large:
        large.setattr(engine_module, "TRIED_BYTES", bytes_per_step(engine.card))
        assert set(write(6)) == {2}  # as planned: a large model takes too long to try
    monkeypatch.setattr(engine, "_alone_until", float("inf"))
    assert write(3) == [1] * 3
    given = NativeEngine(open_step(write_step(card_of())), 2)
    asked.clear()
    for _ in range(4):
        given.decode(given.zero_state(1), np.zeros(1, np.int64), noise, Sampling())
    assert asked == [2] * 4


def test_a_few_waits_in_a_short_call_are_no_disturbance(card_of, write_step, monkeypatch):
    monkeypatch.setattr(engine_module, "ONE_THREAD_BYTES", 0)
    monkeypatch.setattr(engine_module, "processors", lambda: 2)
    engine = NativeEngine(open_step(write_step(card_of())))
    judged = engine_module.JUDGED_STEPS
    engine._steps = engine._waits = 0
    engine._alone_until = 0.0
    engine._judge(1, 2, 16, 3)
    assert not engine._alone_until
    engine._judge(1, 2, judged - 16, 1)  # 2 waits of 256 steps
    assert not engine._alone_until
    for _ in range(judged // 16):
        engine._judge(1, 2, 16, 3)
    assert engine._alone_until  # 2 waits of every 16


def test_a_prompt_goes_on_with_more_threads_when_a_disturbance_is_over(card_of, write_step, monkeypatch):
    counts, threads, really = iter([1, 2, 3]), [], binding.run
    engine = NativeEngine(open_step(write_step(card_of())), 2)
    monkeypatch.setattr(engine_module, "FEED_NUMBERS", 10 * engine.card.gates * engine.card.hidden)
    monkeypatch.setattr(engine, "_reading_threads", lambda *_: next(counts))
    monkeypatch.setattr(
        binding, "run", lambda name, model, job: threads.append(job.threads) or really(name, model, job)
    )
    engine.feed(engine.zero_state(1), np.zeros((1, 30), np.int64))
    assert threads == [1, 2, 3]


def test_a_job_that_finds_no_memory_says_so(card_of, write_step):
    engine = NativeEngine(open_step(write_step(card_of())), 1)
    job = binding.Job(batch=1 << 30, threads=1, count=1)
    with pytest.raises(P2Error, match="there is no memory or there are no threads for"):
        binding.run("p2_decode", engine._packed.model, job)


@pytest.mark.parametrize(("size", "wide"), [(1, 64), (64, 64), (65, 128), (2048, 2048)])
def test_widths_are_whole_panels(size, wide):
    assert padded(size) == wide


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Steps of every cell and precision, made once."""
    from tests.conftest import make_card, step_bytes

    made = {}

    def step(cell, reset, precision):
        key = (cell, reset, precision)
        if key not in made:
            path = tmp_path_factory.mktemp("steps") / "charlm.onnx"
            path.write_bytes(step_bytes(make_card(cell, reset).with_(precision=precision)))
            made[key] = open_step(path)
        return made[key]

    return step


@pytest.fixture
def write_weights(tmp_path, parameters_of):
    """Write a step with some of its tensors replaced, by their names in the contract."""

    def write(card, replaced):
        import torch

        from p2.export.fold import fold
        from p2.export.graph import step_graph

        parameters = {name: torch.from_numpy(array) for name, array in parameters_of(card).items()}
        folded = fold(card, parameters) | {k: torch.from_numpy(v) for k, v in replaced.items()}
        path = tmp_path / "charlm.onnx"
        path.write_bytes(step_graph(card, folded).SerializeToString())
        return path

    return write
