"""Recognise a state_dict's tensors by the ends of their names and by their shapes, whatever stands before."""

from __future__ import annotations

import re
from collections.abc import Mapping as Map

from ..contract.cells import FORMS
from ..contract.errors import P2Error
from ..contract.schema import shown
from .found import extra, size
from .mapping import LayerMapping, Mapping
from .weights import Tensors

_RECURRENT = re.compile(
    r"(?P<module>.*?)(?P<kind>weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)"
    r"(?:_l(?P<layer>\d{1,3})(?P<back>_reverse)?)?"
)
_EMBEDDING = re.compile(r"emb|encoder|wte|lookup|char_vec", re.IGNORECASE)
_REASONS = {
    "attention": re.compile(r"attn|attention|in_proj", re.IGNORECASE),
    "a normalisation": re.compile(r"norm|(^|\.)ln|(^|\.)bn|running_(mean|var)", re.IGNORECASE),
    "a convolution": re.compile(r"conv", re.IGNORECASE),
}

Shapes = Map[str, tuple[int, ...]]


def recognise(tensors: Tensors, where: str) -> Mapping:
    """The mapping of a model made of torch.nn's modules, by name.

    Args:
        tensors: of the state_dict, in its order.
        where: the source, for sentences.

    Raises:
        P2Error: there is no recurrent layer, a tensor has no place, or there is more than one way to read it.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    cell, layers = _recurrent(shapes, where)
    used = {name for layer in layers for name in vars(layer).values() if name in shapes}
    rest = {name: shape for name, shape in shapes.items() if name not in used}
    hidden = shapes[str(layers[-1].recurrent)][1]
    embedding, output = _ends(rest, str(layers[0].input), shapes, hidden, where)
    bias = _bias_of(output, rest)
    for name, shape in rest.items():
        if name not in (embedding, output, bias):
            raise extra(where, name, shape, _reason(name))
    return Mapping(cell, layers, output, bias, embedding)


def _recurrent(shapes: Shapes, where: str) -> tuple[str, list[LayerMapping]]:
    """Cell, and layers from the input up."""
    found: dict[str, dict[int, dict[str, str]]] = {}
    for name, shape in shapes.items():
        match = _RECURRENT.fullmatch(name)
        if match is None:
            continue
        if match["back"]:
            raise extra(where, name, shape, "of a bidirectional layer")
        if match["kind"] == "weight_hr":
            raise extra(where, name, shape, "a projection")
        found.setdefault(match["module"], {}).setdefault(int(match["layer"] or 0), {})[match["kind"]] = name
    if not found:
        raise P2Error(
            f"{where} holds no recurrent layer by torch.nn's names (weight_ih_l0, ...): if its matrices have"
            " names of their own, --print-mapping writes the first draft of a --mapping"
        )
    layers, cells = [], set()
    for module in sorted(found, key=_by_number):
        for expected, number in enumerate(sorted(found[module])):
            names = found[module][number]
            for kind in ("weight_ih", "weight_hh"):
                if number != expected or kind not in names or len(shapes[names[kind]]) != 2:
                    raise P2Error(f"{where} has no matrix {shown(f'{module}{kind}_l{expected}')}")
            rows, hidden = shapes[names["weight_hh"]]
            forms = [form.key for form in FORMS if form.is_fused and len(form.gates) * hidden == rows]
            if not forms:
                raise P2Error(
                    f"{where}: {shown(names['weight_hh'])} is {size((rows, hidden))}, of no cell that p2 has"
                )
            cells.update(forms)
            layers.append(LayerMapping(*(names.get(k) for k in _KINDS)))  # type: ignore[arg-type]
    if len(cells) > 1:
        raise P2Error(
            f"{where} has layers of several cells ({', '.join(sorted(cells))}): p2's models have one"
        )
    return cells.pop(), layers


_KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def _by_number(name: str) -> list[tuple[int, str]]:
    """A key that sorts ``rnn.10`` after ``rnn.9``."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,9})", name)]


def _ends(rest: Shapes, first: str, shapes: Shapes, hidden: int, where: str) -> tuple[str | None, str]:
    """Names of the embedding, None for one-hot, and of the output layer's matrix; `first` takes the input."""
    width = shapes[first][1]
    matrices = {name: shape for name, shape in rest.items() if len(shape) == 2}
    outputs = [name for name, shape in matrices.items() if shape[1] == hidden]
    if not outputs:
        raise P2Error(f"{where} has no output layer: no matrix with the {hidden} columns of the last state")
    inputs = [name for name, shape in matrices.items() if shape[1] == width]
    pairs = [(a, b) for a in inputs for b in outputs if a != b and matrices[a][0] == matrices[b][0]]
    # Where either could be either: an output layer has a bias, an embedding a telling name, and comes first.
    names = [*matrices]
    pairs.sort(
        key=lambda pair: (
            _bias_of(pair[0], rest) is not None,
            not _EMBEDDING.search(pair[0]),
            bool(_EMBEDDING.search(pair[1])),
            names.index(pair[0]),
            names.index(pair[1]),
        )
    )
    if pairs:
        return pairs[0]
    output = max(outputs, key=lambda name: (_bias_of(name, rest) is not None, names.index(name)))
    vocab = matrices[output][0]
    is_tied, is_one_hot = width == hidden, width == vocab
    if is_tied and is_one_hot:
        is_tied = _EMBEDDING.search(output) is not None
        is_one_hot = not is_tied
    if not is_tied and not is_one_hot:
        raise P2Error(
            f"{where} has no embedding: its first recurrent layer takes {width} numbers ({shown(first)},"
            f" {size(shapes[first])}), and its output layer tells {vocab} characters apart"
        )
    return (output if is_tied else None), output


def _bias_of(matrix: str, rest: Shapes) -> str | None:
    """The vector beside a matrix, or the only one of its length that is beside none."""
    length = rest[matrix][0]
    vectors = [name for name, shape in rest.items() if shape == (length,)]
    stem = re.sub(r"weight$", "", matrix)
    beside = f"{stem}bias" if stem != matrix else ""
    if beside in vectors:
        return beside
    free = [name for name in vectors if re.sub(r"bias$", "weight", name) not in rest]
    tied = _EMBEDDING.search(matrix) is not None
    return free[0] if len(free) == 1 and (tied or "." not in free[0]) else None


def _reason(name: str) -> str:
    return next((what for what, pattern in _REASONS.items() if pattern.search(name)), "")
