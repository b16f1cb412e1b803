"""AMX, on a processor that has it or by tiles.c, which does what its instructions would have done."""

from __future__ import annotations

import ctypes
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from p2.contract.integers import Definition
from p2.contract.noise import Address
from p2.contract.sampling import Sampling
from p2.runtime import native
from p2.runtime.native import binding
from p2.runtime.native.engine import NativeEngine

from ...conftest import CELLS, make_card
from ...levels import LEVELS, on
from ...quantized import step_of, tensors_of

SOURCE = Path(__file__).with_name("tiles.c")
ROWS = 6  # of a batch, up to which the tiles stay out of it
REAL = "amx" in LEVELS


def missing() -> str | None:
    """What this machine lacks for it; None if nothing."""
    if not native.available() or "amx" not in binding.levels():
        return "the decoder is not compiled with AMX"
    if "avx512" not in LEVELS:
        return "this processor has no AVX-512, which is beside AMX on all that have it"
    return None if REAL or shutil.which("cc") else "there is no AMX here, and no compiler for what stands in"


pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory) -> ctypes.CDLL | None:
    """tiles.c; None on a processor with AMX."""
    if REAL:
        return None
    made = tmp_path_factory.mktemp("tiles") / "tiles.so"
    words = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", str(SOURCE), "-o", str(made)]
    subprocess.run(words, check=True)
    found = ctypes.CDLL(str(made))
    found.end.restype = ctypes.c_long
    return found


class Tiles:
    """AMX for a while: ``made`` is how many products its tiles made, where that can be counted."""

    made = 0

    def __init__(self, stand_in: ctypes.CDLL | None) -> None:
        self._stand_in = stand_in

    def __enter__(self) -> Tiles:
        if self._stand_in:
            self._stand_in.begin()
        return self

    def __exit__(self, *_: object) -> None:
        if self._stand_in:
            self.made = self._stand_in.end()
            assert not self._stand_in.configured()

    @property
    def counts(self) -> bool:
        return self._stand_in is not None


@pytest.fixture
def tiles(stand_in, monkeypatch) -> Iterator[Tiles]:
    numbered = [(name, there or name == "amx") for name, there in binding._numbered()]
    monkeypatch.setattr(binding, "_numbered", lambda: numbered)
    yield Tiles(stand_in)
    binding.use(LEVELS[0])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cell=st.sampled_from(CELLS),
    hidden=st.sampled_from([16, 80, 320]),  # of one tile of rows, of two, of five
    batch=st.integers(ROWS + 1, 70),  # whole groups of 16 or not, an even number of groups or not
    seed=st.integers(0, 1000),
)
@example(cell=CELLS[1], hidden=80, batch=7, seed=0)
@example(cell=CELLS[2], hidden=80, batch=16, seed=0)
@example(cell=CELLS[3], hidden=16, batch=17, seed=0)
@example(cell=CELLS[0], hidden=80, batch=33, seed=0)
@example(cell=CELLS[2], hidden=16, batch=40, seed=0)
@example(cell=CELLS[1], hidden=320, batch=64, seed=0)
def test_integers_are_those_of_the_definition(cell, hidden, batch, seed, tiles):
    card = make_card(*cell, layers=2, hidden=hidden, precision="int8")
    tensors, rng = tensors_of(card, seed), np.random.default_rng(seed)
    definition, tokens = Definition(card, tensors), rng.integers(0, card.vocab, (batch, 3))
    with tiles:
        engine = on("amx", step_of(card, tensors), 1)
        state, defined = engine.zero_state(batch), definition.zero_state(batch)
        for wild in state, defined:  # as no cell leaves it: 8 bits hold no more
            wild["h_00"] += np.linspace(-2, 2, hidden, dtype=np.float32)
        found = engine.feed(state, tokens, logits=True)
    np.testing.assert_array_equal(found, definition.run(defined, tokens))
    assert all(np.array_equal(state[name], defined[name]) for name in state)
    assert tiles.made or not tiles.counts


@pytest.mark.parametrize("division", [binding.PANELS, binding.TEXTS])
def test_threads_write_what_one_writes_without_tiles(division, tiles, monkeypatch):
    """Also from a prompt of one text, whose characters meet the input's weights together."""
    card = make_card("lstm", layers=2, hidden=144, precision="int8")
    step, rng = step_of(card, tensors_of(card)), np.random.default_rng(0)
    monkeypatch.setattr(NativeEngine, "_division", lambda *_: division)
    for batch, length in (1, 20), (37, 3):
        tokens, said = rng.integers(0, card.vocab, (batch, length)), []
        for level, threads in ("avx512", 1), ("amx", 2):
            with tiles:
                engine = on(level, step, threads)
                state = engine.zero_state(batch)
                logits = engine.feed(state, tokens, logits=True)
                text = engine.draw(state, tokens[:, -1], Address(3, range(batch), 0), 9, Sampling(0.8))
            said.append([logits, text, *state.values()])
            assert (tiles.made > 0) is (level == "amx") or not tiles.counts
        assert all(np.array_equal(*pair) for pair in zip(*said, strict=True)), batch


@pytest.mark.parametrize(("precision", "batch"), [("int8", ROWS), ("int4", 20), ("float32", 20)])
def test_others_do_without_tiles(precision, batch, tiles):
    """A few texts, which wait for the memory; others than int8, which int4 predicts with, too."""
    card = make_card("gru", hidden=32, precision=precision)
    engine = on("amx", step_of(card, tensors_of(card)), 1)
    with tiles:
        engine.draw(
            engine.zero_state(batch), np.zeros(batch, np.int64), Address(1, range(batch), 0), 3, Sampling()
        )
    assert (tiles.made > 0) is (precision == "int4") or not tiles.counts


@pytest.mark.skipif(REAL, reason="this processor has AMX")
def test_without_amx_it_is_not_taken(monkeypatch):
    assert native.level() == "avx512"
    monkeypatch.setenv(native.CPU, "amx")
    assert native.problem() == "P2_CPU=amx asks for instructions that this processor does not have"


# Each breaks a rule of the manual's between two products that keep them.
FAULTS = {
    "none": "",
    "sums of other rows": "c.rows[0] = 15; _tile_loadconfig(&c);",
    "weights of too few rows": "c.rows[6] = 15; _tile_loadconfig(&c);",
    "one tile twice": '__asm__ volatile(".byte 0xc4, 0xe2, 0x49, 0x5e, 0xc6");',
    "a tile without a shape": "c.rows[4] = c.bytes[4] = 0; _tile_loadconfig(&c);",
    "17 rows": "c.rows[0] = 17; _tile_loadconfig(&c);",
    "another palette": "c.palette = 2; _tile_loadconfig(&c);",
    "no shapes": "_tile_release();",
}
PROGRAM = """
#include <immintrin.h>
#include <stdint.h>
#include <stdlib.h>
extern void begin(void);
int main(int count, char **words) {
    volatile struct { uint8_t palette, none[15]; uint16_t bytes[16]; uint8_t rows[16]; } c = {1};
#define _tile_loadconfig(p) _tile_loadconfig((const void *)(p))
    begin();
    for (int t = 0; t < 8; t++) { c.bytes[t] = 64; c.rows[t] = 16; }
    _tile_loadconfig(&c);
    _tile_dpbusd(0, 4, 6);
    switch (atoi(words[count - 1])) { FAULTS }
    _tile_dpbusd(0, 4, 6);
    return 0;
}
"""


@pytest.mark.skipif(REAL, reason="this processor has AMX")
def test_what_stands_in_knows_the_faults(tmp_path):
    source, made = tmp_path / "fault.c", tmp_path / "fault"
    cases = [f"case {number}: {fault} break;" for number, fault in enumerate(FAULTS.values())]
    source.write_text(PROGRAM.replace("FAULTS", " ".join(cases)))
    words = ["cc", "-O1", "-mamx-tile", "-mamx-int8", str(source), str(SOURCE), "-o", str(made)]
    subprocess.run(words, check=True)
    for number, name in enumerate(FAULTS):
        code = subprocess.run([str(made), str(number)]).returncode
        assert code == (-signal.SIGILL if name != "none" else 0), name
