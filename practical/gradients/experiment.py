"""`p2 practical gradients`: how far the gradient reaches, the formulas of questions 1.1 and 1.2 checked.

The sequences are those of the toy problem, whose loss stands behind the last step alone: |dL/dh_t| over t is
then how much of it is left so many steps back. A character model has a loss at every step, which would be a
sum of such curves.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from ...contract.card import Card, formula_parameters, stored_parameters
from ...contract.errors import UsageError
from ...contract.files import make_folder
from ...render.progress import Progress
from ...trainer.learner import scoped
from ...trainer.model import CharModel
from ..again import finish
from ..document import FOLDER, alone, make_room
from ..toy.classifier import SequenceClassifier, apart
from ..toy.problem import CLASSES, MOST_MAGNITUDE, PAD, SYMBOLS, Batch, BaumSweet
from ..toy.training import LARGEST, Fan, ToyOptions, train
from .bptt import along, by_hand, gates

EXPERIMENT: Final = "gradients"
CELLS = ("rnn", "lstm", "gru")
LONGER = 3
"""Sequences so many times as long are measured at initialisation as well."""
TWO_BIASES = "abcdefgh"
"""A vocabulary for the character models whose parameters are counted; its letters do not matter."""

_MEASURE_INDEX = 1 << 41  # of a batch that neither training nor test gets to
_BY_HAND = 4  # sequences: the products of the formula are matrices for each
_QUANTILES = (0.05, 0.5, 0.95)


@dataclasses.dataclass(frozen=True)
class GradientSettings:
    """What was asked for.

    Attributes:
        magnitude: T of the sequences, which have 4 T steps.
        hidden: width of the state.
        embedding: width of a symbol.
        gain: of the initial weights.
        fan: of the initial weights.
        lr: of the training; the report's 1e-4 needs six times as many updates.
        updates: of the training, at most.
        sequences: that the norms are measured on.
        seed: of weights and samples.

    Raises:
        UsageError: a value that cannot be meant.
    """

    magnitude: int = 10
    hidden: int = 256
    embedding: int = 10
    gain: float = 1.0
    fan: Fan = "out"
    lr: float = 1e-3
    updates: int = 600
    sequences: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.sequences <= LARGEST:
            raise UsageError(f"--sequences must be 2 to {LARGEST:,}, not {self.sequences:,}")
        if LONGER * self.magnitude > MOST_MAGNITUDE:
            raise UsageError(f"--magnitude must be at most {MOST_MAGNITUDE // LONGER}, not {self.magnitude}")
        BaumSweet(self.magnitude)
        self.options("rnn")  # checks the rest

    def options(self, cell: str) -> ToyOptions:
        """The training of a cell."""
        shared = dataclasses.asdict(self)
        del shared["sequences"]
        return ToyOptions(cell, sampling="balanced", **shared)


def run(settings: GradientSettings, folder: Path = FOLDER) -> Path:
    """Train the three cells, measure before and after, and write the document with its figures.

    A document that is there and says something else is kept, see `document.make_room`.

    Raises:
        P2Error: a training failed, or a file cannot be written.
    """
    with alone(folder, EXPERIMENT):
        return _run(settings, folder)


def _run(settings: GradientSettings, folder: Path) -> Path:
    make_folder(folder)
    wall, cpu = time.perf_counter(), time.process_time()
    batch, long = (
        BaumSweet(magnitude, "balanced").batch(settings.sequences, settings.seed, _MEASURE_INDEX)
        for magnitude in (settings.magnitude, LONGER * settings.magnitude)
    )
    results: dict[str, Any] = {
        "steps": batch.symbols.shape[1],
        "padding": float((batch.symbols == PAD).sum(axis=1).mean()),
        "steps, long": long.symbols.shape[1],
        "padding, long": float((long.symbols == PAD).sum(axis=1).mean()),
        "cells": {},
        "parameters": parameters(settings),
    }
    with Progress() as progress, scoped(torch.device("cpu"), 1):
        for cell in CELLS:
            results["cells"][cell] = _cell(settings.options(cell), batch, long, progress)
        if room := make_room(folder, EXPERIMENT, results):
            progress.say(room)
    finish(
        folder,
        EXPERIMENT,
        mode="full",
        seconds={"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu},
        settings=dataclasses.asdict(settings),
        results=results,
    )
    return folder / f"{EXPERIMENT}.json"


def _cell(options: ToyOptions, batch: Batch, long: Batch, progress: Progress) -> dict[str, Any]:
    """Everything about one cell, before its training and after."""
    model = SequenceClassifier(options.cell, SYMBOLS, options.embedding, options.hidden, CLASSES)
    model.initialise(options.seed, options.gain, options.fan)
    progress.phase(f"{options.cell}: gradients at initialisation, then training", options.updates)
    found: dict[str, Any] = {"initial": measure(model, batch), "initial, long": norms_of(model, long)}
    trained = train(options, lambda _: progress.done())
    progress.say(f"  {options.cell}: {len(trained.loss)} updates, converged after {trained.converged}")
    found["trained"] = measure(trained.model, batch)
    found["converged"] = trained.converged
    found["updates"] = len(trained.loss)
    return found


def norms_of(model: SequenceClassifier, batch: Batch) -> dict[str, Any]:
    """Gradients of a model along sequences, in float64.

    Returns:
        ``h`` (and ``c`` of the LSTM): for ``all`` sequences and for those of class ``0`` and ``1``, `curves`.
    """
    model = _in_double(model)
    levels, labels = apart(batch.symbols), torch.from_numpy(batch.labels)
    norms = along(model, levels, labels)
    chosen = {"all": labels >= 0, "0": labels == 0, "1": labels == 1}
    found: dict[str, Any] = {"h": {name: curves(norms.h[:, mask]) for name, mask in chosen.items()}}
    if norms.c is not None:
        found["c"] = {name: curves(norms.c[:, mask], norms.h[-1, mask]) for name, mask in chosen.items()}
    return found


def measure(model: SequenceClassifier, batch: Batch) -> dict[str, Any]:
    """`norms_of`; the RNN's formula ``by_hand`` and ``slope`` of tanh, the LSTM's ``gates``."""
    model = _in_double(model)
    found, levels = norms_of(model, batch), apart(batch.symbols)
    if model.cell == "lstm":
        found["gates"] = {name: spread(values) for name, values in gates(model, levels).items()}
    if model.cell == "rnn":
        few = Batch(batch.symbols[:_BY_HAND], batch.labels[:_BY_HAND])
        found["by_hand"] = compare_by_hand(model, few)
        with torch.no_grad():
            states, _ = model.states(levels)
        found["slope"] = float((1 - torch.stack(states) ** 2).mean())  # tanh' where it was taken
    return found


def curves(norms: Tensor, last: Tensor | None = None) -> dict[str, Any]:
    """Norms ``[steps, sequences]`` over the steps.

    Args:
        norms: as `bptt.along` gives them.
        last: ``[sequences]``, what they are compared with; None: those of the last step.

    Returns:
        ``norm``, the median over the sequences; ``share``, the median of the norm over `last`, with its 10 %
        and 90 % quantiles ``low`` and ``high``.
    """
    share = norms / (norms[-1] if last is None else last)
    low, middle, high = torch.quantile(share, torch.tensor([0.1, 0.5, 0.9], dtype=share.dtype), dim=1)
    return {
        "norm": _digits(norms.median(dim=1).values),
        "share": _digits(middle),
        "low": _digits(low),
        "high": _digits(high),
    }


def spread(values: Tensor) -> dict[str, float]:
    """Extremes and quantiles of activations."""
    array = values.numpy().ravel()
    names = ("q05", "median", "q95")
    quantiles = zip(names, np.quantile(array, _QUANTILES), strict=True)
    return {"least": float(array.min()), "most": float(array.max()), **{n: float(q) for n, q in quantiles}}


def compare_by_hand(model: SequenceClassifier, batch: Batch) -> dict[str, Any]:
    """The formula of question 1.1 beside autograd's gradients, in float64.

    Returns:
        Largest difference over the largest element, for ``w_hh`` and ``w_ph``; ``terms``, the norm of what
        each step adds to the sum; ``jacobians``, see `bptt.ByHand`.
    """
    model = _in_double(model)
    levels, labels = apart(batch.symbols), torch.from_numpy(batch.labels)
    found = by_hand(model, levels, labels)
    loss = torch.nn.functional.cross_entropy(model(levels), labels, reduction="sum")
    expected = torch.autograd.grad(loss, [model.w_hh, model.w_ph])
    return {
        "w_hh": _difference(found.w_hh, expected[0]),
        "w_ph": _difference(found.w_ph, expected[1]),
        "terms": _digits(found.terms.flatten(1).norm(dim=1)),
        "jacobians": _digits(found.jacobians),
    }


def parameters(settings: GradientSettings) -> list[dict[str, Any]]:
    """Question 1.2 (b): parameters by the textbook's formula, and as the project's models have them."""
    embedding, hidden = settings.embedding, settings.hidden
    rows = []
    for cell, gates_, biases in (("rnn", 1, True), ("lstm", 4, True), ("gru", 3, False)):
        with torch.device("meta"):
            model = SequenceClassifier(cell, SYMBOLS, embedding, hidden, CLASSES)
        counted = model.parameter_count()
        rows.append(
            {
                "model": f"classifier, {cell}",
                "formula": _formula(gates_, embedding, hidden, CLASSES, biases),
                "counted": counted["recurrent"] + counted["output"],
                "embedding": counted["embedding"],
                "matrices": (len(model.w_ih) + len(model.w_hh)) // hidden + 1,
                "vectors": (len(model.bias) // hidden if model.bias.requires_grad else 0) + 1,
            }
        )
    for cell, gates_ in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        card = Card(cell, 1, embedding, hidden, TWO_BIASES)
        with torch.device("meta"):
            char_model = CharModel(card)
        table = card.vocab * embedding
        stored = sum(p.numel() for p in char_model.parameters())
        rows.append(
            {
                "model": f"character model, {cell}",
                "formula": _formula(gates_, embedding, hidden, card.vocab, True),
                "counted": stored - gates_ * hidden - table,  # without the second bias
                "embedding": table,
                "stored": stored,
                "inspect": {"by_formula": formula_parameters(card), "as_stored": stored_parameters(card)},
            }
        )
    return rows


def _formula(gates_: int, inputs: int, hidden: int, outputs: int, biases: bool) -> int:
    """G N_in N_h + G N_h N_h + N_h N_out + G N_h + N_out; a GRU by the equations has no G N_h."""
    products = gates_ * inputs * hidden + gates_ * hidden * hidden + hidden * outputs
    return products + (gates_ * hidden if biases else 0) + outputs


def _in_double(model: SequenceClassifier) -> SequenceClassifier:
    """A copy in float64."""
    copy = SequenceClassifier(
        model.cell, len(model.embedding), model.embedding.shape[1], model.w_hh.shape[1], len(model.w_ph)
    ).double()
    copy.load_state_dict(model.state_dict())
    return copy


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def _digits(values: Tensor) -> list[float]:
    return [float(f"{value:.5g}") for value in values.tolist()]
