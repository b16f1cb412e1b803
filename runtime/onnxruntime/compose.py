"""Wrap a step into loops that run inside ONNX Runtime: one call, many characters.

Two graphs are made from the same step, both around a Scan (which costs about 10 % less per
iteration than a Loop: it needs no condition, and takes its slice of the noise by itself):

- decode: feed a token, add the noise to the logits, take the argmax, feed that, ...; with the
  filters (top-k, top-p, min-p) compiled in only when they are used;
- feed: advance over known tokens, with or without the logits of every position.

A step whose nodes are still the ones that p2 exported is written anew for the processor (`cells`);
any other graph that keeps the contract is wrapped as it is, fitted to the processor where that
changes nothing (`fitting`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ..onnx_format import Graph, Node, Value
from ..onnx_tensors import FLOAT, INT64, UINT8, Tensor
from ..step_file import OPSET, StepFile
from ..weights import FLOATS, INTEGERS
from . import cells
from .fitting import fit_to_cpu
from .products import Constants, Scope


@dataclass(frozen=True)
class Body:
    """A step ready to be wrapped.

    Attributes:
        nodes: the step's operators, reading ``token`` and ``<state>_in``.
        tensors: its constants.
        states: names of the states.
        hidden: width of each.
        vocab: vocabulary size.
        before: operators that run once, before the loop.
        rounded: states that travel in 8 bits as well: ``<state>_in_q8`` to ``<state>_out_q8``, beginning
            as ``<state>_start_q8``, which `before` makes.
        noise: what the loop slices as ``noise_now``.
        noisy: whether the step adds the noise itself and has ``noisy_logits`` for a result.
        opset: operator set of the nodes.
    """

    nodes: list[Node]
    tensors: dict[str, Tensor]
    states: tuple[str, ...]
    hidden: int
    vocab: int
    before: list[Node] = field(default_factory=list)
    rounded: tuple[str, ...] = ()
    noise: str = "noise"
    noisy: bool = False
    opset: int = OPSET


def decode_body(step: StepFile, filters: bool) -> Body:
    """The step as the decode loop runs it best."""
    if not step.as_traced:
        return _fitted(step)
    weights = Constants(step)
    # Gemm adds the noise on its way, if it has the bias in it and nothing wants the bare logits.
    noisy = weights.kind == FLOATS and not filters
    body = _written(step, weights, "noisy_logits" if noisy else "logits", "noise_now" if noisy else None)
    if not noisy:
        return body
    add = Node.make("Add", ["noise", weights.floats("b_out")], ["noise_and_bias"])
    return replace(body, before=[*body.before, add], noise="noise_and_bias", noisy=True)


def feed_body(step: StepFile, logits: bool) -> Body:
    """The step as the loop over known tokens runs it best."""
    if not step.as_traced:
        return _fitted(step)
    return _written(step, Constants(step), "logits" if logits else None, None)


def _written(step: StepFile, weights: Constants, output: str | None, bias: str | None) -> Body:
    card = step.card
    in_8_bits = weights.kind == INTEGERS
    rounded = tuple(s for s in card.state_names if s.startswith("h_")) if in_8_bits else ()
    scope, before = Scope(weights), Scope(weights)
    scope.rounded.update(f"{state}_in" for state in rounded)
    cells.step(scope, card, output, bias)
    for state in rounded:
        before.round(f"{state}_start")
        scope.round(f"{state}_out")
    return Body(
        scope.nodes,
        weights.tensors,
        card.state_names,
        card.hidden,
        card.vocab,
        before.nodes,
        rounded,
    )


def _fitted(step: StepFile) -> Body:
    nodes, tensors = fit_to_cpu(step.graph)
    card = step.card
    return Body(nodes, tensors, card.state_names, card.hidden, card.vocab, opset=step.opset)


def decode_graph(body: Body, filters: bool) -> Graph:
    """The decode loop.

    Inputs: ``first`` int64 [batch]; ``<state>_start`` float32 [batch, hidden]; ``noise`` float32
    [count, batch, vocab]; with filters also ``tau`` float32 [], ``top_k`` int64 [1], ``top_p`` and
    ``min_p`` float32 []. Outputs: ``<state>_end`` and ``tokens`` int64 [count, batch].

    Args:
        body: the step.
        filters: whether top-k, top-p and min-p take part.
    """
    nodes = list(body.nodes)
    logits = "logits"
    settings: list[Value] = []
    if filters:
        nodes += _filter_nodes(body.opset)
        logits = "kept_logits"
        settings = [
            Value("tau", FLOAT, ()),
            Value("top_k", INT64, (1,)),
            Value("top_p", FLOAT, ()),
            Value("min_p", FLOAT, ()),
        ]
    if not body.noisy:
        nodes.append(Node.make("Add", [logits, "noise_now"], ["noisy_logits"]))
    nodes += [
        Node.make("ArgMax", ["noisy_logits"], ["next"], axis=1, keepdims=0),
        Node.make("Identity", ["next"], ["written"]),
    ]
    states, new_states = _carried(body, "_in"), _carried(body, "_out")
    token = Value("token", INT64, ("batch",))
    inner = Graph(
        nodes,
        {},
        [token, *states, Value("noise_now", FLOAT, ("batch", body.vocab))],
        [Value("next", INT64, ("batch",)), *new_states, Value("written", INT64, ("batch",))],
    )
    loop = Node.make(
        "Scan",
        ["first", *(value.name for value in _carried(body, "_start")), body.noise],
        ["last", *(value.name for value in _carried(body, "_end")), "tokens"],
        body=inner.encoded("decode_step"),
        num_scan_inputs=1,
    )
    return Graph(
        [*body.before, loop],
        body.tensors | (_filter_constants() if filters else {}),
        [
            Value("first", INT64, ("batch",)),
            *_state_values(body, "_start"),
            Value("noise", FLOAT, ("count", "batch", body.vocab)),
            *settings,
        ],
        [*_state_values(body, "_end"), Value("tokens", INT64, ("count", "batch"))],
    )


def feed_graph(body: Body, logits: bool) -> Graph:
    """The loop over known tokens.

    Inputs: ``tokens`` int64 [length, batch]; ``<state>_start``. Outputs: ``<state>_end``, and with
    `logits` also ``all_logits`` float32 [length, batch, vocab].
    """
    outputs = _carried(body, "_out")
    results = _carried(body, "_end")
    if logits:
        outputs.append(Value("logits", FLOAT, ("batch", body.vocab)))
        results.append(Value("all_logits", FLOAT, ("length", "batch", body.vocab)))
    nodes = _needed(body.nodes, {value.name for value in outputs})
    inner = Graph(nodes, {}, [*_carried(body, "_in"), Value("token", INT64, ("batch",))], outputs)
    loop = Node.make(
        "Scan",
        [*(value.name for value in _carried(body, "_start")), "tokens"],
        [value.name for value in results],
        body=inner.encoded("feed_step"),
        num_scan_inputs=1,
    )
    used = {name for node in [*nodes, *body.before] for name in node.inputs}
    return Graph(
        [*body.before, loop],
        {name: tensor for name, tensor in body.tensors.items() if name in used},
        [Value("tokens", INT64, ("length", "batch")), *_state_values(body, "_start")],
        [value for value in results if value.type == FLOAT],
    )


def _carried(body: Body, suffix: str) -> list[Value]:
    """Everything that goes round the loop besides the token."""
    wide = ("batch", body.hidden)
    return [
        *_state_values(body, suffix),
        *(Value(f"{state}{suffix}_q8", UINT8, wide) for state in body.rounded),
    ]


def _state_values(body: Body, suffix: str) -> list[Value]:
    return [Value(f"{state}{suffix}", FLOAT, ("batch", body.hidden)) for state in body.states]


def _needed(nodes: list[Node], wanted: set[str]) -> list[Node]:
    """The nodes that the wanted values depend on: a prompt needs no output layer."""
    wanted = set(wanted)
    kept: list[Node] = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _filter_constants() -> dict[str, Tensor]:
    constants: dict[str, npt.NDArray[np.generic]] = {
        "f_zero": np.array([0], np.int64),
        "f_one": np.array([1], np.int64),
        "f_axis": np.array(1, np.int64),
        "f_inf": np.array(np.inf, np.float32),
        "f_minus_inf": np.array(-np.inf, np.float32),
    }
    return {name: Tensor.of(name, array) for name, array in constants.items()}


def _filter_nodes(opset: int) -> list[Node]:
    """`contract.sampling.threshold` and the masking after it, operator by operator."""
    make = Node.make
    least = make("ReduceMin", ["f_survivors", "f_one"], ["f_threshold"], keepdims=1)
    if opset < 18:  # there ReduceMin takes no axes
        least = make("TopK", ["f_survivors", "f_one"], ["f_threshold", "f_place"], axis=1, largest=0)
    return [
        make("TopK", ["logits", "top_k"], ["f_ordered", "f_order"], axis=1, largest=1, sorted=1),
        make("Slice", ["f_ordered", "f_zero", "f_one", "f_one"], ["f_best"]),
        make("Sub", ["f_ordered", "f_best"], ["f_below"]),
        make("Mul", ["f_below", "tau"], ["f_scaled"]),
        make("Exp", ["f_scaled"], ["f_weights"]),
        make("ReduceSum", ["f_weights", "f_one"], ["f_total"], keepdims=1),
        make("Div", ["f_weights", "f_total"], ["f_probabilities"]),
        make("CumSum", ["f_probabilities", "f_axis"], ["f_before"], exclusive=1),
        make("Less", ["f_before", "top_p"], ["f_in_top_p"]),
        make("GreaterOrEqual", ["f_weights", "min_p"], ["f_in_min_p"]),
        make("And", ["f_in_top_p", "f_in_min_p"], ["f_in"]),
        make("Where", ["f_in", "f_ordered", "f_inf"], ["f_survivors"]),
        least,
        make("GreaterOrEqual", ["logits", "f_threshold"], ["f_keep"]),
        make("Where", ["f_keep", "logits", "f_minus_inf"], ["kept_logits"]),
    ]
