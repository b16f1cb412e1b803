"""The decoder's levels for Arm, under qemu: the definition's integers, and every bit of what runs here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest

from p2.contract.agreement import agreement
from p2.contract.integers import Definition
from p2.contract.noise import Address, gumbel
from p2.contract.sampling import Sampling
from p2.runtime import native
from p2.runtime.native import binding
from p2.runtime.native.engine import NativeEngine
from p2.runtime.onnx_tensors import Tensor
from p2.runtime.step_file import StepFile, open_step

from ...conftest import CELLS, make_card
from ...quantized import step_of, tensors_of
from . import emulated

pytestmark = pytest.mark.skipif(emulated.missing() is not None, reason=str(emulated.missing()))

# Processors, as qemu calls them, and the fastest level of each.
PROCESSORS = {"neon": "cortex-a72", "dotprod": "neoverse-n1", "i8mm": "max"}
FLOATS = ["float32", "float16", "bfloat16"]
BATCHES = [1, 2, 6, 7]  # of 7 texts a kernel takes 3 and another 4; 5 are two more than a pair of pairs


@pytest.fixture(scope="session")
def processors(request, tmp_path_factory) -> Iterator[dict[str, emulated.Emulated]]:
    kept = getattr(request.config, "cache", None)
    program = emulated.compiled(kept.mkdir("p2-arm") if kept else tmp_path_factory.mktemp("arm"))
    running = {level: emulated.Emulated(program, name) for level, name in PROCESSORS.items()}
    yield running
    for one in running.values():
        one.close()


@pytest.fixture
def on(processors, monkeypatch) -> Callable[[str | None], None]:
    """Let engines run on an Arm processor from now on: ``on("dotprod")``; None for the one that is here."""
    real = binding.library

    def turn(level: str | None) -> None:
        monkeypatch.setattr(binding, "library", real if level is None else lambda: processors[level])
        assert level is None or native.problem() is None

    return turn


class Said(NamedTuple):
    """What an engine does: bits of logits and states, texts with noise of its own and with given noise."""

    logits: Any
    drawn: Any
    written: Any
    states: Any

    def is_that_of(self, other: Said) -> bool:
        return all(np.array_equal(*pair) for pair in zip(self, other, strict=True))


def use(step: StepFile, batch: int, threads: int = 1, division: int | None = None) -> Said:
    """Let an engine read and write."""
    engine = NativeEngine(step, threads)
    if division is not None:
        engine._division = lambda *_: division
    rng, card, state = np.random.default_rng(batch), step.card, engine.zero_state(batch)
    logits = engine.feed(state, rng.integers(0, card.vocab, (batch, 9)), logits=True)
    last, samplings = np.arange(batch), [Sampling(1.3, top_p=0.8, min_p=0.02), Sampling(0.8, top_k=5)]
    drawn = engine.draw(state, last, Address(3, range(batch), 5), 8, samplings[batch % 2])
    written = engine.decode(state, last, gumbel(1, range(batch), 0, 8, card.vocab), Sampling())
    return Said(logits.view(np.uint32), drawn, written, np.stack([*state.values()]).view(np.uint32))


@pytest.fixture
def step(write_step) -> Callable[..., StepFile]:
    def make(cell: tuple[str, str], precision: str) -> StepFile:
        return open_step(write_step(make_card(*cell, precision=precision)))

    return make


def with_tensors(step: StepFile, changed: dict[str, Any]) -> StepFile:
    tensors = step.graph.tensors | {name: Tensor.of(name, array) for name, array in changed.items()}
    return replace(step, graph=replace(step.graph, tensors=tensors))


def test_the_fastest_level_of_a_processor(on, processors, monkeypatch):
    levels = [*PROCESSORS]
    for number, level in enumerate(levels):
        on(level)
        assert native.level() == level
        assert binding.levels() == {name: name in levels[: number + 1] for name in levels[::-1]}
    for level, asked, problem in (
        ("i8mm", "neon", None),
        ("dotprod", "i8mm", "P2_CPU=i8mm asks for instructions that this processor does not have"),
        ("neon", "avx2", "P2_CPU must be i8mm, dotprod or neon on this kind of machine, not 'avx2'"),
    ):
        monkeypatch.delenv(native.CPU, raising=False)
        on(level)
        monkeypatch.setenv(native.CPU, asked)
        assert native.problem() == problem
        assert problem or native.level() == asked


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("level", PROCESSORS)
def test_integers_are_those_of_the_definition(level, precision, on):
    """Every cell with an odd number of texts; every number of them with one."""
    on(level)
    for cell, hidden, batch in [
        *((cell, 32, 7) for cell in CELLS),
        *((CELLS[2], 144, b) for b in range(1, 7)),
    ]:
        card = make_card(*cell, layers=1 if hidden > 32 else 2, hidden=hidden, precision=precision)
        tensors = tensors_of(card)
        engine, definition = NativeEngine(step_of(card, tensors), 1), Definition(card, tensors)
        tokens = np.random.default_rng(batch).integers(0, card.vocab, (batch, 6))
        state, defined = engine.zero_state(batch), definition.zero_state(batch)
        for wild in state, defined:  # as no cell leaves it: 8 bits hold no more
            wild["h_00"] += np.linspace(-2, 2, hidden, dtype=np.float32)
        found = engine.feed(state, tokens, logits=True)
        np.testing.assert_array_equal(found, definition.run(defined, tokens), f"{cell} {batch}")
        assert all(np.array_equal(state[name], defined[name]) for name in state)


def test_floats_are_those_of_numpy(cell, on, step, numpy_model):
    model = step(cell, "float32")
    on("neon")
    tokens = np.random.default_rng(0).integers(0, model.card.vocab, (2, 12))
    engine = NativeEngine(model, 1)
    found = engine.feed(engine.zero_state(2), tokens, logits=True)
    assert agreement(numpy_model(model.card).run(tokens).astype(np.float32), found).max_abs < 2e-5


@pytest.mark.skipif(not native.available(), reason="no level of the decoder runs here")
@pytest.mark.parametrize("precision", [*FLOATS, "int8", "int4"])
def test_every_bit_is_that_of_the_level_that_runs_here(cell, precision, on, step):
    """Also of what is drawn: noise, filters, choices. Every number of texts with one cell."""
    model = step(cell, precision)
    for batch in BATCHES if cell == CELLS[2] else [5]:
        on(None)
        wanted = use(model, batch)
        for level in PROCESSORS if precision in ("float32", "int8", "int4") else ["neon"]:
            on(level)
            assert use(model, batch).is_that_of(wanted), (batch, level)


@pytest.mark.skipif(not native.available(), reason="no level of the decoder runs here")
def test_matrices_that_are_met_in_pieces(on):
    card = make_card("gru", layers=1, hidden=binding.PIECE + 16)
    tensors = tensors_of(card)
    for name in ("w_00", "w_out"):
        tensors[name] *= np.float32(card.hidden**-0.5)
    model = step_of(card, tensors)
    on(None)
    wanted = use(model, 8)
    on("neon")
    assert use(model, 8).is_that_of(wanted)


def test_threads_write_what_one_writes(on, step):
    model = step(CELLS[1], "float32")
    on("i8mm")
    wanted = use(model, 5)
    for division in (binding.PANELS, binding.TEXTS, binding.LAYERS):
        assert use(model, 5, threads=2, division=division).is_that_of(wanted)


def test_noise_is_near_enough(on):
    rng = np.random.default_rng(0)
    ends = np.arange(1 << 12)
    around = [2**power + offset for power in range(10, 32) for offset in range(-16, 16)]
    words = np.concatenate([ends, 2**32 - 1 - ends, around, rng.integers(0, 2**32, 1 << 14)])
    words = words.astype(np.uint32)
    on("neon")
    exact = -np.log(-np.log((words.astype(np.float64) + 0.5) / 2.0**32))
    assert np.abs(binding.approximate_noise(words) - exact).max() < 2.0**-16 / 4


def test_close_scores_are_told_apart_as_float32_does(on, step):
    """The product of noise and temperature is rounded before it is added: no fused multiply-add.

    Two characters tie, and the first is taken, though without that rounding the second would be ahead.
    """
    model, seed, temperature = step(("rnn", "after"), "float32"), 3, np.float32(1.1)
    vocab = model.card.vocab
    noise = gumbel(seed, (0,), 0, 3000, vocab)[:, 0, [4, 9]]
    rounded, other = noise * temperature, np.float32(0.7)
    score = rounded[:, 1] + other
    fused = (noise[:, 1].astype(np.float64) * np.float64(temperature) + other).astype(np.float32)
    first = score - rounded[:, 0]  # the logit with which the first one ties, rounded or not
    unrounded = (noise[:, 0].astype(np.float64) * np.float64(temperature) + first).astype(np.float32)
    found = np.flatnonzero((fused > score) & (first + rounded[:, 0] == score) & (unrounded == score))
    assert len(found) > 20
    on("neon")
    for position in found[:4].tolist():
        logits = np.full(vocab, -100, np.float32)
        logits[[4, 9]] = first[position], other
        changed = {"w_out": np.zeros((model.card.hidden, vocab), np.float32), "b_out": logits}
        engine = NativeEngine(with_tensors(model, changed), 1)
        address = Address(seed, (0,), position)
        assert engine.draw(engine.zero_state(1), np.array([0]), address, 1, Sampling(float(temperature))) == 4
