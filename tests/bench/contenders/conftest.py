"""Contenders, loaded with the random weights of a card."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from p2.bench.contender import Model, Running
from p2.bench.contenders import cuda, torch_cell
from p2.bench.contenders.registry import by_key
from p2.contract.card import Card

from .reference import GRAPH, save_checkpoint

Load = Callable[..., Running]


@pytest.fixture
def model_of(tmp_path, parameters_of, write_step) -> Callable[..., Model]:
    """A card's random weights in every form: ``model_of(card, precisions=["int8"])``."""

    def make(card: Card, precisions: tuple[str, ...] = ("float32",)) -> Model:
        folder = tmp_path / "checkpoint"
        saved = save_checkpoint(folder, card, parameters_of(card))
        steps = {
            name: write_step(card.with_(precision=name), name=f"charlm-{name}.onnx") for name in precisions
        }
        return Model(card.cell, saved, folder, steps)

    return make


@pytest.fixture
def load(model_of) -> Iterator[Load]:
    """Load a contender, or skip for the reason that it gives: ``load("openvino", card)``."""
    loaded: list[Running] = []

    def make(key: str, card: Card, threads: int | None = 1) -> Running:
        if key == GRAPH:
            model = model_of(card)
            running: Running = cuda.GraphRunning(
                card, 1, torch_cell.folded_cell(model), "cpu", lambda body: body
            )
        else:
            reason = by_key(key).missing(card)
            if reason:
                pytest.skip(reason)
            running = by_key(key).load(model_of(card, (by_key(key).precision,)), threads)
        loaded.append(running)
        return running

    yield make
    for running in loaded:
        running.close()
