"""Weight decay, averaged weights, tied weights, accumulated gradients: each is what it is called."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from p2.contract.codec import Codec
from p2.contract.errors import ContractError, UsageError
from p2.trainer.learner import Learner
from p2.trainer.options import TrainOptions

CPU = torch.device("cpu")
VOCABULARY = "".join(sorted("abcdefghijklmnopqrstuvwxyz .,\n"))


@pytest.fixture
def make(options: Callable[..., TrainOptions], text: str) -> Callable[..., Learner]:
    def learner(weights: dict[str, torch.Tensor] | None = None, **changes: object) -> Learner:
        wanted = options(**changes)
        return Learner(wanted.card(VOCABULARY), wanted, Codec(VOCABULARY).encode(text), CPU, weights)

    return learner


def after(learner: Learner, updates: int = 1) -> dict[str, torch.Tensor]:
    for step in range(updates):
        learner.update(step)
    return {name: tensor.clone() for name, tensor in learner.state().items()}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "change",
    [
        *({"dropout": 0.5}, {"output_dropout": 0.5}, {"embedding_dropout": 0.5}, {"recurrent_dropout": 0.5}),
        *({"dropout": 0.5, "variational": True}, {"weight_decay": 0.1}, {"ema": 0.5}, {"warmup": 2}),
        *(
            {"schedule": "cosine"},
            {"schedule": "step", "decay_every": 1},
            {"decay_every": 1},
            {"accumulate": 2},
            {"weight_drop": 0.5},
        ),
        {"tied": True, "embedding": 8},
    ],
    ids=lambda change: " ".join(change),
)
def test_every_option_acts(make: Callable, change: dict, precision: str) -> None:
    plain = {name: value for name, value in change.items() if name == "embedding"}
    if "variational" in change:
        plain = {"dropout": 0.5}
    without, acted = (after(make(**some, precision=precision), 2) for some in (plain, change))
    assert any(not torch.equal(acted[name], without[name]) for name in acted)
    assert all(tensor.dtype == torch.float32 for tensor in acted.values())


@pytest.mark.parametrize("stateful", [False, True])
def test_accumulated_gradients_are_those_of_the_larger_batch(
    cell: tuple[str, str], make: Callable, stateful: bool
) -> None:
    shape = {"cell": cell[0], "gru_reset": cell[1], "stateful": stateful, "clip": 0.0, "lr": 1e-4}
    whole, parts = make(**shape, batch_size=12), make(**shape, batch_size=4, accumulate=3)
    for step in range(2):  # the second begins with the states that the first ended with
        one, two = whole.update(step), parts.update(step)
        assert two.loss == pytest.approx(one.loss, rel=1e-6)
        assert two.accuracy == pytest.approx(one.accuracy, rel=1e-6)
        pairs = zip(whole.model.named_parameters(), parts.model.parameters(), strict=True)
        for (name, parameter), other in pairs:
            torch.testing.assert_close(other.grad, parameter.grad, atol=1e-7, rtol=1e-4, msg=name)


def test_weight_decay_shrinks_the_matrices_of_products_alone(make: Callable) -> None:
    """Apart from the update itself, lr * decay of each weight (Loshchilov and Hutter, 2019)."""
    start = make().state()
    plain, decayed = after(make(lr=0.01)), after(make(lr=0.01, weight_decay=0.5))
    for name, tensor in decayed.items():
        shrinks = name == "output.weight" or name.startswith("rnn.weight")
        expected = plain[name] - (0.01 * 0.5 * start[name] if shrinks else 0)
        torch.testing.assert_close(tensor, expected, atol=1e-6, rtol=1e-6, msg=name)


def test_what_is_validated_and_kept_is_the_average(make: Callable) -> None:
    learner, plain = make(ema=0.2), make()
    average = {name: tensor.double() for name, tensor in learner.state().items()}
    for step, decay in enumerate((0.1, 2 / 11, 0.2, 0.2)):
        learner.update(step)
        plain.update(step)
        newest = plain.state()
        average = {name: decay * old + (1 - decay) * newest[name] for name, old in average.items()}
    for name, tensor in learner.state().items():
        torch.testing.assert_close(tensor.double(), average[name], atol=1e-6, rtol=0)
    kept = make({name: tensor.float() for name, tensor in average.items()})
    assert learner.validate().loss == pytest.approx(kept.validate().loss, abs=1e-5)
    assert learner.validate().loss != pytest.approx(plain.validate().loss, abs=1e-5)


def test_tied_weights_are_one_matrix_and_saved_as_two(make: Callable) -> None:
    state = after(make(tied=True, embedding=8), 3)
    assert torch.equal(state["embedding.weight"], state["output.weight"])
    again = make(state, tied=True, embedding=8)
    assert again.state().keys() == state.keys()
    assert sum(p.numel() for p in again.model.parameters()) == sum(
        tensor.numel() for name, tensor in state.items() if name != "output.weight"
    )
    state["output.weight"] = state["output.weight"] + 1
    with pytest.raises(UsageError, match="--tied: the embedding and the output layer to start from are not"):
        make(state, tied=True, embedding=8)
    make(state, embedding=8)


def test_a_run_without_them_saves_what_it_always_did(make: Callable) -> None:
    learner = make(stateful=True)
    learner.update(0)
    learner.schedule.validated(2.0)
    names = {name for name, _ in learner.model.named_parameters()}
    states = {"state.h_00", "state.h_01", "state.c_00", "state.c_01"}
    assert set(learner.training_state()) == states | {
        f"{moment}.{name}" for moment in ("exp_avg", "exp_avg_sq") for name in names
    }


@pytest.mark.parametrize(
    ("name", "tensor"), [("weight.output.bias", torch.ones(1)), ("schedule", torch.ones(2)), ("weight", None)]
)
def test_a_foreign_state_of_theirs_is_refused(make: Callable, name: str, tensor: torch.Tensor | None) -> None:
    learner = make(ema=0.9, schedule="plateau")
    learner.update(0)
    learner.schedule.validated(2.0)
    state = learner.training_state()
    if tensor is None:
        state = {key: value for key, value in state.items() if not key.startswith(name)}
    else:
        state[name] = tensor
    with pytest.raises(ContractError, match="the optimiser's state does not belong to this model"):
        make(ema=0.9, schedule="plateau").restore(state, 1)


def test_a_mask_is_seldom_all_or_nothing(make: Callable) -> None:
    """Every update has others: two updates with the same weights and windows differ."""
    learner = make(output_dropout=0.5, lr=1e-30)
    batch = learner._batches.batch(0)
    learner._batches.batch = lambda step: batch
    losses = [learner.update(step).loss for step in (0, 1)]
    assert not np.isclose(*losses, rtol=1e-6)
