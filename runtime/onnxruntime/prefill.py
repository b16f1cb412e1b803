"""Read known text layer by layer, instead of character by character.

Of a layer's products only the one with its own previous state has to wait for the step before. So
the input products of a whole piece of text are one large matrix product, then a Scan carries the
state through that layer alone, then the next layer follows. The weights of one layer stay in the
cache while it is read, the large product uses the processor fully, and the output layer is left out
unless its logits are wanted. With float weights ONNX's own operator takes the place of the Scan.

This computes the step by the card and the names of its weights (`contract.card.step_shapes`), not by the
nodes in the file. So it is for graphs whose nodes are still the ones that p2 exported; any other
graph that keeps the contract is fed step by step.
"""

from __future__ import annotations

from ...contract.cells import APART, STAGED
from ..onnx_format import Graph, Node, Value
from ..onnx_tensors import FLOAT, INT64, UINT8
from ..step_file import StepFile
from ..weights import FLOATS, INTEGERS
from . import cells, recurrent_operators
from .products import Constants, Scope


def can_prefill(step: StepFile) -> bool:
    """Whether the step is p2's own."""
    return step.as_traced


def prefill_graph(step: StepFile, logits: bool) -> Graph:
    """The graph that reads text.

    Inputs: ``tokens`` int64 [length, batch]; ``<state>_start`` float32 [batch, hidden]. Outputs:
    ``<state>_end``, and with `logits` also ``all_logits`` float32 [length, batch, vocab].
    """
    card = step.card
    weights = Constants(step)
    scope = Scope(weights)
    if weights.kind == FLOATS and recurrent_operators.one_hot_pays(card):
        recurrent_operators.one_hot(scope, card, "p_hot")
        for number in range(card.layers):
            below = f"p_y_{number - 1:02d}" if number else "p_hot"
            recurrent_operators.layer(scope, card, number, below, f"p_y_{number:02d}")
    else:
        scope.make("Gather", [weights.floats("table"), "tokens"], ["p_x_00"], axis=0)
        for number in range(card.layers):
            if number:
                _input_products(scope, step, number)
            _carry(scope, step, number)
    results = [Value(f"{s}_end", FLOAT, ("batch", card.hidden)) for s in card.state_names]
    if logits:
        top = f"p_y_{card.layers - 1:02d}"
        scope.product("all_logits", "w_out", [(top, None)], weights.floats("b_out"), wide=True)
        results.append(Value("all_logits", FLOAT, ("length", "batch", card.vocab)))
    starts = [Value(f"{s}_start", FLOAT, ("batch", card.hidden)) for s in card.state_names]
    tokens = Value("tokens", INT64, ("length", "batch"))
    return Graph(scope.nodes, weights.tensors, [tokens, *starts], results)


def _input_products(scope: Scope, step: StepFile, number: int) -> None:
    """``p_x_LL`` [length, batch, G*H]: what the layer below contributes; of floats the biases included."""
    card, name = step.card, f"{number:02d}"
    below, half, out = f"p_y_{number - 1:02d}", slice(0, card.hidden), f"p_x_{name}"
    bias = scope.weights.floats if scope.weights.kind == FLOATS else lambda _: None
    if card.form.products == STAGED:
        # Gates and candidate lie in two matrices with their own biases.
        for kind in ("", "n_"):
            scope.product(
                f"{out}_{kind}", f"w_{kind}{name}", [(below, half)], bias(f"b_{kind}{name}"), wide=True
            )
        scope.make("Concat", [f"{out}_", f"{out}_n_"], [out], axis=2)
    elif card.form.products == APART:
        scope.product(out, f"w_x_{name}", [(below, None)], bias(f"b_{name}"), wide=True)
    else:
        scope.product(out, f"w_{name}", [(below, half)], bias(f"b_{name}"), wide=True)


def _carry(scope: Scope, step: StepFile, number: int) -> None:
    """Take one layer through the text: ``p_y_LL`` [length, batch, hidden] and the end states."""
    card, name = step.card, f"{number:02d}"
    wide = ("batch", card.hidden)
    inner = Scope(scope.weights)
    rounded = scope.weights.kind == INTEGERS
    if rounded:
        inner.rounded.add(f"h_{name}_in")
    cells.layer(inner, card, number, given="x", below=None)
    text_out = f"p_y_{name}_q8" if rounded else f"p_y_{name}"
    carried = [(f"{state}_{name}", "", FLOAT) for state in card.form.states]
    text, kind = f"h_{name}_out", FLOAT
    if rounded:  # a text of states in 8 bits is all that the next product wants
        scope.round(f"h_{name}_start")
        text, kind = inner.round(text), UINT8
        carried.append((f"h_{name}", "_q8", UINT8))
        scope.rounded.add(f"p_y_{name}")
    inner.nodes.append(Node.make("Identity", [text], ["y"]))
    body = Graph(
        inner.nodes,
        {},
        [
            *(Value(f"{state}_in{form}", code, wide) for state, form, code in carried),
            Value("x", FLOAT, ("batch", card.gates * card.hidden)),
        ],
        [*(Value(f"{state}_out{form}", code, wide) for state, form, code in carried), Value("y", kind, wide)],
    )
    scope.nodes.append(
        Node.make(
            "Scan",
            [*(f"{state}_start{form}" for state, form, _ in carried), f"p_x_{name}"],
            [
                *(f"{state}_end{form}" for state, form, _ in carried),
                text_out,
            ],
            body=body.encoded(f"layer_{name}"),
            num_scan_inputs=1,
        )
    )
