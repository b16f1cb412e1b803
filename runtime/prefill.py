"""Read known text layer by layer, instead of character by character.

Of a layer's products only the one with its own previous state has to wait for the step before. So
the input products of a whole piece of text are one large matrix product, then a Scan carries the
state through that layer alone, then the next layer follows. The weights of one layer stay in the
cache while it is read, the large product uses the processor fully, and the output layer is left out
unless its logits are wanted.

This computes the step by the card and the names of its weights (`spec.card.step_shapes`), not by the
nodes in the file. So it is for graphs whose nodes are still the ones that p2 exported; any other
graph that keeps the contract is fed step by step.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..spec.card import Card, step_shapes
from .compose import BITS, Body, integer_product
from .onnx_format import FLOAT, INT64, Graph, Node, Tensor, Value, encode_model
from .step_file import StepFile

_Cut = Callable[[npt.NDArray[np.generic]], npt.NDArray[np.generic]]


def can_prefill(step: StepFile, body: Body) -> bool:
    """Whether the step is p2's own, and its matrices can be cut between input and state."""
    if not step.as_traced:
        return False
    bits = BITS.get(step.card.precision)
    if bits is None or step.card.layers == 1:
        return True
    _, _, packed = body.tensors["w_01_q"].shape
    return step.card.hidden % (packed * 8 // bits) == 0


def prefill_graph(card: Card, body: Body, logits: bool) -> bytes:
    """The graph that reads text.

    Inputs: ``tokens`` int64 [length, batch]; ``<state>_start`` float32 [batch, hidden]. Outputs:
    ``<state>_end``, and with `logits` also ``all_logits`` float32 [length, batch, vocab].
    """
    return _Prefill(card, body).build(logits)


class _Prefill:
    """Builds the graph."""

    def __init__(self, card: Card, body: Body) -> None:
        self._card = card
        self._body = body
        self._nodes: list[Node] = []
        self._tensors = {
            name: Tensor.of(name, np.array([gates * card.hidden, card.hidden], np.int64))
            for name, gates in (("p_two_one", 2), ("p_three_one", 3))
        }

    def build(self, logits: bool) -> bytes:
        """See `prefill_graph`."""
        card, body = self._card, self._body
        self._keep("table")
        self._nodes.append(Node.make("Gather", ["table", "tokens"], ["p_x_00"], axis=0))
        for layer in range(card.layers):
            if layer:
                self._input_products(layer)
            self._scan(layer)
        results = [Value(f"{s}_end", FLOAT, ("batch", card.hidden)) for s in body.states]
        if logits:
            top = f"p_y_{card.layers - 1:02d}"
            self._nodes += self._product(top, "w_out", "p_out", None)
            self._keep("b_out")
            self._nodes.append(Node.make("Add", ["p_out", "b_out"], ["all_logits"]))
            results.append(Value("all_logits", FLOAT, ("length", "batch", card.vocab)))
        starts = [Value(f"{s}_start", FLOAT, ("batch", card.hidden)) for s in body.states]
        graph = Graph(
            self._nodes, self._tensors, [Value("tokens", INT64, ("length", "batch")), *starts], results
        )
        return encode_model(graph, body.opset)

    def _input_products(self, layer: int) -> None:
        """``p_x_LL`` [length, batch, G*H]: what the layer below contributes, biases included."""
        card, name = self._card, f"{layer:02d}"
        below = f"p_y_{layer - 1:02d}"
        half = slice(0, card.hidden)
        if card.cell == "gru" and card.gru_reset == "before":
            # Gates and candidate lie in two matrices with their own biases.
            parts = []
            for kind in ("", "n_"):
                self._nodes += self._product(below, f"w_{kind}{name}", f"p_{kind}part_{name}", half)
                self._keep(f"b_{kind}{name}")
                biased = f"p_{kind}biased_{name}"
                self._nodes.append(Node.make("Add", [f"p_{kind}part_{name}", f"b_{kind}{name}"], [biased]))
                parts.append(biased)
            self._nodes.append(Node.make("Concat", parts, [f"p_x_{name}"], axis=2))
            return
        matrix, rows = (f"w_x_{name}", None) if card.cell == "gru" else (f"w_{name}", half)
        self._nodes += self._product(below, matrix, f"p_part_{name}", rows)
        self._keep(f"b_{name}")
        self._nodes.append(Node.make("Add", [f"p_part_{name}", f"b_{name}"], [f"p_x_{name}"]))

    def _scan(self, layer: int) -> None:
        """Carry one layer through the text: ``p_y_LL`` [length, batch, hidden] and the end states."""
        card, name = self._card, f"{layer:02d}"
        states = [f"h_{name}"] + ([f"c_{name}"] if card.cell == "lstm" else [])
        nodes = {"rnn": self._rnn, "lstm": self._lstm, "gru": self._gru}[card.cell](layer)
        nodes.append(Node.make("Identity", [f"h_{name}_new"], ["y"]))
        wide = ("batch", card.hidden)
        inner = Graph(
            nodes,
            {},
            [
                *(Value(f"{s}_old", FLOAT, wide) for s in states),
                Value("x", FLOAT, ("batch", card.gates * card.hidden)),
            ],
            [*(Value(f"{s}_new", FLOAT, wide) for s in states), Value("y", FLOAT, wide)],
        )
        self._nodes.append(
            Node.make(
                "Scan",
                [*(f"{s}_start" for s in states), f"p_x_{name}"],
                [*(f"{s}_end" for s in states), f"p_y_{name}"],
                body=inner.encoded(f"layer_{name}"),
                num_scan_inputs=1,
            )
        )

    def _recurrent(self, layer: int, source: str, matrix: str, out: str) -> list[Node]:
        """`source` times the state's rows of a matrix; in layer 0 the matrix has no others."""
        hidden = self._card.hidden
        shared = layer and not (self._card.cell == "gru" and self._card.gru_reset == "after")
        return self._product(source, matrix, out, slice(hidden, 2 * hidden) if shared else None)

    def _rnn(self, layer: int) -> list[Node]:
        name = f"{layer:02d}"
        return [
            *self._recurrent(layer, f"h_{name}_old", f"w_{name}", "hw"),
            Node.make("Add", ["hw", "x"], ["a"]),
            Node.make("Tanh", ["a"], [f"h_{name}_new"]),
        ]

    def _lstm(self, layer: int) -> list[Node]:
        name = f"{layer:02d}"
        return [
            *self._recurrent(layer, f"h_{name}_old", f"w_{name}", "hw"),
            Node.make("Add", ["hw", "x"], ["a"]),
            Node.make("Split", ["a", "p_three_one"], ["a_ifo", "a_g"], axis=1),
            Node.make("Sigmoid", ["a_ifo"], ["ifo"]),
            Node.make("Tanh", ["a_g"], ["g"]),
            Node.make("Split", ["ifo"], ["i", "f", "o"], axis=1, num_outputs=3),
            Node.make("Mul", ["f", f"c_{name}_old"], ["fc"]),
            Node.make("Mul", ["i", "g"], ["ig"]),
            Node.make("Add", ["fc", "ig"], [f"c_{name}_new"]),
            Node.make("Tanh", [f"c_{name}_new"], ["t"]),
            Node.make("Mul", ["o", "t"], [f"h_{name}_new"]),
        ]

    def _gru(self, layer: int) -> list[Node]:
        name = f"{layer:02d}"
        h = f"h_{name}_old"
        nodes = [Node.make("Split", ["x", "p_two_one"], ["x_rz", "x_n"], axis=1)]
        if self._card.gru_reset == "after":
            self._keep(f"b_hn_{name}")
            nodes += [
                *self._recurrent(layer, h, f"w_{name}", "hw"),
                Node.make("Split", ["hw", "p_two_one"], ["h_rz", "h_n"], axis=1),
                Node.make("Add", ["h_rz", "x_rz"], ["a_rz"]),
                Node.make("Sigmoid", ["a_rz"], ["rz"]),
                Node.make("Split", ["rz"], ["r", "z"], axis=1, num_outputs=2),
                Node.make("Add", ["h_n", f"b_hn_{name}"], ["h_nb"]),
                Node.make("Mul", ["r", "h_nb"], ["candidate"]),
            ]
        else:
            nodes += [
                *self._recurrent(layer, h, f"w_{name}", "h_rz"),
                Node.make("Add", ["h_rz", "x_rz"], ["a_rz"]),
                Node.make("Sigmoid", ["a_rz"], ["rz"]),
                Node.make("Split", ["rz"], ["r", "z"], axis=1, num_outputs=2),
                Node.make("Mul", ["r", h], ["rh"]),
                *self._recurrent(layer, "rh", f"w_n_{name}", "candidate"),
            ]
        return [
            *nodes,
            Node.make("Add", ["candidate", "x_n"], ["a_n"]),
            Node.make("Tanh", ["a_n"], ["n"]),
            Node.make("Sub", [h, "n"], ["h_minus_n"]),
            Node.make("Mul", ["z", "h_minus_n"], ["zd"]),
            Node.make("Add", ["n", "zd"], [f"h_{name}_new"]),
        ]

    def _product(self, source: str, matrix: str, out: str, rows: slice | None) -> list[Node]:
        """`source` times some rows of a matrix (None: all), in floats or integers."""
        suffix = "" if rows is None else f"_from_{rows.start}"
        whole = self._body.tensors.get(matrix)
        if whole is not None:
            self._keep(matrix, suffix, None if rows is None else lambda array: array[rows])
            return [Node.make("MatMul", [source, matrix + suffix], [out])]
        q, scale = self._body.tensors[f"{matrix}_q"], self._body.tensors[f"{matrix}_scale"]
        outputs, blocks, packed = q.shape
        bits = BITS[self._card.precision]
        block = packed * 8 // bits
        cut = slice(None) if rows is None else slice(rows.start // block, rows.stop // block)
        self._keep(q.name, suffix, lambda array: array[:, cut])
        self._keep(scale.name, suffix, lambda array: array.reshape(outputs, blocks)[:, cut].reshape(-1))
        count = step_shapes(self._card)[matrix][0] if rows is None else rows.stop - rows.start
        names = [source, q.name + suffix, scale.name + suffix]
        return [integer_product(names, [out], count, outputs, bits, block)]

    def _keep(self, name: str, suffix: str = "", cut: _Cut | None = None) -> None:
        """Take a tensor of the step over, or a part of it under a name of its own."""
        tensor = self._body.tensors[name]
        if cut is not None:
            tensor = Tensor.of(name + suffix, cut(tensor.array()))
        self._tensors[name + suffix] = tensor
