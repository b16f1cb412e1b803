"""Which tensor of a state_dict is what: as a JSON file, or as `recognise` finds it, and what comes of it.

A name stands for a tensor as it is, ``[outputs, inputs]``. ``NAME.T`` is the same the other way round,
``-NAME`` with the sign turned: a gate z that its author calls 1 - z has the opposite weights.
"""

from __future__ import annotations

from collections.abc import Mapping as Map
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch

from ..contract.cells import FORMS, Cell, order
from ..contract.documents import check, read_document
from ..contract.errors import P2Error
from ..contract.schema import Within, shown
from . import equations
from .equations import Gate
from .found import Found, Layer, Row, check_finite, check_sizes, extra, size
from .rebuilt import Stack
from .weights import Tensors

Part = str | dict[str, str]
Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class LayerMapping:
    """A recurrent layer: a tensor of all gates, or one for each by its letter.

    Attributes:
        input: matrix of the input.
        recurrent: matrix of the state.
        input_bias: None is zero.
        recurrent_bias: None is zero. A GRU that resets after the product scales it, the others add both.
        gates: letters in the order in which a tensor of all has them; PyTorch's if not given.
    """

    input: Part
    recurrent: Part
    input_bias: Part | None = None
    recurrent_bias: Part | None = None
    gates: str = ""


@dataclass(frozen=True)
class Mapping:
    """What a mapping file says.

    Attributes:
        cell: rnn, lstm or gru.
        layers: from the input up.
        output: the output layer's matrix.
        output_bias: None is zero.
        embedding: a row a character; None where the first layer takes one of V directly.
        reset: where a reset gate acts, ``after`` or ``before`` the product.
    """

    cell: str
    layers: Annotated[list[LayerMapping], Within(1)]
    output: str
    output_bias: str | None = None
    embedding: str | None = None
    reset: str = "after"

    @property
    def form(self) -> Cell | None:
        """The cell, or None if there is none of this name."""
        return next((form for form in FORMS if (form.key, form.reset) == (self.cell, self.reset)), None)

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, without what is as it would be anyway."""
        values = asdict(self)
        values["layers"] = [{k: v for k, v in layer.items() if v} for layer in values["layers"]]
        if self.reset == "after":
            del values["reset"]
        return values


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file.

    Raises:
        P2Error: it cannot be read, or is none.
    """
    found = check(read_document(path), Mapping, str(path))
    mapping = Mapping(**{**found, "layers": [LayerMapping(**layer) for layer in found["layers"]]})
    if mapping.form is None:
        names = sorted({form.key for form in FORMS})
        raise P2Error(
            f"{path}: there is no cell {shown(mapping.cell)} with the reset {shown(mapping.reset)}:"
            f" choose from {', '.join(names)}, and after or before"
        )
    return mapping


def apply(mapping: Mapping, tensors: Tensors, where: str) -> Found:
    """The model that a mapping makes of tensors, each of which must have its place.

    Args:
        mapping: of a known cell.
        tensors: of floats, by name.
        where: the source, for sentences.

    Raises:
        P2Error: a tensor is missing, left over, of a shape that does not fit, or not finite.
    """
    taken = _Taken(tensors, where)
    form = mapping.form
    assert form is not None
    embedding = None if mapping.embedding is None else taken.matrix(mapping.embedding, "embedding")
    gates = [_gates(form, layer, number, taken) for number, layer in enumerate(mapping.layers)]
    w_out = taken.matrix(mapping.output, "output layer")
    b_out = np.zeros(len(w_out), w_out.dtype)
    if mapping.output_bias is not None:
        b_out = taken.vector(mapping.output_bias, "output bias")
    taken.check_all()
    layers = tuple(_stacked(form, one) for one in gates)
    source = Stack(form, embedding, [[getattr(g, k) for k in _PARTS] for g in layers], w_out, b_out)
    is_plain = form.is_fused and all(
        isinstance(layer.input, str) and layer.gates in ("", form.torch_gates) for layer in mapping.layers
    )
    wide = None if embedding is None else embedding.astype(np.float64)

    def by_gates(tokens: npt.NDArray[np.int64]) -> Array:
        return equations.run(form, gates, wide, w_out.astype(np.float64), b_out.astype(np.float64), tokens)

    notes = ["a state_dict does not say which function its nn.RNN has: tanh is assumed"]
    found = Found(
        form,
        None if embedding is None else _short(embedding),
        tuple(Layer(*(_short(getattr(layer, part)) for part in _PARTS)) for layer in layers),
        _short(w_out),
        _short(b_out),
        tuple(taken.rows),
        "torch.nn" if is_plain else "its equations in numpy",
        source if is_plain else by_gates,
        tuple(notes if is_plain and len(form.gates) == 1 else []),
    )
    check_sizes(found, where)
    return found


_PARTS = ("w_ih", "w_hh", "b_ih", "b_hh")


def _short(array: Array) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(array, np.float32)


class _Taken:
    """Tensors by name, and which of them have found their place."""

    def __init__(self, tensors: Tensors, where: str) -> None:
        self._tensors, self._where = tensors, where
        self._used: set[str] = set()
        self.rows: list[Row] = []

    def matrix(self, name: str, role: str) -> Array:
        """Two dimensions."""
        return self._get(name, role, 2)

    def vector(self, name: str, role: str) -> Array:
        """One."""
        return self._get(name, role, 1)

    def _get(self, name: str, role: str, dimensions: int) -> Array:
        bare = name if name in self._tensors else name.removeprefix("-")
        plain = bare if bare in self._tensors else bare.removesuffix(".T")
        if plain not in self._tensors:
            raise P2Error(f"{self._where} holds no tensor {shown(plain)}, which is to be the {role}")
        tensor = self._tensors[plain].detach()
        if tensor.dim() == 2 and dimensions == 1 and 1 in tensor.shape:
            tensor = tensor.reshape(-1)  # a bias written as a row or a column
        if tensor.dim() != dimensions or not tensor.numel():
            kind = "matrix" if dimensions == 2 else "vector"
            raise P2Error(f"{self._where}: {shown(plain)} is {size(tensor.shape)}, no {kind} for the {role}")
        array: Array = tensor.to(torch.float64 if tensor.dtype == torch.float64 else torch.float32).numpy()
        with np.errstate(over="ignore"):
            check_finite({plain: array.astype(np.float32)}, self._where)
        turned = [word for word, yes in (("transposed", plain != bare), ("negated", bare != name)) if yes]
        self._used.add(plain)
        self.rows.append(Row(plain, tuple(self._tensors[plain].shape), ", ".join([role, *turned])))
        array = array.T if plain != bare else array
        return -array if bare != name else array

    def check_all(self) -> None:
        """Every tensor has its place."""
        for name, tensor in self._tensors.items():
            if name not in self._used:
                raise extra(self._where, name, tensor.shape)


def _gates(form: Cell, layer: LayerMapping, number: int, taken: _Taken) -> dict[str, Gate]:
    letters = layer.gates or form.torch_gates
    if sorted(letters) != sorted(form.gates):
        raise P2Error(f"layer {number}: the gates of this cell are {form.torch_gates}, not {shown(letters)}")
    w_x = _parts(letters, layer.input, f"layer {number}, input", taken.matrix)
    w_h = _parts(letters, layer.recurrent, f"layer {number}, recurrent", taken.matrix)
    zero = {letter: np.zeros(len(w_h[letter]), w_h[letter].dtype) for letter in letters}
    b_x, b_h = (
        zero if bias is None else _parts(letters, bias, f"layer {number}, {kind} bias", taken.vector)
        for kind, bias in (("input", layer.input_bias), ("recurrent", layer.recurrent_bias))
    )
    gates = {letter: Gate(w_x[letter], w_h[letter], b_x[letter], b_h[letter]) for letter in letters}
    hidden, inputs = len(w_h[letters[0]]), w_x[letters[0]].shape[1]
    for letter, gate in gates.items():
        for kind, array, shape in (
            ("input matrix", gate.w_x, (hidden, inputs)),
            ("recurrent matrix", gate.w_h, (hidden, hidden)),
            ("input bias", gate.b_x, (hidden,)),
            ("recurrent bias", gate.b_h, (hidden,)),
        ):
            if array.shape != shape:
                turned = ": NAME.T in the mapping turns a matrix round" if array.T.shape == shape else ""
                raise P2Error(
                    f"layer {number}, gate {letter}: the {kind} is {size(array.shape)}, not"
                    f" {size(shape)}{turned}"
                )
    return gates


def _parts(letters: str, part: Part, role: str, take: Any) -> dict[str, Array]:
    if isinstance(part, dict):
        if sorted(part) != sorted(letters):
            raise P2Error(f"{role}: a tensor for each of the gates {letters} belongs there, and no other")
        return {letter: take(part[letter], f"{role}, gate {letter}") for letter in letters}
    array = take(part, f"{role}, gates {letters}" if len(letters) > 1 else role)
    if len(array) % len(letters):
        raise P2Error(f"{role}: {len(array)} rows are not those of {len(letters)} gates")
    return dict(zip(letters, np.split(array, len(letters)), strict=True))


def _stacked(form: Cell, gates: Map[str, Gate]) -> Layer:
    """All gates in PyTorch's order, in the source's precision."""
    letters = [*gates]
    inverse = [letters[at] for at in order("".join(letters), form.torch_gates)]
    parts = ("w_x", "w_h", "b_x", "b_h")
    return Layer(*(np.concatenate([getattr(gates[k], part) for k in inverse]) for part in parts))
