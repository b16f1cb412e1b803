"""The levels of instructions: each writes the same to the last bit, and P2_CPU chooses one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from p2.cli import main
from p2.contract.card import step_shapes
from p2.contract.errors import P2Error, UsageError
from p2.contract.noise import Address
from p2.contract.sampling import Sampling
from p2.runtime import doctor, native
from p2.runtime.backends import BACKENDS
from p2.runtime.native import binding, packing
from p2.runtime.native.engine import why_not
from p2.runtime.onnx_format import Graph
from p2.runtime.onnx_tensors import BFLOAT16, FLOAT, Tensor
from p2.runtime.opening import open_step_engine
from p2.runtime.step_file import StepFile, open_step

from ...conftest import CELLS, make_card
from ...levels import LEVELS, on
from ...quantized import step_of, tensors_of

pytestmark = pytest.mark.skipif(not LEVELS, reason="no level of the decoder runs here")


@pytest.fixture(autouse=True)
def the_fastest_again(monkeypatch):
    monkeypatch.delenv(native.CPU, raising=False)
    yield
    binding.use(LEVELS[0])


def made(cell, kind, layers, hidden):
    """A step with random weights of a kind."""
    card = make_card(*cell, layers=layers, hidden=hidden, precision=kind)
    if kind in ("int8", "int4"):
        return step_of(card, tensors_of(card))
    rng, held = np.random.default_rng(0), {}
    for name, shape in step_shapes(card).items():
        array = (rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32)
        if name.startswith("w_") and kind == "bfloat16":
            held[name] = Tensor(name, BFLOAT16, shape, (array.view(np.uint32) >> 16).astype("<u2").data)
        else:
            narrow = name.startswith("w_") and kind == "float16"
            held[name] = Tensor.of(name, array.astype(np.float16) if narrow else array)
    return StepFile(Path("made.onnx"), card, Graph([], held, [], []), 21, FLOAT, as_traced=True)


@pytest.mark.skipif(len(LEVELS) < 2, reason="this processor has one level only")
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16", "int8", "int4"])
@settings(max_examples=6, deadline=None)
@given(
    cell=st.sampled_from(CELLS),
    layers=st.integers(1, 2),
    hidden=st.sampled_from([16, 80, 320]),  # panels of one, of some, and more rows than a piece
    batch=st.integers(1, 15),
    place=st.sampled_from([binding.OWN, binding.SHARED, binding.MEMORY]),
    threads=st.integers(1, 2),
    seed=st.integers(0, 1000),
)
@example(cell=CELLS[1], layers=2, hidden=320, batch=1, place=binding.OWN, threads=1, seed=1)
@example(cell=CELLS[1], layers=2, hidden=320, batch=8, place=binding.SHARED, threads=1, seed=5)
@example(cell=CELLS[2], layers=2, hidden=320, batch=9, place=binding.MEMORY, threads=2, seed=2)
@example(cell=CELLS[3], layers=2, hidden=80, batch=6, place=binding.MEMORY, threads=1, seed=3)
@example(cell=CELLS[0], layers=2, hidden=80, batch=2, place=binding.SHARED, threads=1, seed=4)
def test_every_level_says_the_same_to_the_last_bit(kind, cell, layers, hidden, batch, place, threads, seed):
    """Every sum runs in the order of the matrix's rows, with one rounding for a product and its sum."""
    step = made(cell, kind, layers, hidden)
    tokens = np.random.default_rng(seed).integers(0, step.card.vocab, (batch, 9))
    found = {}
    for level in LEVELS:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(packing, "PLACE_BYTES", [0] * place + [1 << 60] * (2 - place))
            layout = packing.PLAIN_AHEAD if place == binding.SHARED else packing.PLAIN
            patched.setattr(packing, "layouts", lambda _, layout=layout: [layout])
            engine = on(level, step, threads)
        assert (engine._packed.model.out.place, engine._packed.level) == (place, level)
        state = engine.zero_state(batch)
        logits = engine.feed(state, tokens, logits=True)
        written = engine.draw(state, tokens[:, -1], Address(seed, range(batch), 0), 9, Sampling(0.8))
        found[level] = {"logits": logits, "written": written} | state
    first = found[LEVELS[0]]
    for level, other in found.items():
        assert all(np.array_equal(first[name], other[name]) for name in first), level


@pytest.mark.skipif(len(LEVELS) < 2, reason="this processor has one level only")
def test_an_engine_of_another_level_says_so(write_step, card_of):
    """Its weights may lie in another order."""
    path = write_step(card_of())
    engine = on(LEVELS[0], open_step(path))
    on(LEVELS[1], open_step(path))
    with pytest.raises(P2Error) as caught:
        engine.feed(engine.zero_state(1), np.zeros((1, 3), np.int64))
    assert str(caught.value) == (
        f"{path} was opened for {LEVELS[0]}, and this process runs on {LEVELS[1]} now: "
        "open it again, and leave P2_CPU as it is"
    )


def test_noise_is_the_same_on_every_level():
    words = np.random.default_rng(0).integers(0, 2**32, 1 << 14, dtype=np.uint32)
    words[:4] = [0, 2**31 - 1, 2**31, 2**32 - 1]
    made = []
    for level in LEVELS:
        binding.use(level)
        made.append(binding.approximate_noise(words).view(np.uint32))
    assert all(np.array_equal(made[0], other) for other in made)


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_is_asked_for_by_name(level, monkeypatch):
    monkeypatch.setenv(native.CPU, level)
    used = []
    monkeypatch.setattr(binding, "use", used.append)
    assert native.problem() is None
    assert (native.level(), used) == (level, [level])


def test_without_a_word_the_fastest_runs(monkeypatch):
    assert native.level() == LEVELS[0]
    monkeypatch.setenv(native.CPU, "")
    assert native.level() == LEVELS[0]
    monkeypatch.setattr(binding, "levels", lambda: {"fast": False, "slow": True, "slower": True})
    assert native.level() == "slow"


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("sse9", "P2_CPU must be fast, slow or slower on this kind of machine, not 'sse9'"),
        ("fast", "P2_CPU=fast asks for instructions that this processor does not have"),
    ],
)
def test_a_level_that_is_not_to_be_had_is_a_sentence(asked, says, monkeypatch, write_step, card_of, capsys):
    """Nothing else runs instead, unless it is asked for; the doctor says so and goes on."""
    path = write_step(card_of())
    monkeypatch.setattr(binding, "levels", lambda: {"fast": False, "slow": True, "slower": True})
    monkeypatch.setenv(native.CPU, asked)
    assert native.problem() == says
    with pytest.raises(UsageError) as caught:
        why_not(open_step(path))
    assert str(caught.value) == says
    for backend in ([], ["--backend", "native"]):
        assert main(["generate", "--engine", str(path), "--length", "5", *backend]) == 2
        assert says in " ".join(capsys.readouterr().err.split())
    assert open_step_engine(path, 1, "onnxruntime-cpu")
    assert doctor._system()["decoder"] == f"does not run: {says}"
    trial = doctor._trial(BACKENDS["native"])
    assert (trial.met, trial.missing, trial.remedy) == (False, says, "unset P2_CPU")


def test_the_doctor_says_which_level_runs(monkeypatch):
    assert doctor._system()["decoder"].startswith(f"runs on {LEVELS[0]}")
    monkeypatch.setattr(binding, "levels", lambda: {"fast": False, "slow": True, "slower": True})
    monkeypatch.setattr(binding, "use", lambda _: None)
    assert doctor._system()["decoder"] == "runs on slow; P2_CPU=slower asks for less"
