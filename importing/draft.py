"""The first draft of a mapping file, for a person to look through."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping as Map
from pathlib import Path
from typing import Any

from ..contract.cells import FORMS, Cell
from ..contract.errors import P2Error
from .mapping import Part
from .recognise import recognise
from .source import STATE_DICTS, kind_of_source
from .weights import read_weights

UNKNOWN = "?"

# How people write a gate's matrices: for the input, for the state, and its bias. A name may end in these.
_STYLES = (
    (r"W_?(?P<gate>\w)_?x", r"W_?(?P<gate>\w)_?h", r"b(?:ias)?_?(?P<gate>\w)"),
    (r"W_?x_?(?P<gate>\w)", r"W_?h_?(?P<gate>\w)", r"b(?:ias)?_?(?P<gate>\w)"),
    (r"W_?(?P<gate>\w)", r"U_?(?P<gate>\w)", r"b(?:ias)?_?(?P<gate>\w)"),
    (r"W_?i(?P<gate>\w)", r"W_?h(?P<gate>\w)", r"b(?:ias)?_?(?P<gate>\w)"),
)
# Other letters for a gate, by p2's.
_LETTERS = {"g": "gcu", "n": "nhgc", "z": "zu", "h": "ha", "i": "i", "f": "f", "o": "o", "r": "r"}
_OUTPUT = re.compile(r"(.*[._])?(W_?(h?[pqy]|ph|yh|out)|V)$|.*out.*(weight|W)$", re.IGNORECASE)
_EMBEDDING = re.compile(r".*(emb|lookup|wte).*", re.IGNORECASE)


def draft(source: Path) -> dict[str, Any]:
    """A mapping as it stands in a mapping file; ``?`` where nothing was recognised.

    Args:
        source: a PyTorch state_dict.

    Raises:
        P2Error: it cannot be read, or is of another kind, which needs no mapping.
    """
    kind = kind_of_source(source)
    if kind not in STATE_DICTS:
        raise P2Error(f"{source} is {kind}: a mapping is for a PyTorch state_dict")
    tensors, _ = read_weights(source, kind)
    try:
        return recognise(tensors, str(source)).to_dict()
    except P2Error:
        return _by_letters({name: tuple(tensor.shape) for name, tensor in tensors.items()})


Shapes = Map[str, tuple[int, ...]]
Parts = dict[str, dict[str, str]]


def _by_letters(shapes: Shapes) -> dict[str, Any]:
    most, form = 0, next(form for form in FORMS if "c" in form.states)
    found: dict[str, Parts] = {}
    for style in _STYLES:
        grouped = _grouped(shapes, style)
        for one in reversed(FORMS):  # of two with one set of gates the one that people write by hand
            named = {prefix: _in_letters(one, parts) for prefix, parts in grouped.items()}
            full = {prefix: parts for prefix, parts in named.items() if parts}
            score = sum(len(part) for parts in full.values() for part in parts.values())
            if score > most:
                most, form, found = score, one, full
    used = {name for parts in found.values() for part in parts.values() for name in part.values()}
    rest = {name: shape for name, shape in shapes.items() if name not in used}
    output = next((name for name in rest if _OUTPUT.match(name) and len(rest[name]) == 2), UNKNOWN)
    embedding = next((name for name in rest if _EMBEDDING.match(name) and name != output), None)
    bias = next((name for name, shape in rest.items() if max(shape, default=0) == math.prod(shape) > 1), None)
    layers = [_layer(form, found[prefix], shapes) for prefix in sorted(found)]
    vocab = max(shapes.get(bias or "", (0,)))
    if output in rest and vocab and rest[output][0] != vocab:
        output += ".T"
    unknown = dict.fromkeys(form.gates, UNKNOWN)
    return {
        "cell": form.key,
        "layers": layers or [{"input": unknown, "recurrent": unknown, "input_bias": unknown}],
        "output": output,
        "output_bias": bias,
        "embedding": embedding,
        **({} if form.reset == "after" else {"reset": form.reset}),
    }


def _grouped(shapes: Shapes, style: tuple[str, ...]) -> dict[str, Parts]:
    """Names by what stands before or after them, kind and letter."""
    found: dict[str, Parts] = {}
    for name in shapes:
        for kind, pattern in zip(("input", "recurrent", "input_bias"), style, strict=True):
            match = re.fullmatch(rf"(?P<before>(?:.*[._])?){pattern}(?P<after>[._]?\d*)", name)
            if match:
                place = f"{match['before']}{match['after']}"
                found.setdefault(place, {}).setdefault(kind, {})[match["gate"].lower()] = name
    return found


def _in_letters(form: Cell, parts: Parts) -> Parts:
    """The parts under p2's letters, or nothing where matrices of a gate are missing."""
    named: Parts = {}
    for kind, part in parts.items():
        letters = {gate: next((c for c in _LETTERS[gate] if c in part), "") for gate in form.gates}
        if all(letters.values()) and len(set(letters.values())) == len(letters):
            named[kind] = {gate: part[letter] for gate, letter in letters.items()}
    return named if {"input", "recurrent"} <= set(named) else {}


def _layer(form: Cell, parts: Parts, shapes: Shapes) -> dict[str, Part]:
    """A layer, its matrices turned round where their shapes say ``[inputs, outputs]``."""
    first = shapes[parts["input"][form.gates[0]]]
    hidden = shapes[parts["recurrent"][form.gates[0]]][0]
    turned = len(first) == 2 and first[0] != hidden and first[1] == hidden
    return {
        kind: {gate: f"{name}.T" if turned and kind != "input_bias" else name for gate, name in part.items()}
        for kind, part in parts.items()
    }
