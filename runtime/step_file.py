"""Open a step graph and hold it to the contract before anything runs.

Whatever is wrong is one sentence here, instead of a riddle from a library later on.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from ..contract.card import CHECKSUM, Card
from ..contract.errors import ContractError, P2Error
from ..contract.files import reading
from ..contract.finite import MOST_WEIGHT
from ..contract.schema import shown
from ..contract.stamp import CHANGED, DAMAGED, Probe, condition, read_probe
from . import step_weights
from .onnx_format import Graph, Model, Value
from .onnx_tensors import FLOAT, FLOAT16, INT64, TYPE_NAMES
from .protobuf import Damaged

OPSET = 21  # what `compose`, `prefill` and `cells` write


@dataclass(frozen=True)
class StepFile:
    """A step graph that keeps the contract.

    Attributes:
        path: where it was read from.
        card: the model it carries.
        graph: nodes and weights; the weights are views of the file's bytes, which were read into memory:
            nobody who overwrites the file meanwhile can change them, or end this process.
        opset: ONNX operator set version.
        float_type: element type of the states (`onnx_tensors.FLOAT` or `FLOAT16`).
        as_traced: whether the nodes are still the ones that p2 exported, and all weights of the contract are
            there under their names, in the forms that the card asks for (`step_weights`).
        probe: what the step said at its export, if a tool rewrote it since; None for p2's own file.
    """

    path: Path
    card: Card
    graph: Graph
    opset: int
    float_type: int
    as_traced: bool
    probe: Probe | None = None

    @property
    def loop_opset(self) -> int:
        """Operator set of the loops around the step: that of p2's own operators, or the file's."""
        return max(self.opset, OPSET) if self.as_traced else self.opset


def open_step(path: Path) -> StepFile:
    """Read and check a step graph.

    Raises:
        P2Error: it cannot be read.
        ContractError: it is damaged, carries no card, or breaks the step contract.
    """
    try:
        model = Model.parse(_read(path))
    except Damaged as error:
        raise ContractError(
            f"{path} is damaged or not an ONNX file ({error}): export the checkpoint again with `p2 export`"
        ) from error
    card = Card.from_metadata(model.metadata, str(path))
    changed = _is_changed(path, model)
    probe = read_probe(model.metadata, card.vocab, str(path)) if changed else None
    float_type = _check_values(path, card, model.graph)
    as_traced = not changed and model.metadata.get("p2.nodes_sha256") == f'"{model.graph.nodes_sha256}"'
    if as_traced:
        breach = step_weights.breach(card, model.graph)
        if breach:
            raise _broken(path, breach)
        as_traced = step_weights.complete(card, model.graph)
    if not as_traced and (unsafe := model.graph.unsafe()):
        raise _broken(path, unsafe)
    name = step_weights.not_finite(model.graph, as_traced)
    if name is not None:
        beyond = f", or a number beyond {MOST_WEIGHT:g}" if as_traced else ""
        raise _broken(path, f"the weights {name} hold NaN or an infinity{beyond}")
    if as_traced and step_weights.overflows(card, model.graph):
        raise _broken(path, f"the weights w_out are too large: logits in {card.precision} overflow")
    return StepFile(path, card, model.graph, model.opset, float_type, as_traced, probe)


def _read(path: Path) -> memoryview:
    """The bytes of a regular file; as many as it had when it was opened."""
    # Without waiting for somebody to write into a pipe of that name.
    with reading(path), open(path, "rb", buffering=0, opener=_at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise P2Error(f"cannot read {path}: it is not a regular file")
        data = bytearray(status.st_size)
        view, done = memoryview(data), 0
        while done < len(data) and (count := file.readinto(view[done:])):
            done += count
    return view[:done].toreadonly()


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def contract_values(card: Card, float_type: int) -> tuple[list[Value], list[Value]]:
    """The inputs and outputs that the step contract (version 1) asks for."""
    states = card.state_names
    shape = ("batch", card.hidden)
    inputs = [Value("token", INT64, ("batch",)), *(Value(f"{s}_in", float_type, shape) for s in states)]
    outputs = [Value("logits", FLOAT, ("batch", card.vocab))]
    outputs += [Value(f"{s}_out", float_type, shape) for s in states]
    return inputs, outputs


def _check_values(path: Path, card: Card, graph: Graph) -> int:
    initial = [value for value in graph.inputs if value.name not in graph.tensors]
    float_type = next((value.type for value in initial if value.name.endswith("_in")), FLOAT)
    wanted_inputs, wanted_outputs = contract_values(card, float_type)
    for kind, wanted, found in (
        ("input", wanted_inputs, initial),
        ("output", wanted_outputs, graph.outputs),
    ):
        by_name = {value.name: value for value in found}
        if len(by_name) < len(found):
            raise _broken(path, f"it has an {kind} twice")
        for value in wanted:
            if value.name not in by_name:
                raise _broken(path, f"the {kind} {value.name} is missing")
            _check_value(path, kind, value, by_name.pop(value.name))
        if by_name:
            raise _broken(path, f"there is an {kind} {shown(next(iter(by_name)))} that it does not know")
    if float_type not in (FLOAT, FLOAT16):
        raise _broken(path, f"the states have element type {float_type}, neither float32 nor float16")
    return float_type


def _check_value(path: Path, kind: str, wanted: Value, found: Value) -> None:
    if found.type != wanted.type:
        names = [TYPE_NAMES.get(value.type, f"type {value.type}") for value in (wanted, found)]
        raise _broken(path, f"the {kind} {wanted.name} must be {names[0]}, and is {names[1]}")
    open_batch = len(found.shape) > 0 and isinstance(found.shape[0], str)
    if not open_batch or found.shape[1:] != wanted.shape[1:]:
        sizes = [", ".join(shown(size).strip("'") for size in value.shape[:4]) for value in (wanted, found)]
        raise _broken(path, f"the {kind} {wanted.name} must be [{sizes[0]}], and is [{sizes[1]}]")


def _is_changed(path: Path, model: Model) -> bool:
    """Whether a tool rewrote the graph after its export, by the checksums that `p2 export` wrote."""
    if CHECKSUM not in model.metadata:
        raise _broken(path, "it carries no checksum")
    found = condition(model.metadata, model.graph_bytes, str(path))
    if found == DAMAGED:
        raise ContractError(
            f"{path} is damaged: it does not have the checksum that it carries; export the checkpoint again"
        )
    return found == CHANGED


def _broken(path: Path, what: str) -> ContractError:
    return ContractError(
        f"{path} breaks the step contract: {what}; export the checkpoint again with `p2 export`"
    )
