"""What was found in a source: a model's weights in PyTorch's form, and the source's own way to run them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..contract.card import MAX_LAYERS, MAX_WIDTH
from ..contract.cells import Cell
from ..contract.codec import Tokens
from ..contract.errors import P2Error
from ..contract.finite import first_not_finite
from ..contract.schema import shown

Floats = npt.NDArray[np.float32]
Predict = Callable[[Tokens], npt.NDArray[np.floating]]
"""Tokens int64 ``[time]`` of the source's own numbering -> logits ``[time, V]``, or of the last alone, from a
zero state."""

MOST_BYTES = 8 << 30  # of a source


@dataclass(frozen=True)
class Layer:
    """A recurrent layer, gates stacked in PyTorch's order.

    Attributes:
        w_ih: float32 ``[G * hidden, inputs]``.
        w_hh: float32 ``[G * hidden, hidden]``.
        b_ih: float32 ``[G * hidden]``.
        b_hh: float32 ``[G * hidden]``.
    """

    w_ih: Floats
    w_hh: Floats
    b_ih: Floats
    b_hh: Floats


@dataclass(frozen=True)
class Row:
    """A tensor of the source, and what it is here.

    Attributes:
        name: the source's.
        shape: as the source has it.
        role: here.
    """

    name: str
    shape: tuple[int, ...]
    role: str


@dataclass(frozen=True)
class Found:
    """A model as its source has it: characters in the source's order.

    Attributes:
        form: the cell.
        embedding: float32 ``[V, E]``; None: the first layer takes one of V directly.
        layers: from the input up.
        w_out: float32 ``[V, hidden]``.
        b_out: float32 ``[V]``.
        rows: what was mapped to what.
        judge: what runs the source's own form.
        predict: that, see `Predict`.
        notes: what a person should know of it, a sentence each.
        window: the characters that `predict` takes at once, if not any number; 0 if it does.
    """

    form: Cell
    embedding: Floats | None
    layers: tuple[Layer, ...]
    w_out: Floats
    b_out: Floats
    rows: tuple[Row, ...]
    judge: str
    predict: Predict
    notes: tuple[str, ...] = ()
    window: int = 0

    @property
    def vocab(self) -> int:
        """V, the characters that it tells apart."""
        return len(self.b_out)


def size(shape: Sequence[int]) -> str:
    """A shape as tables and sentences have it: ``64 x 32``."""
    return " x ".join(map(str, shape)) or "one number"


def extra(where: str, name: str, shape: Sequence[int], why: str = "") -> P2Error:
    """The refusal of a tensor that no model of p2 has a place for."""
    return P2Error(
        f"{where} holds the tensor {shown(name)} ({size(shape)}){why and f', {why}'}: p2's models have no"
        " place for it"
    )


def check_sizes(found: Found, where: str) -> None:
    """Check that the parts fit one another, and p2's limits; the refusal names what does not.

    Raises:
        P2Error: they do not, or a number is NaN or infinite.
    """
    gates, hidden, vocab = len(found.form.gates), found.w_out.shape[1], found.vocab
    inputs = vocab if found.embedding is None else found.embedding.shape[1]
    wanted: list[tuple[str, Floats, tuple[int, ...]]] = [("the output layer", found.w_out, (vocab, hidden))]
    if found.embedding is not None:
        wanted.append(("the embedding", found.embedding, (vocab, inputs)))
    for number, layer in enumerate(found.layers):
        name, first = f"layer {number}'s", hidden if number else inputs
        wanted += [
            (f"{name} input matrix", layer.w_ih, (gates * hidden, first)),
            (f"{name} recurrent matrix", layer.w_hh, (gates * hidden, hidden)),
            (f"{name} input bias", layer.b_ih, (gates * hidden,)),
            (f"{name} recurrent bias", layer.b_hh, (gates * hidden,)),
        ]
    for name, array, shape in wanted:
        if array.shape != shape:
            raise P2Error(
                f"{where}: {name} is {size(array.shape)}, not {size(shape)} as the parts around it ask for"
                " (all layers of p2's models have one width)"
            )
    if not 1 <= len(found.layers) <= MAX_LAYERS or max(hidden, inputs, vocab) > MAX_WIDTH:
        raise P2Error(
            f"{where} is larger than p2's models: at most {MAX_LAYERS} layers, {MAX_WIDTH} units each"
        )


def check_finite(arrays: dict[str, Floats], where: str) -> None:
    """Refuse NaN and infinity by the name that the source has for the tensor.

    Raises:
        P2Error: there is one, as float32.
    """
    bad = first_not_finite(arrays)
    if bad is not None:
        raise P2Error(f"{where} is of no use: {shown(bad)} holds NaN or infinity (as float32)")
