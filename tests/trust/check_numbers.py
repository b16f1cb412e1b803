"""Parity of every cell, precision and backend of this machine's processor; 100,000 steps in `make soak`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from p2.contract.precisions import TABLE
from p2.export.exporter import export_checkpoint
from p2.parity.compare import Reference
from p2.runtime.opening import open_step_engine, usable_backends
from p2.trainer.eager import open_checkpoint

from ..bench.contenders.reference import save_checkpoint
from ..conftest import make_card, random_parameters

STEPS, MOST_STEPS = 2_000, 100_000
CHARACTERS, MOST_CHARACTERS = 100, 2_000
ENDS = 4  # of the steps, the first and the last of so many parts are compared


@pytest.fixture(scope="module")
def reference_of(tmp_path_factory, request) -> Callable[..., tuple[Path, Reference]]:
    """A model of random weights, and what eager PyTorch says: once for all precisions of a cell."""
    scale = request.config.getoption("trust_scale", 1)
    seed = request.config.getoption("trust_seed", 0)

    @functools.cache
    def made(cell: str, reset: str) -> tuple[Path, Reference]:
        card = make_card(cell, reset)
        folder = tmp_path_factory.mktemp("parity") / "charlm"
        save_checkpoint(folder, card, random_parameters(card))
        steps = min(MOST_STEPS, STEPS * scale)
        text = np.random.default_rng(seed).integers(0, card.vocab, steps + 1)
        characters = min(MOST_CHARACTERS, CHARACTERS * scale)
        return folder, Reference(open_checkpoint(folder), steps, characters, seed, text)

    return made


@pytest.mark.weight(12)
@pytest.mark.parametrize("precision", TABLE)
def test_parity(precision, cell, reference_of, tmp_path, trust):
    """Every backend says what eager PyTorch says, in the last steps as in the first."""
    checkpoint, reference = reference_of(*cell)
    path = tmp_path / f"{precision}.onnx"
    export_checkpoint(checkpoint, precision=precision, out=path, engine="none")
    for backend in usable_backends(path):
        found = reference.compare(open_step_engine(path, threads=1, backend=backend), str(path))
        assert found.failures == [], backend
        part = len(found.errors) // ENDS
        first, last = (max(piece) for piece in (found.errors[:part], found.errors[-part:]))
        form = reference.card.form
        trust.count(
            "Parity",
            f"{form.name}, {precision}, {backend}",
            steps=found.forced.steps,
            relative=found.forced.relative,
            kl=found.forced.kl,
            **{f"largest in the first {part:,} steps": first, f"in the last {part:,}": last},
        )
        assert last < 4 * first + 1e-6, "the error grows with the steps"
