"""float32 weights in 28 bits: nothing is lost, and the decoder reads them as what they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.contract.agreement import agreement
from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling
from p2.runtime import native
from p2.runtime.native import binding, packing
from p2.runtime.native.engine import NativeEngine
from p2.runtime.step_file import open_step

pytestmark = pytest.mark.skipif(
    not native.available(), reason="the decoder was not compiled, or this processor has none of its levels"
)


wide = pytest.mark.skipif(
    native.level() not in packing.WIDEN_FAST, reason="weights are kept in 28 bits with AVX-512 only"
)


def compacted(panels, most=None):
    count, rows, _, _ = panels.shape
    made, places = np.zeros(3 * panels.size, np.uint8), np.zeros(panels.size // 2, np.uint8)
    exponents = np.zeros((count, 16), np.uint8)
    outliers = np.zeros(panels.size if most is None else most, binding.OUTLIER)
    ends = np.zeros((count, -(-rows // binding.PIECE)), np.int32)
    found = binding.compact(panels, made, places, exponents, outliers, ends)
    return found, made, places, exponents, outliers, ends


def restored(shape, made, places, exponents, outliers, ends):
    """The numbers, by the description of the layout in compact.h, one bit field after the other."""
    count, rows, vectors, lanes = shape
    parts = made.reshape(count, -1, 3, 64).astype(np.uint32)
    kept = parts[:, :, 0] | parts[:, :, 1] << 8 | parts[:, :, 2] << 16
    place = np.stack([places & 15, places >> 4], axis=-1).reshape(count, -1, 64)
    exponent = np.take_along_axis(exponents, place.reshape(count, -1), axis=1).reshape(place.shape)
    bits = (kept & 1) << 31 | exponent.astype(np.uint32) << 23 | kept >> 1
    vector, lane = np.meshgrid(np.arange(4), np.arange(16), indexing="ij")
    numbers = bits[:, :, 16 * (lane // 4) + 4 * vector + lane % 4].view(np.float32)
    numbers = numbers.reshape(count, rows, vectors * lanes)
    for panel in range(count):
        for piece in range(ends.shape[1]):
            at = panel * ends.shape[1] + piece
            for entry in outliers[ends.flat[at - 1] if at else 0 : ends.flat[at]]:
                assert entry["row"] // binding.PIECE == piece
                assert numbers[panel, entry["row"], entry["column"]] == 0
                numbers[panel, entry["row"], entry["column"]] = entry["weight"]
    return numbers.reshape(shape)


@settings(max_examples=30, deadline=None)
@given(
    vectors=st.sampled_from([3, 4]),
    rows=st.sampled_from([64, 320]),
    seed=st.integers(0, 1000),
    odd=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=20),
)
def test_nothing_is_lost(vectors, rows, seed, odd):
    rng = np.random.default_rng(seed)
    panels = rng.standard_normal((2, rows, vectors, 16), np.float32) * np.float32(0.02)
    panels.flat[rng.integers(0, panels.size, len(odd))] = odd
    panels[0, 5, 0, :4] = [0.0, -0.0, 1e-42, -3e-20]
    found, *parts = compacted(panels)
    again = restored(panels.shape, *parts)
    zero = panels == 0
    assert np.array_equal(again.view(np.uint32)[~zero], panels.view(np.uint32)[~zero])
    assert np.all(again[zero] == 0)
    assert found == parts[-1].flat[-1]


def test_too_many_small_numbers_or_an_infinite_one_are_refused():
    panels = np.ones((1, 64, 4, 16), np.float32)
    panels[0, :3, 0, 0] = 1e-9
    assert compacted(panels, most=3)[0] == 3
    assert compacted(panels, most=2)[0] is None
    panels[0, 0, 0, 0] = np.inf
    assert compacted(panels)[0] is None


@wide
@pytest.mark.parametrize("hidden", [32, 100, 300])  # 300 rows are more than a piece
def test_logits_are_those_of_numpy(cell, hidden, card_of, write_step, numpy_model, monkeypatch):
    monkeypatch.setattr(packing, "COMPACT_BYTES", (0, 0))
    card = card_of(*cell, hidden=hidden)
    engine = NativeEngine(open_step(write_step(card)), 2)
    assert engine._packed.model.out.kind == binding.COMPACT
    tokens = np.random.default_rng(1).integers(0, card.vocab, (3, 30))
    found = engine.feed(engine.zero_state(3), tokens, logits=True)
    assert agreement(numpy_model(card).run(tokens).astype(np.float32), found).max_abs < 2e-5


@wide
@pytest.mark.parametrize("layout", [packing.COMPACT_AHEAD, packing.COMPACT])
@pytest.mark.parametrize("batch", [1, 2, 6, 7, 13])
def test_a_text_does_not_depend_on_its_batch(cell, batch, layout, card_of, write_step, monkeypatch):
    """To the last bit, outliers included: small batches widen weights in registers, large ones in memory."""
    monkeypatch.setattr(packing, "COMPACT_BYTES", (0, 0))
    monkeypatch.setattr(packing, "layouts", lambda _: [layout])
    card = card_of(*cell, hidden=300)
    engine = NativeEngine(open_step(write_step(card)), 2)
    assert sum(layer.h.outlier_ends is not None for layer in engine._packed._layers) == card.layers
    tokens, noise = (
        np.arange(batch * 9).reshape(batch, 9) % card.vocab,
        gumbel(3, range(batch), 0, 9, card.vocab),
    )
    state = engine.zero_state(batch)
    logits = engine.feed(state, tokens, logits=True)
    written = engine.decode(state, tokens[:, -1], noise, Sampling())
    for row in range(batch):
        own = engine.zero_state(1)
        assert np.array_equal(engine.feed(own, tokens[row : row + 1], logits=True)[0], logits[row])
        mine = engine.decode(own, tokens[row : row + 1, -1], noise[:, row : row + 1], Sampling())
        assert np.array_equal(mine[0], written[row])


@wide
@pytest.mark.parametrize(("batch", "threads"), [(1, 1), (1, 2), (7, 2)])
def test_a_prompt_does_not_depend_on_how_it_is_cut(cell, batch, threads, card_of, write_step, monkeypatch):
    """To the last bit: a long piece widens recurrent weights before it is read, a short one as it reads."""
    monkeypatch.setattr(packing, "COMPACT_BYTES", (0, 0))
    card = card_of(*cell, hidden=300)
    engine = NativeEngine(open_step(write_step(card)), threads)
    tokens = np.random.default_rng(2).integers(0, card.vocab, (batch, 150))
    whole, cut = engine.zero_state(batch), engine.zero_state(batch)
    expected = engine.feed(whole, tokens, logits=True)
    parts = [engine.feed(cut, tokens[:, at : at + 50], logits=True) for at in (0, 50, 100)]
    assert np.array_equal(np.concatenate(parts, axis=1), expected)
    assert all(np.array_equal(cut[name], whole[name]) for name in whole)


@wide
def test_weights_that_do_not_fit_stay_as_they_are(card_of, write_step, monkeypatch):
    monkeypatch.setattr(packing, "COMPACT_BYTES", (0, 0))
    monkeypatch.setattr(binding, "compact", lambda *_: None)
    engine = NativeEngine(open_step(write_step(card_of())), 1)
    assert engine._packed.model.out.kind == binding.FLOATS


@wide
@pytest.mark.parametrize("fastest", [packing.PLAIN, packing.COMPACT_AHEAD, packing.COMPACT])
def test_the_layout_of_weights_of_a_middle_size_is_measured_once(fastest, card_of, write_step, monkeypatch):
    def layout(engine):
        out = engine._packed.model.out
        if out.kind == binding.FLOATS:
            return packing.PLAIN
        assert all(layer.h.ahead == out.ahead for layer in engine._packed._layers)
        return packing.COMPACT_AHEAD if out.ahead else packing.COMPACT

    path = write_step(card_of())
    monkeypatch.setattr(packing, "COMPACT_BYTES", (0, 1 << 60))
    monkeypatch.setattr(NativeEngine, "_seconds", lambda self, _: 1.0 if layout(self) == fastest else 1.1)
    assert layout(NativeEngine(open_step(path))) == fastest
    monkeypatch.setattr(NativeEngine, "_seconds", lambda *_: pytest.fail("measured again"))
    assert layout(NativeEngine(open_step(path))) == fastest


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "int4"])
@pytest.mark.parametrize("fastest", [0, 1])
def test_whether_shared_weights_are_asked_for_is_measured_once(
    fastest, precision, card_of, write_step, monkeypatch
):
    def ahead(engine):
        return engine._packed.model.out.ahead

    def text(engine):
        return engine.feed(engine.zero_state(1), np.arange(20)[None], logits=True)

    path = write_step(card_of(precision=precision))
    small = NativeEngine(open_step(path))
    assert (small._packed.place, ahead(small)) == (binding.OWN, 0)
    monkeypatch.setattr(packing, "PLACE_BYTES", (0, 1 << 60))
    monkeypatch.setattr(NativeEngine, "_seconds", lambda self, _: 1.0 if ahead(self) == fastest else 1.1)
    engine = NativeEngine(open_step(path))
    assert (engine._packed.place, ahead(engine)) == (binding.SHARED, fastest)
    assert all(layer.h.ahead == fastest for layer in engine._packed._layers)
    assert np.array_equal(text(engine), text(small))
    monkeypatch.setattr(NativeEngine, "_seconds", lambda *_: pytest.fail("measured again"))
    assert ahead(NativeEngine(open_step(path))) == fastest


@pytest.mark.parametrize(
    ("precision", "limits", "expected"),
    [
        ("float32", (1 << 20, 1 << 30), [packing.PLAIN]),
        ("float32", (1, 1 << 30), [packing.PLAIN, packing.COMPACT_AHEAD, packing.COMPACT]),
        ("float32", (1, 2), [packing.COMPACT_AHEAD, packing.COMPACT]),
        ("float8", (1, 2), [packing.COMPACT_AHEAD, packing.COMPACT]),  # it is widened
        ("float16", (1, 2), [packing.PLAIN]),
        ("int8", (1, 1 << 30), [packing.PLAIN]),
    ],
)
def test_layouts_in_question(precision, limits, expected, card_of, monkeypatch):
    monkeypatch.setattr(packing, "COMPACT_BYTES", limits)
    monkeypatch.setattr(packing, "level", lambda: packing.WIDEN_FAST[0])
    assert packing.layouts(card_of(precision=precision)) == expected


def test_narrower_vectors_read_32_bits(card_of, monkeypatch):
    """There it takes longer to widen 28 bits than to read 32."""
    monkeypatch.setattr(packing, "COMPACT_BYTES", (1, 2))
    monkeypatch.setattr(packing, "level", lambda: "avx2")
    assert packing.layouts(card_of()) == [packing.PLAIN]
