"""The model card: everything about a model that is not a weight.

It travels inside every artifact (``model.json`` beside the weights, ``metadata_props`` of the
ONNX file, the JSON sidecar of a plan), so a model can never be run with another's vocabulary.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from . import cells, precisions
from .cells import APART, JOINT, RESETS, STAGED, Cell
from .documents import parse
from .errors import ContractError, UsageError
from .precisions import Precision
from .schema import shown

CONTRACT_VERSION = 1

CELLS = tuple(cells.CELLS)
PRECISIONS = tuple(precisions.TABLE)
CPU_PRECISIONS = tuple(precision.key for precision in precisions.TABLE.values() if precision.on_cpu)
ALIASES = {alias: precision.key for precision in precisions.TABLE.values() for alias in precision.aliases}

CHECKSUM = "p2.sha256"  # key of the checksum over graph and card in an ONNX file's metadata

MAX_LAYERS = 99  # state names carry two digits
MAX_WIDTH = 1 << 16


def canonical_precision(name: str) -> str:
    """The canonical name of a precision (``fp16`` -> ``float16``).

    Raises:
        UsageError: there is no such precision.
    """
    precision = ALIASES.get(name, name)
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}: choose one of {', '.join(PRECISIONS)}")
    return precision


@dataclass(frozen=True)
class Card:
    """What a recurrent character model is.

    Attributes:
        cell: ``rnn`` (tanh), ``lstm`` or ``gru``.
        layers: recurrent layers stacked, 1 to 99.
        embedding: width of the character embedding.
        hidden: width of each layer's state.
        vocabulary: the distinct characters in ascending code-point order; a token is an index
            into it. Halves of surrogate pairs are no characters: two of them beside one another would
            come out of JSON as one.
        gru_reset: whether a GRU's reset gate acts ``after`` the recurrent product (PyTorch,
            cuDNN, ONNX ``linear_before_reset=1``) or ``before`` it (the original formulation).
            Always ``after`` for the other cells.
        precision: number format of the weights in this artifact.
        checkpoint_sha256: SHA-256 of the safetensors file this artifact was made from.
        corpus_sha256: SHA-256 of the training text (UTF-8).
        contract_version: version of the step contract.
        producer: the program that wrote the artifact.
    """

    cell: str
    layers: int
    embedding: int
    hidden: int
    vocabulary: str
    gru_reset: str = "after"
    precision: str = "float32"
    checkpoint_sha256: str = ""
    corpus_sha256: str = ""
    contract_version: int = CONTRACT_VERSION
    producer: str = ""

    def __post_init__(self) -> None:
        problem = _problem(self)
        if problem:
            raise UsageError(problem)

    @property
    def vocab(self) -> int:
        """Number of distinct characters, V."""
        return len(self.vocabulary)

    @property
    def gates(self) -> int:
        """Gate products per layer, G."""
        return len(self.form.gates)

    @property
    def form(self) -> Cell:
        """The cell, with its reset where this model has it."""
        return cells.form(self.cell, self.gru_reset)

    @property
    def format(self) -> Precision:
        """The number format of the weights."""
        return precisions.TABLE[self.precision]

    @property
    def state_names(self) -> tuple[str, ...]:
        """``h_00, h_01, ...`` then, for the LSTM, ``c_00, c_01, ...``: each is ``[batch, hidden]``."""
        return tuple(f"{kind}_{layer:02d}" for kind in self.form.states for layer in range(self.layers))

    def with_(self, **changes: Any) -> Card:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The card as plain JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Any, where: str) -> Card:
        """Read a card from JSON values.

        Args:
            data: what `to_dict` gave.
            where: the file it comes from, for the error message.

        Raises:
            ContractError: a field is missing or wrong, or the contract version is not ours.
        """
        if not isinstance(data, dict):
            raise ContractError(f"{where}: the model card is damaged (not a JSON object)")
        unknown = sorted(set(data) - {field.name for field in dataclasses.fields(cls)})
        if unknown:
            raise ContractError(f"{where}: the model card has the unknown field {shown(unknown[0])}")
        version = data.get("contract_version")
        if type(version) is not int or version != CONTRACT_VERSION:
            raise ContractError(
                f"{where}: made for step contract version {shown(version)}, this p2 speaks version"
                f" {CONTRACT_VERSION}: export the checkpoint again with this p2"
            )
        fields = {field.name: field for field in dataclasses.fields(cls)}
        missing = [
            name
            for name, field in fields.items()
            if name not in data and field.default is dataclasses.MISSING
        ]
        if missing:
            raise ContractError(f"{where}: the model card lacks {', '.join(missing)}")
        values = {name: data[name] for name in fields if name in data}
        for name, value in values.items():
            expected = int if fields[name].type == "int" else str
            if not isinstance(value, expected) or isinstance(value, bool):
                raise ContractError(
                    f"{where}: the model card's {name} is not {expected.__name__}: {shown(value)}"
                )
        try:
            return cls(**values)
        except UsageError as error:
            raise ContractError(f"{where}: the model card is damaged: {error}") from error

    def to_metadata(self) -> dict[str, str]:
        """The card as string pairs, for the ``metadata_props`` of an ONNX file.

        Numbers are written in decimal, strings as JSON literals in ASCII, so that any vocabulary
        (line breaks, characters beyond 16 bits) survives tools that expect plain text.
        """
        return {f"p2.{name}": json.dumps(value) for name, value in self.to_dict().items()}

    @classmethod
    def from_metadata(cls, metadata: dict[str, str], where: str) -> Card:
        """Read a card from the ``metadata_props`` of an ONNX file.

        Raises:
            ContractError: there is no card, or it is damaged.
        """
        fields = {name.removeprefix("p2."): text for name, text in metadata.items() if name.startswith("p2.")}
        if "contract_version" not in fields:
            raise ContractError(
                f"{where} carries no model card, so p2 did not make it: export a checkpoint with `p2 export`"
            )
        known = {field.name for field in dataclasses.fields(cls)} & set(fields)
        card = f"the model card in {where}"
        values = {name: parse(fields[name].encode("utf-8", "surrogatepass"), card) for name in sorted(known)}
        return cls.from_dict(values, where)


def _problem(card: Card) -> str:
    """What is wrong with a card, as a sentence, or the empty string."""
    if card.cell not in CELLS:
        return f"unknown cell {shown(card.cell)}: choose one of {', '.join(CELLS)}"
    for name in ("layers", "embedding", "hidden"):
        if getattr(card, name) < 1:
            return f"{name} must be at least 1, not {getattr(card, name)}"
    for name in ("embedding", "hidden"):
        if getattr(card, name) > MAX_WIDTH:
            return f"{name} must be at most {MAX_WIDTH}, not {getattr(card, name)}"
    if card.layers > MAX_LAYERS:
        return f"layers must be at most {MAX_LAYERS}, not {card.layers}"
    if card.gru_reset not in RESETS:
        return f"unknown gru_reset {shown(card.gru_reset)}: choose one of {', '.join(RESETS)}"
    if (card.cell, card.gru_reset) not in {(form.key, form.reset) for form in cells.FORMS}:
        return f"gru_reset {card.gru_reset!r} is for the gru, not for the {card.cell}"
    if card.precision not in PRECISIONS:
        return f"unknown precision {shown(card.precision)}: choose one of {', '.join(PRECISIONS)}"
    if not card.vocabulary:
        return "the vocabulary is empty"
    half = re.search("[\ud800-\udfff]", card.vocabulary)
    if half:
        return (
            f"the vocabulary holds U+{ord(half[0]):04X}, half of a surrogate pair, which is no character"
            " (no UTF-8 text has one)"
        )
    if any(a >= b for a, b in zip(card.vocabulary, card.vocabulary[1:], strict=False)):
        return "the vocabulary is not sorted, or holds a character twice"
    return ""


def formula_parameters(card: Card) -> int:
    """Trainable numbers by the textbook formula: one bias vector per gate.

    One LSTM layer with its output layer has 4*N_in*N_h + 4*N_h*N_h + N_h*N_out + 4*N_h + N_out,
    and the embedding V*E; deeper layers take the hidden width as their input; the other cells have
    G gates in place of 4.
    """
    total = card.vocab * card.embedding + card.hidden * card.vocab + card.vocab
    for layer in range(card.layers):
        inputs = card.embedding if layer == 0 else card.hidden
        total += card.gates * (inputs * card.hidden + card.hidden * card.hidden + card.hidden)
    return total


def stored_parameters(card: Card) -> int:
    """Trainable numbers as PyTorch stores them: two bias vectors per gate."""
    return formula_parameters(card) + card.layers * card.gates * card.hidden


def step_shapes(card: Card) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors that one folded step reads; matrices are ``[inputs, outputs]``.

    ``table`` ``[V, G*H]`` is the embedding folded into layer 0 with all its biases, ``w_LL`` the
    product of layer LL: of the state alone in layer 0, of ``[x, h]`` in deeper layers, where
    ``b_LL`` holds the biases. ``w_out``, ``b_out`` are the output layer. A GRU differs, because
    its candidate gate takes the input and the reset state apart:

    - reset after the product: ``w_LL`` is the product of the state for all gates, ``w_x_LL`` that
      of the input in deeper layers, ``b_hn_LL`` the bias inside the reset product;
    - reset before: ``w_LL`` and ``b_LL`` cover the gates r and z, ``w_n_LL`` and ``b_n_LL`` the
      candidate.

    Gates stand in the order i, f, o, g (LSTM) and r, z, n (GRU): those with a sigmoid first, so
    that one call covers them.
    """
    hidden, products = card.hidden, card.form.products
    wide, sigmoids = card.gates * hidden, card.form.sigmoids * hidden
    shapes: dict[str, tuple[int, ...]] = {"table": (card.vocab, wide)}
    for layer in range(card.layers):
        rows = hidden if layer == 0 else 2 * hidden
        if products == JOINT:
            shapes[f"w_{layer:02d}"] = (rows, wide)
        elif products == APART:
            shapes[f"w_{layer:02d}"] = (hidden, wide)
            shapes[f"b_hn_{layer:02d}"] = (hidden,)
            if layer:
                shapes[f"w_x_{layer:02d}"] = (hidden, wide)
        else:
            shapes[f"w_{layer:02d}"] = (rows, sigmoids)
            shapes[f"w_n_{layer:02d}"] = (rows, hidden)
        if layer and products == STAGED:
            shapes[f"b_{layer:02d}"] = (sigmoids,)
            shapes[f"b_n_{layer:02d}"] = (hidden,)
        elif layer:
            shapes[f"b_{layer:02d}"] = (wide,)
    shapes["w_out"] = (hidden, card.vocab)
    shapes["b_out"] = (card.vocab,)
    return shapes


def weight_bits(precision: str, matrix: str) -> int | None:
    """Bits of a weight that has a scale, in one matrix of a step; None in the plain float precisions.

    The output layer of an int4 artifact keeps 8: it is a few per cent of the weights, and the one place
    where a rounding error meets the prediction directly.
    """
    found = precisions.TABLE[precision]
    if not found.is_scaled:
        return None
    return max(found.bits, 8) if matrix == "w_out" else found.bits


def block_for(rows: int, bits: int) -> int:
    """Quantised weights that share a scale, in a matrix with this many rows.

    8 bits: a whole column, which lets a processor add integers up exactly and scale once. 4 bits:
    blocks of 128, or the largest power of two from 16 up that divides the rows: TensorRT works the block size
    out as rows / scales, so blocks have to divide the rows. Where none does, a column.
    """
    if bits == 8:
        return rows
    return next((block for block in (128, 64, 32, 16) if rows % block == 0), rows)


def bytes_per_step(card: Card) -> int:
    """Bytes of weights that one step at batch 1 must read (one row of the folded table).

    Quantised matrices count their weights and one float32 scale per block (`block_for`); the
    table, the biases and everything of a float artifact count at the float width. A bfloat16 step
    keeps its biases in float32.
    """
    width = 4 if card.format.is_scaled else card.format.bits // 8
    total = 0
    for name, shape in step_shapes(card).items():
        bits = weight_bits(card.precision, name) if name.startswith("w_") else None
        if name == "table":
            total += shape[1] * width
        elif bits:
            rows, columns = shape
            total += -(-rows * columns * bits // 8) + rows // block_for(rows, bits) * columns * 4
        else:
            total += math.prod(shape) * (4 if card.format.is_widened and len(shape) == 1 else width)
    return total
