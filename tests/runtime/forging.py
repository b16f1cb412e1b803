"""Step files that carry a right checksum and make no sense: good ones, changed by who understands them."""

from __future__ import annotations

import hashlib
import json
import operator
import random
from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto

SIZES = (
    0,
    1,
    -1,
    2,
    3,
    16,
    17,
    63,
    64,
    65,
    128,
    2**31 - 1,
    2**31,
    2**32,
    2**32 + 1,
    2**40,
    2**61,
    2**63 - 1,
    -(2**63),
)
TYPES = (1, 2, 3, 6, 7, 9, 10, 11, 16, 17, 21, 22, 23, 0, 99)
BITS = {1: 32, 2: 8, 3: 8, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 16: 16, 17: 8, 21: 4, 22: 4}
WORDS = (np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 0.0, -1.0)


def sign(model: onnx.ModelProto, nodes: bool) -> bytes:
    """The file's bytes with the checksum that `p2 export` would write; `nodes`: also that of the nodes."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if nodes and "p2.nodes_sha256" in metadata:
        digest = hashlib.sha256(b"".join(n.SerializeToString(deterministic=True) for n in model.graph.node))
        metadata["p2.nodes_sha256"] = json.dumps(digest.hexdigest())
    metadata.pop("p2.sha256", None)
    digest = hashlib.sha256(model.graph.SerializeToString(deterministic=True))
    digest.update(json.dumps(metadata, sort_keys=True).encode())
    onnx.helper.set_model_props(model, metadata | {"p2.sha256": json.dumps(digest.hexdigest())})
    return model.SerializeToString()


def forged(good: bytes, rnd: random.Random) -> bytes:
    """A good step file with one to three changes, signed again."""
    model = onnx.load_model_from_string(good)
    for _ in range(rnd.choice((1, 1, 1, 2, 3))):
        rnd.choice(CHANGES)(model, rnd)
    return sign(model, nodes=rnd.random() < 0.8)


def _tensor(model: onnx.ModelProto, rnd: random.Random) -> TensorProto:
    return rnd.choice(model.graph.initializer) if model.graph.initializer else TensorProto()


def _fill(tensor: TensorProto, rnd: random.Random, most: int = 1 << 16) -> None:
    """Give a tensor as many bytes as its shape says, if they are few."""
    count = 1
    for size in tensor.dims:
        count *= size
    wanted = -(-count * BITS.get(tensor.data_type, 8) // 8)
    if 0 <= wanted <= most:
        raw = tensor.raw_data or b"\1"
        tensor.raw_data = (raw * (wanted // len(raw) + 1))[:wanted]


def one_dimension(model: onnx.ModelProto, rnd: random.Random) -> None:
    tensor = _tensor(model, rnd)
    if tensor.dims:
        at = rnd.randrange(len(tensor.dims))
        old = tensor.dims[at]
        tensor.dims[at] = max(
            -(2**63), min(2**63 - 1, rnd.choice((*SIZES, old + 1, old - 1, 2 * old, old // 2)))
        )
        if rnd.random() < 0.7:
            _fill(tensor, rnd)


def another_shape(model: onnx.ModelProto, rnd: random.Random) -> None:
    tensor = _tensor(model, rnd)
    old = list(tensor.dims)
    count = int(np.prod(old)) if old else 1
    new = rnd.choice(
        (old[::-1], [count], [1, *old], [*old, 1], [], [1] * 9 + old, [0, 2**40], [2**32, 2**32, *old])
    )
    del tensor.dims[:]
    tensor.dims.extend(new)


def another_type(model: onnx.ModelProto, rnd: random.Random) -> None:
    tensor = _tensor(model, rnd)
    tensor.data_type = rnd.choice(TYPES)
    if rnd.random() < 0.7:
        _fill(tensor, rnd)


def other_bytes(model: onnx.ModelProto, rnd: random.Random) -> None:
    tensor = _tensor(model, rnd)
    raw = bytearray(tensor.raw_data)
    how = rnd.randrange(4)
    if how == 0:
        raw = raw[: rnd.randrange(len(raw) + 1)]
    elif how == 1:
        raw += bytes(rnd.randrange(1, 5))
    elif how == 2:
        raw = bytearray(rnd.randbytes(len(raw)))
    elif tensor.data_type == TensorProto.FLOAT and len(raw) >= 4:
        at = 4 * rnd.randrange(len(raw) // 4)
        raw[at : at + 4] = np.float32(rnd.choice(WORDS)).tobytes()
    tensor.raw_data = bytes(raw)


def another_name(model: onnx.ModelProto, rnd: random.Random) -> None:
    names = [t.name for t in model.graph.initializer]
    tensor = _tensor(model, rnd)
    tensor.name = rnd.choice((*names, "", "w_00", "w_00_q", "table", "token", "x" * 9000, "\n"))


def no_tensor(model: onnx.ModelProto, rnd: random.Random) -> None:
    if model.graph.initializer:
        del model.graph.initializer[rnd.randrange(len(model.graph.initializer))]


def one_more_tensor(model: onnx.ModelProto, rnd: random.Random) -> None:
    copy = model.graph.initializer.add()
    copy.CopyFrom(_tensor(model, rnd))
    copy.name = rnd.choice((copy.name, copy.name.removesuffix("_q"), f"{copy.name}_q", f"{copy.name}_scale"))
    one_dimension(model, rnd)


def another_value(model: onnx.ModelProto, rnd: random.Random) -> None:
    value = rnd.choice([*model.graph.input, *model.graph.output])
    dims = value.type.tensor_type.shape.dim
    how = rnd.randrange(4)
    if how == 0 and dims:
        rnd.choice(dims).dim_value = rnd.choice(SIZES)
    elif how == 1:
        value.type.tensor_type.elem_type = rnd.choice(TYPES)
    elif how == 2:
        value.name = rnd.choice([v.name for v in model.graph.input])
    else:
        model.graph.input.add().CopyFrom(value)


def another_card(model: onnx.ModelProto, rnd: random.Random) -> None:
    """Claim other sizes, of the values too, so that only the weights tell."""
    try:
        metadata = {entry.key: entry.value for entry in model.metadata_props if entry.key != "p2.sha256"}
        card = {key.removeprefix("p2."): json.loads(value) for key, value in metadata.items()}
        operator.index(card["hidden"] + len(card["vocabulary"]))
    except (ValueError, TypeError, RecursionError, KeyError):  # it is forged already
        return
    field = rnd.choice(("hidden", "layers", "vocabulary", "cell", "gru_reset", "precision", "embedding"))
    card[field] = {
        "hidden": rnd.choice((1, 2, 15, 16, 17, 64, 128, 4096, 65536, -1, 0, 2**32)),
        "layers": rnd.choice((1, 2, 3, 64, 65, 99, 100, 0)),
        "vocabulary": "".join(map(chr, range(32, 32 + rnd.choice((0, 1, 5, 31, 64, 65, 3000))))),
        "cell": rnd.choice(("rnn", "lstm", "gru", "x", 3)),
        "gru_reset": rnd.choice(("before", "after")),
        "precision": rnd.choice(("float32", "float16", "bfloat16", "float8", "int8", "int4")),
        "embedding": rnd.choice((1, 65536, 0, -1)),
    }[field]
    entries = {f"p2.{name}": json.dumps(value) for name, value in card.items()}
    onnx.helper.set_model_props(model, entries)
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.name != "token" and len(dims) == 2 and -1 <= card["hidden"] < 2**40:
            dims[1].dim_value = len(card["vocabulary"]) if value.name == "logits" else int(card["hidden"])
    if field == "layers" and isinstance(card["layers"], int) and 0 < card["layers"] < 100:
        _states(model.graph, card)


def _states(graph: onnx.GraphProto, card: dict) -> None:
    for values in (graph.input, graph.output):
        kinds = sorted({v.name[0] for v in values if v.name[1:2] == "_"}, reverse=True)
        likes = {kind: next(v for v in values if v.name.startswith(f"{kind}_")) for kind in kinds}
        side = "in" if values is graph.input else "out"
        copies = []
        for kind in sorted(kinds, key="hc".find):
            for number in range(card["layers"]):
                copy = onnx.ValueInfoProto()
                copy.CopyFrom(likes[kind])
                copy.name = f"{kind}_{number:02d}_{side}"
                copies.append(copy)
        kept = [v for v in values if v.name in ("token", "logits")]
        copies = [*map(_copy, kept), *copies]
        del values[:]
        values.extend(copies)


def _copy(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    made = onnx.ValueInfoProto()
    made.CopyFrom(value)
    return made


def other_metadata(model: onnx.ModelProto, rnd: random.Random) -> None:
    entry = rnd.choice(model.metadata_props)
    entry.value = rnd.choice(
        ("", "null", "[]", "1e999", "9" * 5000, "[" * 3000, "NaN", '"\\ud800"', "true", "-1")
    )


def other_nodes(model: onnx.ModelProto, rnd: random.Random) -> None:
    nodes = model.graph.node
    node = rnd.choice(nodes)
    how = rnd.randrange(6)
    if how == 0:
        nodes.remove(node)
    elif how == 1:
        node.op_type = rnd.choice(
            ("MatMul", "Gather", "Split", "Add", "Tanh", "NoSuch", "DequantizeLinear", "Reshape")
        )
    elif how == 2 and node.input:
        node.input[rnd.randrange(len(node.input))] = rnd.choice(
            ("", "token", "x", *(t.name for t in model.graph.initializer))
        )
    elif how == 3 and node.attribute:
        attribute = rnd.choice(node.attribute)
        attribute.i = rnd.choice(SIZES)
    elif how == 4:
        del node.input[:]
    else:
        node.domain = "com.microsoft"


CHANGES: tuple[Callable[[onnx.ModelProto, random.Random], None], ...] = (
    one_dimension, one_dimension, another_shape, another_type, other_bytes, another_name, no_tensor,
    one_more_tensor, another_value, another_card, another_card, other_metadata, other_nodes,
)  # fmt: skip
