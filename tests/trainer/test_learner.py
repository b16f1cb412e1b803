"""Learning: the loss is the one of the equations, the update is Adam's, the text is learnt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from p2.contract.card import Card
from p2.contract.codec import Codec
from p2.contract.errors import ContractError, P2Error
from p2.trainer.learner import Learner
from p2.trainer.options import TrainOptions
from p2.trainer.windows import Lanes, RandomWindows

CPU = torch.device("cpu")
VOCABULARY = "".join(sorted("abcdefghijklmnopqrstuvwxyz .,\n"))


def nats(logits: np.ndarray, targets: np.ndarray) -> float:
    """Mean of -log softmax(logits)[target], in float64."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    logp = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return float(-np.take_along_axis(logp, targets[..., None], axis=-1).mean())


def make(options: TrainOptions, text: str, parameters: dict[str, np.ndarray] | None = None) -> Learner:
    weights = None if parameters is None else {k: torch.tensor(v) for k, v in parameters.items()}
    return Learner(options.card(VOCABULARY), options, Codec(VOCABULARY).encode(text), CPU, weights)


@pytest.fixture
def card(card_of: Callable, cell: tuple[str, str]) -> Card:
    return card_of(*cell, hidden=8)


@pytest.fixture
def like(options: Callable[..., TrainOptions]) -> Callable[..., TrainOptions]:
    def make_options(card: Card, **changes: object) -> TrainOptions:
        return options(cell=card.cell, gru_reset=card.gru_reset, embedding=8, **changes)

    return make_options


def test_the_validation_is_the_equations_over_the_tail(
    card: Card, like: Callable, text: str, parameters_of: Callable, numpy_model: Callable
) -> None:
    learner = make(like(card), text, parameters_of(card))
    tail = np.array([VOCABULARY.index(character) for character in text[len(text) - len(text) // 10 :]])
    logits = numpy_model(card).run(tail[None, :-1])[0]
    metrics = learner.validate()
    assert metrics.loss == pytest.approx(nats(logits, tail[1:]), abs=1e-5)
    assert metrics.accuracy == pytest.approx((logits.argmax(axis=-1) == tail[1:]).mean())


def test_a_long_tail_is_read_in_lanes(
    card_of: Callable, options: Callable, text: str, parameters_of: Callable, numpy_model: Callable
) -> None:
    card = card_of("gru", hidden=8)
    long = text * 4
    learner = make(options(cell="gru", embedding=8, val_fraction=0.5), long, parameters_of(card))
    tail = np.array([VOCABULARY.index(character) for character in long[len(long) - len(long) // 2 :]])
    lanes = (len(tail) - 1) // 256
    length = (len(tail) - 1) // lanes
    logits = numpy_model(card).run(tail[: lanes * length].reshape(lanes, length))
    expected = nats(logits, tail[1 : lanes * length + 1].reshape(lanes, length))
    assert 1 < lanes <= 16
    assert learner.validate().loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("stateful", [False, True])
def test_the_loss_of_an_update_is_the_equations_over_its_windows(
    card: Card, like: Callable, text: str, parameters_of: Callable, numpy_model: Callable, stateful: bool
) -> None:
    """Two updates at a vanishing learning rate, so the second sees the same weights and, if
    stateful, the state that the first one ended with."""
    options = like(card, lr=1e-12, stateful=stateful)
    learner = make(options, text, parameters_of(card))
    train = np.array([VOCABULARY.index(character) for character in text[: len(text) - len(text) // 10]])
    kind = Lanes if stateful else RandomWindows
    windows = [kind(train, 8, 4, 0).batch(step) for step in (0, 1)]
    inputs, targets = (torch.cat(parts, dim=1).numpy() for parts in zip(*windows, strict=True))
    reference = numpy_model(card)
    if stateful:
        logits = reference.run(inputs)
    else:
        logits = np.concatenate([reference.run(inputs[:, :8]), reference.run(inputs[:, 8:])], axis=1)
    for step, part in ((0, slice(0, 8)), (1, slice(8, 16))):
        metrics = learner.update(step)
        assert metrics.loss == pytest.approx(nats(logits[:, part], targets[:, part]), abs=1e-5)
        hits = logits[:, part].argmax(axis=-1) == targets[:, part]
        assert metrics.accuracy == pytest.approx(hits.mean())


def test_an_update_has_the_gradient_of_its_own_batch_alone(options: Callable, text: str) -> None:
    settings = options(lr=1e-12, clip=0.0)
    learner, fresh = make(settings, text), make(settings, text)
    learner.update(0)
    for one in (learner, fresh):
        one.update(1)
    for parameter, other in zip(learner.model.parameters(), fresh.model.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, atol=1e-7, rtol=1e-4)


def test_the_first_update_moves_every_weight_by_the_learning_rate(options: Callable, text: str) -> None:
    """Adam's first step is lr * g / (|g| + eps'): its size is lr wherever the gradient is not tiny."""
    learner = make(options(lr=0.01), text)
    before = learner.state()["output.bias"].clone()
    learner.update(0)
    moved = (learner.state()["output.bias"] - before).abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.01), atol=1e-4, rtol=0)


def test_the_learning_rate_decays_smoothly(options: Callable, text: str) -> None:
    learner = make(options(lr=0.01, lr_decay=0.25), text)
    assert [learner.learning_rate(step) for step in (0, 500, 1000, 2000)] == pytest.approx(
        [0.01, 0.005, 0.0025, 0.000625]
    )


@pytest.mark.parametrize("clip", [0.0, 1e-3])
def test_clipping_bounds_the_gradient(options: Callable, text: str, clip: float) -> None:
    learner = make(options(clip=clip), text)
    learner.update(0)
    squares = [float(parameter.grad.square().sum()) for parameter in learner.model.parameters()]
    norm = sum(squares) ** 0.5
    assert norm == pytest.approx(clip, rel=1e-2) if clip else norm > 1e-2


def test_every_update_drops_out_something_else(options: Callable) -> None:
    """All windows of a text of one character are alike: what differs is what was dropped."""
    learner = make(options(layers=2, dropout=0.5, lr=1e-9), "a" * 400)
    losses = [learner.update(0).loss]
    learner.validate()
    losses += [learner.update(step).loss for step in (1, 2)]
    assert len({round(loss, 5) for loss in losses}) == 3


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_simple_text_is_learnt(cell: tuple[str, str], options: Callable, precision: str) -> None:
    chosen = options(
        cell=cell[0], gru_reset=cell[1], hidden=16, steps=60, lr=0.02, layers=1, precision=precision
    )
    learner = make(chosen, "hello world, " * 40)
    for step in range(60):
        metrics = learner.update(step)
    assert metrics.accuracy > 0.85
    assert learner.validate().accuracy > 0.9
    assert all(tensor.dtype == torch.float32 for tensor in learner.state().values())


def test_divergence_is_told_and_leaves_the_weights(options: Callable, text: str) -> None:
    learner = make(options(lr=1e38), text)
    learner.update(0)
    before = {name: tensor.clone() for name, tensor in learner.state().items()}
    with pytest.raises(P2Error, match="training diverged at update 2"):
        learner.update(1)
    for name, tensor in learner.state().items():
        torch.testing.assert_close(tensor, before[name], equal_nan=True, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("clip", "advice"), [(1.0, "a smaller --lr or a smaller --clip"), (0.0, "or --clip 1 ")]
)
def test_the_advice_fits_the_options(options: Callable, text: str, clip: float, advice: str) -> None:
    learner = make(options(lr=1e38, clip=clip), text)
    learner.update(0)
    with pytest.raises(P2Error, match=advice):
        learner.update(1)
    with pytest.raises(P2Error, match=f"training diverged .validation loss (nan|inf).*{advice}"):
        learner.validate()


@pytest.mark.parametrize(
    "change", [lambda s: s.popitem(), lambda s: s.update({"exp_avg.output.bias": torch.ones(1)})]
)
def test_a_foreign_optimiser_state_is_refused(options: Callable, text: str, change: Callable) -> None:
    learner = make(options(stateful=True), text)
    learner.update(0)
    state = learner.training_state()
    change(state)
    with pytest.raises(ContractError, match="the optimiser's state does not belong to this model"):
        learner.restore(state, 1)
