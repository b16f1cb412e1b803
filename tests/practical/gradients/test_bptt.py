"""The hand-derived gradient against autograd, and norms along a sequence against finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from p2.practical.gradients.bptt import along, by_hand, gates
from p2.practical.toy.classifier import SequenceClassifier, apart


def model_of(cell: str, hidden: int, gain: float = 1.0, seed: int = 0) -> SequenceClassifier:
    model = SequenceClassifier(cell, 3, 4, hidden, 2).double()
    model.initialise(seed, gain)
    return model


def samples(batch: int, steps: int, seed: int = 0) -> tuple[np.ndarray, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (batch, steps), dtype=np.uint8), torch.from_numpy(rng.integers(0, 2, batch))


@given(st.integers(1, 4), st.integers(1, 12), st.integers(1, 9), st.floats(0.3, 2.0), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_the_sum_over_steps_is_autograds_gradient(batch, steps, hidden, gain, seed):
    model = model_of("rnn", hidden, gain, seed)
    symbols, labels = samples(batch, steps, seed)
    found = by_hand(model, apart(symbols), labels)
    loss = F.cross_entropy(model(apart(symbols)), labels, reduction="sum")
    w_hh, w_ph = torch.autograd.grad(loss, [model.w_hh, model.w_ph])
    torch.testing.assert_close(found.w_hh, w_hh, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.w_ph, w_ph, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(found.terms.sum(dim=0), w_hh, rtol=1e-9, atol=1e-12)
    assert not found.terms[0].any()  # the state before the first step is zero


def test_a_term_is_what_a_step_with_weights_of_its_own_gets():
    """W_hh given to each step apart: autograd's gradient of each is the formula's term."""
    model = model_of("rnn", 6)
    symbols, labels = samples(3, 7)
    own = [model.w_hh.detach().clone().requires_grad_() for _ in range(7)]
    table = (model.embedding @ model.w_ih.T + model.bias).detach()
    h = torch.zeros(3, 6, dtype=torch.double)
    for step, weight in enumerate(own):
        h = torch.tanh(table[torch.from_numpy(symbols[:, step].astype(int))] + h @ weight.T)
    loss = F.cross_entropy(h @ model.w_ph.T + model.b_p, labels, reduction="sum")
    expected = torch.stack(torch.autograd.grad(loss, own))
    torch.testing.assert_close(by_hand(model, apart(symbols), labels).terms, expected)


def test_the_last_jacobian_is_the_identity_and_the_one_before_diag_times_w():
    model = model_of("rnn", 5)
    symbols, labels = samples(1, 4)
    found = by_hand(model, apart(symbols), labels).jacobians
    last = model.states(apart(symbols))[0][-1][0].detach().numpy()
    step = np.diag(1 - last**2) @ model.w_hh.detach().numpy()
    assert float(found[-1]) == pytest.approx(1)
    assert float(found[-2]) == pytest.approx(np.linalg.norm(step, 2))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "gru-before"])
def test_norms_along_a_sequence_by_finite_differences(cell):
    """Push h_t (or c_t) of one sequence a little in every direction and let it run to the end."""
    steps, at, epsilon = 6, 3, 1e-6
    model = model_of(cell, 4)
    symbols, labels = samples(1, steps)
    found = along(model, apart(symbols), labels)
    hs, cs = model.states(apart(symbols))
    table = model.embedding @ model.w_ih.T

    def loss_from(h: torch.Tensor, c: torch.Tensor) -> float:
        for step in range(at + 1, steps):
            h, c = model.step(table[symbols[:, step].astype(int)], h, c)
        return float(F.cross_entropy(h @ model.w_ph.T + model.b_p, labels).detach())

    c = cs[at] if cs else hs[at]
    unit = torch.eye(4, dtype=torch.double) * epsilon
    for what, norms in (("h", found.h), ("c", found.c)):
        if norms is None:
            assert cell != "lstm"
            continue
        slopes = []
        for push in unit:
            pair = []
            for moved in (push, -push):
                if what == "h":
                    pair.append(loss_from(hs[at] + moved, c))
                else:  # h_t = o_t tanh(c_t) goes with it
                    pair.append(loss_from(hs[at] / torch.tanh(c) * torch.tanh(c + moved), c + moved))
            slopes.append((pair[0] - pair[1]) / (2 * epsilon))
        assert float(norms[at, 0]) == pytest.approx(np.linalg.norm(slopes), rel=1e-5)


def test_gates_are_those_that_make_the_states():
    model = model_of("lstm", 5)
    batch = apart(samples(4, 6)[0])
    hs, cs = (torch.stack(states) for states in model.states(batch))
    found = gates(model, batch)
    before = torch.cat([torch.zeros_like(cs[:1]), cs[:-1]])
    torch.testing.assert_close(cs, found["f"] * before + found["i"] * found["g"])
    torch.testing.assert_close(hs, found["o"] * torch.tanh(cs))
