"""One step of each cell, written by the card in as few operators as ONNX Runtime allows.

The equations are those of `contract.card.step_shapes`; the nodes of an exported file say the same in
operators that every backend knows. A layer reads ``h_LL_in`` (and ``c_LL_in``), and writes ``h_LL_out``
(and ``c_LL_out``). What comes from below is one of two things:

- `given`: the layer's gate inputs, already computed. For layer 0 that is a row of the folded table;
- `below`: the state of the layer underneath, with which the product is still to be made.

With integer weights `integer_cells` writes the layer instead.
"""

from __future__ import annotations

import numpy as np

from ...contract.card import Card
from ..weights import INTEGERS
from . import integer_cells
from .products import Scope, Source


def step(scope: Scope, card: Card, output: str | None, bias: str | None = None) -> None:
    """All layers: reads ``token`` int64 ``[batch]`` and the states.

    Args:
        scope: where the operators go.
        card: the model.
        output: what to call the output layer's result, float32 ``[batch, vocab]``; None leaves it out.
        bias: a value ``[batch, vocab]`` for the output layer to add instead of its own bias.
    """
    scope.make("Gather", [scope.weights.floats("table"), "token"], ["x_00"], axis=0)
    for number in range(card.layers):
        below = f"h_{number - 1:02d}_out" if number else None
        layer(scope, card, number, given=None if number else "x_00", below=below)
    if output:
        top = f"h_{card.layers - 1:02d}_out"
        scope.product(output, "w_out", [(top, None)], bias or scope.weights.floats("b_out"))


def layer(scope: Scope, card: Card, number: int, given: str | None, below: str | None) -> None:
    """Advance one layer by one character; exactly one of `given` and `below` is not None."""
    if scope.weights.kind == INTEGERS:
        integer_cells.layer(scope, card, number, given, below)
    else:
        write = {"rnn": _rnn, "lstm": _lstm, "gru": _gru_after, "gru-before": _gru_before}[card.form.name]
        write(scope, card, f"{number:02d}", given, below)


def _sources(card: Card, name: str, state: str, below: str | None) -> list[Source]:
    """What a product over [x, h] reads; in layer 0 the matrix has no rows for x."""
    own: Source = (state, None if int(name) == 0 else slice(card.hidden, 2 * card.hidden))
    return [own] if below is None else [(below, slice(0, card.hidden)), own]


def _rnn(scope: Scope, card: Card, name: str, given: str | None, below: str | None) -> None:
    bias = given or scope.weights.floats(f"b_{name}")
    scope.product(f"a_{name}", f"w_{name}", _sources(card, name, f"h_{name}_in", below), bias)
    scope.make("Tanh", [f"a_{name}"], [f"h_{name}_out"])


def _lstm(scope: Scope, card: Card, name: str, given: str | None, below: str | None) -> None:
    bias = given or scope.weights.floats(f"b_{name}")
    scope.product(f"a_{name}", f"w_{name}", _sources(card, name, f"h_{name}_in", below), bias)
    make = scope.make
    make("Split", [f"a_{name}", _split(scope, card, 3)], [f"a_ifo_{name}", f"a_g_{name}"], axis=1)
    make("Sigmoid", [f"a_ifo_{name}"], [f"ifo_{name}"])
    make("Tanh", [f"a_g_{name}"], [f"g_{name}"])
    make("Split", [f"ifo_{name}"], [f"i_{name}", f"f_{name}", f"o_{name}"], axis=1, num_outputs=3)
    make("Mul", [f"f_{name}", f"c_{name}_in"], [f"fc_{name}"])
    make("Mul", [f"i_{name}", f"g_{name}"], [f"ig_{name}"])
    make("Add", [f"fc_{name}", f"ig_{name}"], [f"c_{name}_out"])
    make("Tanh", [f"c_{name}_out"], [f"t_{name}"])
    make("Mul", [f"o_{name}", f"t_{name}"], [f"h_{name}_out"])


def _gru_after(scope: Scope, card: Card, name: str, given: str | None, below: str | None) -> None:
    make = scope.make
    # The bias inside the reset product stands in the last third of a bias for the whole product.
    inner = np.zeros(3 * card.hidden, np.float32)
    inner[2 * card.hidden :] = scope.weights.array(f"b_hn_{name}")
    whole = scope.weights.add(f"b_h_{name}", inner)
    scope.product(f"hw_{name}", f"w_{name}", [(f"h_{name}_in", None)], whole)
    if below:
        scope.product(f"xw_{name}", f"w_x_{name}", [(below, None)], scope.weights.floats(f"b_{name}"))
    split = _split(scope, card, 2)
    make("Split", [given or f"xw_{name}", split], [f"x_rz_{name}", f"x_n_{name}"], axis=1)
    make("Split", [f"hw_{name}", split], [f"h_rz_{name}", f"h_n_{name}"], axis=1)
    make("Add", [f"h_rz_{name}", f"x_rz_{name}"], [f"a_rz_{name}"])
    _reset_and_update(scope, name)
    make("Mul", [f"r_{name}", f"h_n_{name}"], [f"rh_{name}"])
    make("Add", [f"rh_{name}", f"x_n_{name}"], [f"a_n_{name}"])
    _move(scope, name)


def _gru_before(scope: Scope, card: Card, name: str, given: str | None, below: str | None) -> None:
    h = f"h_{name}_in"
    if given:
        scope.make("Split", [given, _split(scope, card, 2)], [f"x_rz_{name}", f"x_n_{name}"], axis=1)
    bias = f"x_rz_{name}" if given else scope.weights.floats(f"b_{name}")
    scope.product(f"a_rz_{name}", f"w_{name}", _sources(card, name, h, below), bias)
    _reset_and_update(scope, name)
    scope.make("Mul", [f"r_{name}", h], [f"rh_{name}"])
    bias = f"x_n_{name}" if given else scope.weights.floats(f"b_n_{name}")
    scope.product(f"a_n_{name}", f"w_n_{name}", _sources(card, name, f"rh_{name}", below), bias)
    _move(scope, name)


def _move(scope: Scope, name: str) -> None:
    """A GRU's state on its way to the candidate, by one less the update gate."""
    scope.make("Tanh", [f"a_n_{name}"], [f"n_{name}"])
    scope.make("Sub", [f"h_{name}_in", f"n_{name}"], [f"d_{name}"])
    scope.make("Mul", [f"z_{name}", f"d_{name}"], [f"zd_{name}"])
    scope.make("Add", [f"n_{name}", f"zd_{name}"], [f"h_{name}_out"])


def _reset_and_update(scope: Scope, name: str) -> None:
    scope.make("Sigmoid", [f"a_rz_{name}"], [f"rz_{name}"])
    scope.make("Split", [f"rz_{name}"], [f"r_{name}", f"z_{name}"], axis=1, num_outputs=2)


def _split(scope: Scope, card: Card, sigmoids: int) -> str:
    """The sizes of a split after the gates that go through a sigmoid."""
    sizes = np.array([sigmoids * card.hidden, card.hidden], np.int64)
    return scope.weights.add("split_sizes", sizes)
