"""Wrap a step into loops that run inside ONNX Runtime: one call, many characters.

Two graphs are made from the same step, both around a Scan (which costs about 10 % less per
iteration than a Loop: it needs no condition, and takes its slice of the noise by itself):

- decode: feed a token, add the noise to the logits, take the argmax, feed that, ...; with the
  filters (top-k, top-p, min-p) compiled in only when they are used;
- feed: advance over known tokens, with or without the logits of every position.

Before that the step is fitted to the processor: `fit_to_cpu`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .onnx_format import FLOAT, FLOAT16, INT8, INT64, Graph, Node, Tensor, Value, encode_model
from .step_file import StepFile

# MatMulNBits: multiply integers, with the activations rounded to 8 bits per block.
INTEGER_ARITHMETIC = 4
COLUMN_BLOCK = 32  # MatMulNBits knows blocks only
BITS = {"int8": 8, "int4": 4}


@dataclass(frozen=True)
class Body:
    """A step ready to be wrapped.

    Attributes:
        nodes: the step's operators, reading ``token`` and ``<state>_in``.
        tensors: its constants.
        states: names of the states.
        hidden: width of each.
        vocab: vocabulary size.
        opset: ONNX operator set version.
    """

    nodes: list[Node]
    tensors: dict[str, Tensor]
    states: tuple[str, ...]
    hidden: int
    vocab: int
    opset: int


def fit_to_cpu(step: StepFile) -> Body:
    """The step as a CPU runs it best, numerically the same or closer to float32.

    float16 weights are widened once, now, instead of around every operator in every step (x86
    processors have no float16 arithmetic in ONNX Runtime; literally run, the step is 4 times
    slower). DequantizeLinear and MatMul become one product on integers.
    """
    tensors = dict(step.graph.tensors)
    nodes = [
        Node(n.op, list(n.inputs), list(n.outputs), n.domain, dict(n.attributes)) for n in step.graph.nodes
    ]
    if step.float_type == FLOAT16:
        _widen(nodes, tensors)
    nodes = _fuse_integer_products(nodes, tensors)
    card = step.card
    return Body(nodes, tensors, card.state_names, card.hidden, card.vocab, step.opset)


def _widen(nodes: list[Node], tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if tensor.type == FLOAT16:
            tensors[name] = Tensor.of(name, tensor.array().astype(np.float32))
    for node in nodes:
        if node.op == "Cast" and node.integer("to", FLOAT) == FLOAT16:
            node.attributes = Node.make("Cast", [], [], to=FLOAT).attributes


def _fuse_integer_products(nodes: list[Node], tensors: dict[str, Tensor]) -> list[Node]:
    """DequantizeLinear(q, scale) -> MatMul(x, .) becomes MatMulNBits(x, packed q, scale)."""
    scaled = {node.outputs[0]: node for node in nodes if node.op == "DequantizeLinear"}
    kept: list[Node] = []
    for node in nodes:
        if node.op == "DequantizeLinear":
            continue
        source = scaled.get(node.inputs[1]) if node.op == "MatMul" else None
        kept.append(node if source is None else _fuse(node, source, tensors))
    return kept


def _fuse(product: Node, source: Node, tensors: dict[str, Tensor]) -> Node:
    q, scales = tensors.pop(source.inputs[0]), tensors.pop(source.inputs[1])
    bits = 8 if q.type == INT8 else 4
    rows, columns = q.shape
    block = source.integer("block_size", 0)
    by_block = np.asarray(scales.array(), np.float32)
    if block == 0:  # a scale per output: every block repeats it
        block = COLUMN_BLOCK
        by_block = np.tile(by_block, (-(-rows // block), 1))
    tensors[q.name] = Tensor.of(q.name, pack_blocks(np.asarray(q.array(), np.int8), bits, block))
    tensors[scales.name] = Tensor.of(scales.name, np.ascontiguousarray(by_block.T).reshape(-1))
    names = [product.inputs[0], q.name, scales.name]
    return integer_product(names, product.outputs, rows, columns, bits, block)


def integer_product(
    inputs: list[str], outputs: list[str], rows: int, columns: int, bits: int, block: int
) -> Node:
    """A product on integers: `inputs` name x ``[..., rows]``, the packed weights and their scales."""
    return Node.make(
        "MatMulNBits",
        inputs,
        outputs,
        domain="com.microsoft",
        K=rows,
        N=columns,
        bits=bits,
        block_size=block,
        accuracy_level=INTEGER_ARITHMETIC,
    )


def pack_blocks(q: npt.NDArray[np.int8], bits: int, block: int) -> npt.NDArray[np.uint8]:
    """Signed integers ``[inputs, outputs]`` in the layout of MatMulNBits.

    That is uint8 ``[outputs, blocks, block * bits / 8]`` with 2**(bits-1) added, two 4-bit values to a
    byte, the first in the low half.
    """
    rows, columns = q.shape
    blocks = -(-rows // block)
    zero = 1 << (bits - 1)
    padded: npt.NDArray[np.uint8] = np.full((columns, blocks * block), zero, dtype=np.uint8)
    padded[:, :rows] = (q.T.astype(np.int16) + zero).astype(np.uint8)
    if bits == 4:
        padded = np.bitwise_or(padded[:, 0::2], padded[:, 1::2] << 4)
    return padded.reshape(columns, blocks, block * bits // 8)


def decode_graph(body: Body, filters: bool) -> bytes:
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
        nodes += _filter_nodes()
        logits = "kept_logits"
        settings = [
            Value("tau", FLOAT, ()),
            Value("top_k", INT64, (1,)),
            Value("top_p", FLOAT, ()),
            Value("min_p", FLOAT, ()),
        ]
    nodes += [
        Node.make("Add", [logits, "noise_now"], ["noisy_logits"]),
        Node.make("ArgMax", ["noisy_logits"], ["next"], axis=1, keepdims=0),
        Node.make("Identity", ["next"], ["written"]),
    ]
    states = _state_values(body, "_in")
    new_states = _state_values(body, "_out")
    token = Value("token", INT64, ("batch",))
    inner = Graph(
        nodes,
        {},
        [token, *states, Value("noise_now", FLOAT, ("batch", body.vocab))],
        [Value("next", INT64, ("batch",)), *new_states, Value("written", INT64, ("batch",))],
    )
    loop = Node.make(
        "Scan",
        ["first", *(f"{s}_start" for s in body.states), "noise"],
        ["last", *(f"{s}_end" for s in body.states), "tokens"],
        body=inner.encoded("decode_step"),
        num_scan_inputs=1,
    )
    outer = Graph(
        [loop],
        body.tensors | (_filter_constants() if filters else {}),
        [
            Value("first", INT64, ("batch",)),
            *_state_values(body, "_start"),
            Value("noise", FLOAT, ("count", "batch", body.vocab)),
            *settings,
        ],
        [*_state_values(body, "_end"), Value("tokens", INT64, ("count", "batch"))],
    )
    return encode_model(outer, body.opset)


def feed_graph(body: Body, logits: bool) -> bytes:
    """The loop over known tokens.

    Inputs: ``tokens`` int64 [length, batch]; ``<state>_start``. Outputs: ``<state>_end``, and with
    `logits` also ``all_logits`` float32 [length, batch, vocab].
    """
    outputs = _state_values(body, "_out")
    results = _state_values(body, "_end")
    if logits:
        outputs.append(Value("logits", FLOAT, ("batch", body.vocab)))
        results.append(Value("all_logits", FLOAT, ("length", "batch", body.vocab)))
    nodes = _needed(body.nodes, {value.name for value in outputs})
    inner = Graph(nodes, {}, [*_state_values(body, "_in"), Value("token", INT64, ("batch",))], outputs)
    loop = Node.make(
        "Scan",
        [*(f"{s}_start" for s in body.states), "tokens"],
        [value.name for value in results],
        body=inner.encoded("feed_step"),
        num_scan_inputs=1,
    )
    used = {name for node in nodes for name in node.inputs}
    outer = Graph(
        [loop],
        {name: tensor for name, tensor in body.tensors.items() if name in used},
        [Value("tokens", INT64, ("length", "batch")), *_state_values(body, "_start")],
        results,
    )
    return encode_model(outer, body.opset)


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


def _filter_nodes() -> list[Node]:
    """`spec.sampling.threshold` and the masking after it, operator by operator."""
    make = Node.make
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
        make("ReduceMin", ["f_survivors", "f_one"], ["f_threshold"], keepdims=1),
        make("GreaterOrEqual", ["logits", "f_threshold"], ["f_keep"]),
        make("Where", ["f_keep", "logits", "f_minus_inf"], ["kept_logits"]),
    ]
