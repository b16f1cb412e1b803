"""Shared fixtures: small random models, made by hand, and what they must say, by numpy."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import numpy.typing as npt
import pytest

from p2.contract.card import Card

from . import browsing, tracing
from .reading_pages import Checked

# Tiny models run fastest on one thread, and two test workers with two threads each would wait for
# one another. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes is the machine's business.
hypothesis.settings.register_profile("p2", deadline=None)
hypothesis.settings.load_profile("p2")

Arrays = dict[str, npt.NDArray[np.float32]]

CELLS = [("rnn", "after"), ("lstm", "after"), ("gru", "after"), ("gru", "before")]
VOCABULARY = "".join(sorted("abcdefghijklmnopqrstuvwxyz .,\n"))


def make_card(
    cell: str = "lstm", reset: str = "after", layers: int = 2, hidden: int = 32, **changes: object
) -> Card:
    card = Card(cell, layers, 8, hidden, VOCABULARY, gru_reset=reset, checkpoint_sha256="c" * 64)
    return card.with_(**changes)


@functools.cache
def random_parameters(card: Card, seed: int = 0) -> Arrays:
    """Weights of about the size that training gives, under PyTorch's names."""
    rng = np.random.default_rng(seed)
    hidden, wide = card.hidden, card.gates * card.hidden
    shapes = {"embedding.weight": (card.vocab, card.embedding)}
    for layer in range(card.layers):
        inputs = card.embedding if layer == 0 else hidden
        shapes[f"rnn.weight_ih_l{layer}"] = (wide, inputs)
        shapes[f"rnn.weight_hh_l{layer}"] = (wide, hidden)
        shapes[f"rnn.bias_ih_l{layer}"] = shapes[f"rnn.bias_hh_l{layer}"] = (wide,)
    shapes |= {"output.weight": (card.vocab, hidden), "output.bias": (card.vocab,)}
    # A vanilla RNN with a spectral radius above 1 is chaotic: no two roundings would agree for long.
    scale = {"rnn": 0.8, "lstm": 1.2, "gru": 1.2}[card.cell] / np.sqrt(hidden)
    arrays = {name: (rng.standard_normal(shape) * scale).astype(np.float32) for name, shape in shapes.items()}
    arrays["output.weight"] *= 3
    return arrays


def sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1 / (1 + np.exp(-x))


class NumpyModel:
    """The equations of the three cells written out in float64, in PyTorch's conventions."""

    def __init__(self, card: Card, parameters: Arrays) -> None:
        self.card = card
        self.p = {name: array.astype(np.float64) for name, array in parameters.items()}

    def zero(self, batch: int) -> dict[str, npt.NDArray[np.float64]]:
        return {name: np.zeros((batch, self.card.hidden)) for name in self.card.state_names}

    def step(
        self, state: dict[str, npt.NDArray[np.float64]], token: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.float64]:
        p, size = self.p, self.card.hidden
        x = p["embedding.weight"][token]
        for layer in range(self.card.layers):
            h = state[f"h_{layer:02d}"]
            w_ih, w_hh = p[f"rnn.weight_ih_l{layer}"], p[f"rnn.weight_hh_l{layer}"]
            b_ih, b_hh = p[f"rnn.bias_ih_l{layer}"], p[f"rnn.bias_hh_l{layer}"]
            given = x @ w_ih.T + b_ih
            if self.card.cell == "rnn":
                h = np.tanh(given + h @ w_hh.T + b_hh)
            elif self.card.cell == "lstm":
                i, f, g, o = np.split(given + h @ w_hh.T + b_hh, 4, axis=1)
                c = sigmoid(f) * state[f"c_{layer:02d}"] + sigmoid(i) * np.tanh(g)
                state[f"c_{layer:02d}"] = c
                h = sigmoid(o) * np.tanh(c)
            else:
                r = sigmoid(given[:, :size] + h @ w_hh[:size].T + b_hh[:size])
                z = sigmoid(given[:, size : 2 * size] + h @ w_hh[size : 2 * size].T + b_hh[size : 2 * size])
                w_n, b_n = w_hh[2 * size :], b_hh[2 * size :]
                if self.card.gru_reset == "after":
                    n = np.tanh(given[:, 2 * size :] + r * (h @ w_n.T + b_n))
                else:
                    n = np.tanh(given[:, 2 * size :] + (r * h) @ w_n.T + b_n)
                h = (1 - z) * n + z * h
            state[f"h_{layer:02d}"] = x = h
        return x @ p["output.weight"].T + p["output.bias"]

    def run(self, tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Logits [batch, length, vocab] from a zero state."""
        state = self.zero(len(tokens))
        return np.stack([self.step(state, column) for column in tokens.T], axis=1)


@functools.cache
def step_bytes(card: Card, seed: int = 0, opset: int = 21) -> bytes:
    import torch

    from p2.export import graph
    from p2.export.fold import fold

    arrays = random_parameters(make_plain(card), seed)
    parameters = {name: torch.from_numpy(array) for name, array in arrays.items()}
    tracing.trace_once()
    return graph.step_graph(card, fold(card, parameters), opset).SerializeToString()


def pytest_runtest_setup() -> None:
    if "p2.export.graph" in sys.modules:  # nothing is imported for tests that do without
        tracing.trace_once()


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing is remembered in the cache folder of whoever runs the tests."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def traces(tmp_path_factory: pytest.TempPathFactory) -> None:
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "traces"
    folder.mkdir(exist_ok=True)
    tracing.FOLDER.append(folder)


@pytest.fixture(params=CELLS, ids=["rnn", "lstm", "gru", "gru-before"])
def cell(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Every cell, with the GRU in both variants: (cell, reset)."""
    return request.param


@pytest.fixture
def card_of() -> Callable[..., Card]:
    """Make a card: ``card_of("lstm", layers=1)``."""
    return make_card


@pytest.fixture
def numpy_model() -> Callable[..., NumpyModel]:
    """The independent reference for a card's random weights."""
    return lambda card, seed=0: NumpyModel(
        card.with_(precision="float32"), random_parameters(make_plain(card), seed)
    )


def make_plain(card: Card) -> Card:
    return card.with_(precision="float32")


@pytest.fixture
def parameters_of() -> Callable[..., Arrays]:
    """A card's random weights under PyTorch's names."""
    return lambda card, seed=0: random_parameters(make_plain(card), seed)


@pytest.fixture
def write_step(tmp_path: Path) -> Callable[..., Path]:
    """Export the step of a card's random weights: ``write_step(card)`` -> path of the .onnx."""

    def write(card: Card, seed: int = 0, name: str = "charlm.onnx", opset: int = 21) -> Path:
        path = tmp_path / name
        path.write_bytes(step_bytes(card, seed, opset))
        return path

    return write


TINY_TEXT = "the quick brown fox jumps over the lazy dog.\nshe sells sea shells by the sea shore.\n" * 40


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train a tiny model once per setting: ``trained("gru", "before")`` -> run folder."""
    made: dict[tuple[object, ...], Path] = {}

    def train(cell: str = "lstm", reset: str = "after", hidden: int = 32, layers: int = 2) -> Path:
        key = (cell, reset, hidden, layers)
        if key not in made:
            from p2.trainer import display, loop
            from p2.trainer.corpus import load
            from p2.trainer.options import TrainOptions

            base = tmp_path_factory.mktemp("run")
            (base / "text.txt").write_text(TINY_TEXT)
            options = TrainOptions(
                cell=cell,
                gru_reset=reset,
                hidden=hidden,
                layers=layers,
                embedding=16,
                seq_len=24,
                batch_size=16,
                steps=40,
                precision="float32",
                out=base / "charlm",
            )
            loop.train(options, load([str(base / "text.txt")]), display.Silent())
            made[key] = base / "charlm"
        return made[key]

    return train


@pytest.fixture
def tiny_run(trained: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh copy of a tiny LSTM's run folder, for a test to write into."""
    folder = tmp_path_factory.mktemp("copy") / "charlm"
    shutil.copytree(trained(), folder)
    return folder


@pytest.fixture
def checked() -> type[Checked]:
    """Read a page: ``checked(markup).text``."""
    return Checked


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Chromium, by selenium; one for all tests of a process."""
    found = browsing.start(tmp_path_factory.mktemp("chromium"))
    yield found
    found.quit()
