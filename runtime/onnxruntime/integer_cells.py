"""One step of each cell as `contract.integers` defines it, in operators that are exact on every processor.

ONNX Runtime's own Sigmoid and Tanh are polynomials that differ from one processor to the next. Here all
gates of a layer go through one rational function, in Clip, Mul, Add and Div alone; the halves of those with a
sigmoid lie in its constants as well. A node costs half a microsecond and more, so there are as few as can be.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from ...contract.card import Card
from ...contract.integers import LIMIT, P0, P1, P2, Q0, Q1, halves
from .products import Scope, Source

HALF = np.float32(0.5)


def layer(scope: Scope, card: Card, number: int, given: str | None, below: str | None) -> None:
    """Advance one layer by one character.

    Args:
        scope: where the operators go.
        card: the model.
        number: of the layer.
        given: in layer 0 the token's row of the table, all biases; in others, if the input has met its rows
            of the matrices already, those sums. ``[batch, gates * hidden]``.
        below: else the state of the layer underneath.
    """
    write = {"rnn": _rnn, "lstm": _lstm, "gru": _gru_after, "gru-before": _gru_before}[card.form.name]
    write(scope, card, f"{number:02d}", given, below)


def _rnn(scope: Scope, card: Card, name: str, given: str | None, below: str | None) -> None:
    _sum(scope, card, f"a_{name}", f"w_{name}", (below, f"h_{name}_in"), given, f"b_{name}")
    _tanh(scope, f"a_{name}", f"h_{name}_out")


def _lstm(scope: Scope, card: Card, name: str, given: str | None, below: str | None) -> None:
    make = scope.make
    _sum(scope, card, f"a_{name}", f"w_{name}", (below, f"h_{name}_in"), given, f"b_{name}")
    factors = halves(card, f"w_{name}")
    _tanh(scope, f"a_{name}", f"t_{name}", factors)
    make("Add", [f"t_{name}", scope.constant("shift", 1 - factors)], [f"ifog_{name}"])
    parts = [f"{gate}_{name}" for gate in "ifog"]
    scope.split(f"ifog_{name}", [card.hidden] * 4, parts)
    make("Mul", [parts[1], f"c_{name}_in"], [f"fc_{name}"])
    make("Mul", [parts[0], parts[3]], [f"ig_{name}"])
    make("Add", [f"fc_{name}", f"ig_{name}"], [f"c_{name}_out"])
    _tanh(scope, f"c_{name}_out", f"tc_{name}")
    make("Mul", [parts[2], f"tc_{name}"], [f"h_{name}_out"])


def _gru_after(scope: Scope, card: Card, name: str, given: str | None, below: str | None) -> None:
    make, two = scope.make, [2 * card.hidden, card.hidden]
    first = int(name) == 0
    begun, inner = None, scope.weights.array(f"b_hn_{name}")
    parts = [f"a_rz_{name}", f"h_n_{name}"]
    if first:
        assert given is not None
        scope.split(given, two, [f"x_rz_{name}", f"x_n_{name}"])
        scope.integer_product(f"sum_{name}", f"w_{name}", [(f"h_{name}_in", None)])
        scope.split(f"sum_{name}", two, [f"sum_rz_{name}", f"sum_n_{name}"])
        make("Add", [f"sum_rz_{name}", f"x_rz_{name}"], [parts[0]])
        make("Add", [f"sum_n_{name}", scope.weights.floats(f"b_hn_{name}")], [parts[1]])
    else:
        sums, bias = given, scope.weights.array(f"b_{name}")
        if below:
            sums = f"x_{name}"
            scope.integer_product(sums, f"w_x_{name}", [(below, None)])
        assert sums is not None
        # The candidate's two parts stay apart: the reset gate comes between them.
        mask = np.repeat(np.array([1, 1, 0], np.float32), card.hidden)
        begun, both = f"begun_{name}", np.append(bias[: 2 * card.hidden], inner)
        make("Mul", [sums, scope.constant("r_and_z", mask)], [begun])
        source: list[Source] = [(f"h_{name}_in", None)]
        scope.integer_product(f"a_{name}", f"w_{name}", source, begun, scope.constant(f"b_both_{name}", both))
        scope.split(f"a_{name}", two, parts)
        scope.split(sums, two, [f"unused_{name}", f"sums_n_{name}"])
        own = scope.constant(f"b_x_n_{name}", bias[2 * card.hidden :])
        make("Add", [f"sums_n_{name}", own], [f"x_n_{name}"])
    _reset_and_update(scope, card, name)
    make("Mul", [f"r_{name}", f"h_n_{name}"], [f"rh_{name}"])
    make("Add", [f"rh_{name}", f"x_n_{name}"], [f"a_n_{name}"])
    _move(scope, name)


def _gru_before(scope: Scope, card: Card, name: str, given: str | None, below: str | None) -> None:
    two = [2 * card.hidden, card.hidden]
    gates, rest = None, None
    if given:
        gates, rest = f"x_rz_{name}", f"x_n_{name}"
        scope.split(given, two, [gates, rest])
    _sum(scope, card, f"a_rz_{name}", f"w_{name}", (below, f"h_{name}_in"), gates, f"b_{name}")
    _reset_and_update(scope, card, name)
    scope.make("Mul", [f"r_{name}", f"h_{name}_in"], [f"rh_{name}"])
    _sum(scope, card, f"a_n_{name}", f"w_n_{name}", (below, f"rh_{name}"), rest, f"b_n_{name}")
    _move(scope, name)


def _sum(
    scope: Scope,
    card: Card,
    out: str,
    matrix: str,
    values: tuple[str | None, str],
    given: str | None,
    bias: str,
) -> None:
    """Products of the input, if it is still to be met, and the state, then the bias."""
    below, state = values
    first = matrix.endswith("_00")
    rows = slice(0, card.hidden), slice(card.hidden, 2 * card.hidden)
    sources: list[Source] = [(state, None if first else rows[1])]
    if below:
        sources.insert(0, (below, rows[0]))
    begun = None if first else given
    scope.integer_product(out, matrix, sources, begun, given if first else scope.weights.floats(bias))


def _reset_and_update(scope: Scope, card: Card, name: str) -> None:
    _tanh(scope, f"a_rz_{name}", f"t_rz_{name}", HALF)
    scope.make("Add", [f"t_rz_{name}", scope.constant("half", HALF)], [f"rz_{name}"])
    scope.split(f"rz_{name}", [card.hidden] * 2, [f"r_{name}", f"z_{name}"])


def _move(scope: Scope, name: str) -> None:
    """A GRU's state on its way to the candidate, by one less the update gate."""
    _tanh(scope, f"a_n_{name}", f"n_{name}")
    scope.make("Sub", [f"h_{name}_in", f"n_{name}"], [f"d_{name}"])
    scope.make("Mul", [f"z_{name}", f"d_{name}"], [f"zd_{name}"])
    scope.make("Add", [f"n_{name}", f"zd_{name}"], [f"h_{name}_out"])


def _tanh(scope: Scope, x: str, out: str, factor: np.float32 | npt.NDArray[np.float32] | None = None) -> None:
    """`contract.integers.tanh`, times powers of two: the same for all, or one for each column."""
    names = (f"{out}_{number}" for number in itertools.count())
    kind = "" if factor is None else "_halved" if np.ndim(factor) == 0 else "_by_gate"

    def make(op: str, *inputs: str) -> str:
        result = next(names)
        scope.make(op, list(inputs), [result])
        return result

    def scaled(name: str, value: np.float32) -> str:
        return scope.constant(name + kind, value if factor is None else value * factor)

    x = make("Clip", x, scope.constant("tanh_least", -LIMIT), scope.constant("tanh_most", LIMIT))
    s = make("Mul", x, x)
    above = make("Add", make("Mul", s, scaled("tanh_p2", P2)), scaled("tanh_p1", P1))
    above = make("Add", make("Mul", above, s), scaled("tanh_p0", P0))
    under = make("Mul", make("Add", s, scope.constant("tanh_q1", Q1)), s)
    under = make("Add", under, scope.constant("tanh_q0", Q0))
    scope.make("Div", [make("Mul", x, above), under], [out])
