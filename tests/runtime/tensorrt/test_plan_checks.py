"""The GPU's checks of a plan, on doubles: that right engines pass before a GPU is there to ask."""

from __future__ import annotations

import pytest
import torch

from p2.gpu_check import engine_checks
from p2.gpu_check.soak import soak
from p2.parity.compare import Reference
from p2.trainer.eager import EagerEngine
from p2.trainer.model import CharModel

BATCHES = [(1, 1, 1), (1, 8, 64)]  # of the plans that `make gpu-check` builds
SINGLE = [(1, 1, 1)]


@pytest.fixture
def pair(bench, card_of, parameters_of, monkeypatch):
    """How to open a plan of more characters than it takes texts, and eager PyTorch with its weights."""
    monkeypatch.setattr(engine_checks, "STEPS", 60)
    monkeypatch.setattr(engine_checks, "CHARACTERS", 150)
    card = card_of("lstm", layers=2, vocabulary="".join(map(chr, range(32, 102))))
    model = CharModel(card)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in parameters_of(card).items()})

    def make(profiles, step_by_step=False):
        return (
            lambda: bench(card, profiles=profiles, step_by_step=step_by_step).engine,
            EagerEngine(model),
        )

    return make


@pytest.mark.parametrize("step_by_step", [False, True])
@pytest.mark.parametrize("kind", ["parity", "capture", "snapshot", "batches"])
def test_a_plan_for_batches_passes(kind, step_by_step, pair):
    getattr(engine_checks, kind)(*pair(BATCHES, step_by_step))


def test_a_plan_for_one_text_passes_parity(pair):
    open_it, eager = pair(SINGLE)
    found = Reference(eager, 60, 150, 0).compare(open_it(), "charlm.plan")
    assert found.failures == []
    assert found.rows is None


def test_a_long_text_passes(pair):
    assert soak(*pair(BATCHES), 3000)["same_end_again"]
