"""An ONNX file: characters through Gather or OneHot, recurrent operators, a MatMul or Gemm, and nothing else.

The path is followed from the logits back to the characters. What only moves numbers (a Transpose, a Reshape)
is passed over; any other operator on the way is named and refused. What is beside the path, such as the
shape of an initial state, is left to the comparison.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..contract.cells import FORMS, Cell, order
from ..contract.codec import Tokens
from ..contract.errors import P2Error
from ..contract.files import reading
from ..contract.schema import shown
from ..runtime.onnx_format import Graph, Model, Node
from ..runtime.onnx_tensors import FLOAT, INT32, INT64, Tensor
from ..runtime.protobuf import Damaged, fields, message, text
from .found import MOST_BYTES, Floats, Found, Layer, Row, check_finite, check_sizes, size
from .onnx_judge import Judge

_MOVES = frozenset(("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Cast", "Dropout", "Flatten"))
_PICKS = _MOVES | {"Slice", "Gather"}  # the last step of all
_CELLS = frozenset(form.title for form in FORMS)
_DEFAULTS = {"tanh", "sigmoid"}
_WRITTEN_OUT = (
    f"; no recurrent operator ({', '.join(sorted(_CELLS))}) is in it: import the weights alone, a state_dict"
    " or a .keras file"
)

Array = npt.NDArray[np.generic]


def read_onnx(path: Path) -> Found:
    """The model in an ONNX file.

    Raises:
        P2Error: it is damaged, or holds what p2's models have not: the sentence names the node or tensor.
    """
    try:
        data = _whole(path)
        graph = Model.parse(data).graph
        if unsafe := graph.unsafe():
            raise Damaged(unsafe)
        return _Reader(graph, data, str(path)).found()
    except (Damaged, IndexError, ValueError, OverflowError, TypeError) as error:  # nodes of any form
        said = shown(str(error).partition("\n")[0])[1:-1]
        raise P2Error(f"{path} is damaged, or holds what p2 does not read: {said}") from error


def _whole(path: Path) -> bytes:
    """The file's bytes; weights that lie in files beside it, where PyTorch puts them, are put into it."""
    import onnx
    from onnx.external_data_helper import ExternalDataInfo, load_external_data_for_model, uses_external_data

    with reading(path):
        data = path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
    try:
        model = onnx.load_model_from_string(data)
        outside = [ExternalDataInfo(one) for one in model.graph.initializer if uses_external_data(one)]
        if not outside:
            return data
        if sum(info.length or MOST_BYTES for info in outside) > MOST_BYTES:
            raise Damaged("its weights in other files are of no size, or too large")
        load_external_data_for_model(model, str(path.parent))  # which follows no path out of the folder
        return bytes(model.SerializeToString())
    except Damaged:
        raise
    except Exception as error:  # whatever the bytes make the reader stumble over
        raise Damaged(shown(str(error).partition("\n")[0])[1:-1]) from error


class _Reader:
    """One graph, and what has been found in it so far."""

    def __init__(self, graph: Graph, data: bytes, where: str) -> None:
        self._graph, self._where = graph, where
        self._inputs = {value.name: value for value in graph.inputs if value.name not in graph.tensors}
        self._makers = {name: node for node in graph.nodes for name in node.outputs if name}
        self._judge = Judge(data, where)
        self._rows: list[Row] = []

    def found(self) -> Found:
        logits, weight, bias, last = self._output()
        cells = self._recurrent(last)
        forms = {self._form(node).name: self._form(node) for node in cells}
        if len(forms) != 1:
            raise P2Error(f"{self._where} has layers of several cells ({', '.join(sorted(forms))})")
        (form,) = forms.values()
        embedding, ids = self._input(cells[0])
        layers = tuple(self._layer(form, node, number) for number, node in enumerate(cells))
        w_out = weight()
        b_out = np.zeros(len(w_out), np.float32) if bias is None else bias()
        predict, window = self._judge.predict(logits, ids, self._inputs, len(w_out))
        rows, name = tuple(self._rows), self._judge.name
        notes = (f"{self._where} takes {window} characters at a time: the comparison began anew as often",)
        found = Found(
            form, embedding, layers, w_out, b_out, rows, name, predict, notes if window < 256 else (), window
        )
        check_sizes(found, self._where)
        return found

    def _output(self) -> tuple[str, Callable[[], Floats], Callable[[], Floats] | None, Node]:
        """The logits' name, matrix ``[V, hidden]``, bias, and the recurrent operator before them."""
        problem = None
        for value in self._graph.outputs:
            try:
                return self._ending(value.name)
            except P2Error as error:
                problem = problem or error
        raise problem or P2Error(f"{self._where} has no output")

    def _ending(self, output: str) -> tuple[str, Callable[[], Floats], Callable[[], Floats] | None, Node]:
        name = self._back(output, _MOVES)
        node = self._maker(name)
        if node.op in ("Softmax", "LogSoftmax"):
            name = self._back(node.inputs[0], _MOVES)
            node = self._maker(name)
        logits, bias = name, None
        if node.op == "Add":
            constant = [one for one in node.inputs if self._is_constant(one)]
            others = [one for one in node.inputs if one not in constant]
            if len(constant) != 1 or len(others) != 1:
                raise self._refused(node)
            bias = self._vector(constant[0], "output bias")
            name = self._back(others[0], _MOVES)
            node = self._maker(name)
        turned = node.op == "MatMul"
        if node.op == "Gemm":
            plain = all(self._number(node, key, 1.0) == 1 for key in ("alpha", "beta"))
            if not plain or node.integer("transA", 0):
                raise self._refused(node)
            turned = not node.integer("transB", 0)
            if len(node.inputs) > 2 and node.inputs[2]:
                bias = self._vector(node.inputs[2], "output bias")
        elif node.op != "MatMul":
            raise self._refused(node)
        if len(node.inputs) < 2 or not self._is_constant(node.inputs[1]):
            raise self._refused(node)
        matrix = node.inputs[1]

        def weight() -> Floats:
            array = self._taken(matrix, "output layer" + (", transposed" if turned else ""), 2)
            return np.ascontiguousarray(array.T) if turned else array

        last = self._maker(self._back(node.inputs[0], _PICKS))
        if last.op not in _CELLS:
            raise self._refused(last)
        return logits, weight, bias, last

    def _recurrent(self, last: Node) -> list[Node]:
        """The operators, from the input up."""
        found = [last]
        while True:
            name = self._back(found[0].inputs[0], _MOVES)
            before = self._makers.get(name)
            if before is None or before.op not in _CELLS:
                return found
            if name != before.outputs[0] or any(before is one for one in found):
                raise self._refused(before)
            found.insert(0, before)

    def _input(self, first: Node) -> tuple[Floats | None, str]:
        """The embedding, None where characters are one-hot, and the input that has the characters."""
        name = self._back(first.inputs[0], _MOVES)
        if name in self._inputs:
            raise P2Error(
                f"{self._where}: the input {shown(name)} goes into {first.op} as numbers, and p2's models"
                " take characters (a Gather or OneHot)"
            )
        node = self._maker(name)
        if node.op != "Gather" or not self._is_constant(node.inputs[0]) or node.integer("axis", 0):
            weight = self._value(first.inputs[1]) if self._is_constant(first.inputs[1]) else np.empty(0)
            width = weight.shape[-1]
            return None, self._characters(name, width, lambda ids: ids[:, None] == np.arange(width))
        embedding, ids = self._taken(node.inputs[0], "embedding", 2), self._back(node.inputs[1], _MOVES)
        if ids not in self._inputs:
            ids = self._characters(ids, len(embedding), lambda ids: ids[:, None])
        elif self._inputs[ids].type not in (INT64, INT32, FLOAT):
            raise P2Error(f"{self._where}: {shown(ids)} is no input of characters' numbers")
        return embedding, ids

    def _characters(self, name: str, count: int, wanted: Callable[[Tokens], Array]) -> str:
        """The input of characters of which a value is what is wanted, each on its own, the graph run to see.

        One-hot and the index of a table are written in many ways (TensorFlow's takes negative numbers too).
        """
        (ids, *others) = sorted(self._needed(name)) or [""]
        if ids in self._inputs and self._inputs[ids].type in (INT64, INT32, FLOAT) and not others:
            with contextlib.suppress(P2Error):  # which cannot be run
                found = self._judge.of_each(name, self._inputs[ids], count)
                if all(np.array_equal(rows, wanted(tokens)) for tokens, rows in found):
                    return ids
        raise self._refused(self._maker(name))

    def _form(self, node: Node) -> Cell:
        for form in FORMS:
            if form.title == node.op and all(
                node.integer(name, 0) == value for name, value in form.attributes.items()
            ):
                return form
        raise self._refused(node)

    def _layer(self, form: Cell, node: Node, number: int) -> Layer:
        at = f"{self._where}: {node.op} {shown(node.outputs[0] or f'number {number}')}"
        direction = [text(message(value)) for value in self._attribute(node, "direction", 4)]
        if direction not in ([], ["forward"]):
            raise P2Error(f"{at} is {direction[0]}, and p2's models read forward")
        for value in self._attribute(node, "activations", 9):
            if text(message(value)).lower() not in _DEFAULTS:
                raise P2Error(f"{at} has the activation {text(message(value))}, which p2's cells have not")
        for name in ("clip", "activation_alpha", "activation_beta"):
            if name in node.attributes:
                raise P2Error(f"{at} has the attribute {name}, which p2's cells have not")
        if node.integer("input_forget", 0):
            raise P2Error(f"{at} has one gate for input and forgetting (input_forget)")
        inputs = [*node.inputs, *[""] * 8]
        if inputs[7]:
            raise P2Error(f"{at} has peepholes ({shown(inputs[7])}), which p2's cells have not")
        for name in filter(None, inputs[5:7]):
            if self._is_constant(name) and np.any(self._value(name)):
                raise P2Error(f"{at} begins at a state that is not zero ({shown(name)})")
        gates = order(form.onnx_gates, form.torch_gates)

        def sorted_gates(array: Floats) -> Floats:
            if len(array) % len(gates):
                raise P2Error(f"{at}: {len(array)} rows are not those of {len(gates)} gates")
            parts = np.split(array, len(gates))
            return np.concatenate([parts[gate] for gate in gates])

        letters = f", gates {form.onnx_gates}" if len(gates) > 1 else ""
        w_ih, w_hh = (
            sorted_gates(self._one(inputs[at], f"layer {number}, {role}{letters}", 3))
            for at, role in ((1, "input"), (2, "recurrent"))
        )
        b_ih = b_hh = np.zeros(len(w_hh), np.float32)
        if inputs[3]:
            both = self._one(inputs[3], f"layer {number}, both biases{letters}", 2)
            if len(both) != 2 * len(w_hh):
                raise P2Error(f"{at}: {shown(inputs[3])} has {len(both)} numbers, not {2 * len(w_hh)}")
            b_ih, b_hh = map(sorted_gates, np.split(both, 2))
        return Layer(w_ih, w_hh, b_ih, b_hh)

    def _one(self, name: str, role: str, dimensions: int) -> Floats:
        """A weight of one direction, without its axis."""
        array = self._taken(name, role, dimensions)
        if len(array) != 1:
            raise P2Error(f"{self._where}: {shown(name)} ({size(array.shape)}) is of several directions")
        one: Floats = array[0]
        return one

    def _vector(self, name: str, role: str) -> Callable[[], Floats]:
        return lambda: self._taken(name, role, 1)

    def _taken(self, name: str, role: str, dimensions: int) -> Floats:
        if not self._is_constant(name):
            raise P2Error(f"{self._where}: {shown(name)}, which is to be the {role}, is no constant")
        array = self._value(name)
        if array.ndim != dimensions or array.dtype.kind != "f" or not array.size:
            raise P2Error(f"{self._where}: {shown(name)} ({size(array.shape)}) cannot be the {role}")
        with np.errstate(over="ignore"):
            short = np.ascontiguousarray(array, np.float32)
        check_finite({name: short}, self._where)
        self._rows.append(Row(name, array.shape, role))
        return short

    def _value(self, name: str) -> Array:
        """A constant's elements."""
        tensor = self._graph.tensors.get(name)
        node = self._makers.get(name)
        if tensor is None and node is not None and node.op == "Constant":
            values = self._attribute(node, "value", 5)
            tensor = Tensor.parse(message(values[0])) if values else None
        return self._judge.constant(name) if tensor is None else tensor.array()

    def _is_constant(self, name: str) -> bool:
        """Whether a value depends on no input."""
        return not self._needed(name)

    def _needed(self, name: str) -> set[str]:
        """The inputs that a value depends on, and names of values that depend on nobody knows what."""
        waiting, seen, needed = [name], set(), set()
        while waiting:
            one = waiting.pop()
            if one in seen or not one or one in self._graph.tensors:
                continue
            seen.add(one)
            node = self._makers.get(one)
            if node is None or node.op in ("If", "Loop", "Scan"):
                needed.add(one)
            else:
                waiting += node.inputs
        return needed

    def _back(self, name: str, over: frozenset[str]) -> str:
        """Where a value comes from, past operators that only move numbers."""
        for _ in range(len(self._graph.nodes) + 1):
            node = self._makers.get(name)
            if node is None or node.op not in over or not node.inputs or name != node.outputs[0]:
                return name
            if node.op == "Gather" and self._is_constant(node.inputs[0]):
                return name
            name = node.inputs[0]
        raise P2Error(f"{self._where}: its nodes go round in a circle")

    def _maker(self, name: str) -> Node:
        node = self._makers.get(name)
        if node is None:
            raise P2Error(
                f"{self._where}: between characters and logits there is no recurrent operator"
                f" ({', '.join(sorted(_CELLS))}): {shown(name)} is no result of one"
            )
        return node

    def _refused(self, node: Node) -> P2Error:
        name = next(filter(None, node.outputs), "")
        advice = "" if any(one.op in _CELLS for one in self._graph.nodes) else _WRITTEN_OUT
        return P2Error(
            f"{self._where}: the way from the characters to the logits goes through {shown(node.op)[1:-1]},"
            f" which makes {shown(name)}: p2's models have no place for it{advice}"
        )

    @staticmethod
    def _attribute(node: Node, name: str, number: int) -> list[int | memoryview]:
        return [value for field, value in fields(node.attributes.get(name, b"")) if field == number]

    def _number(self, node: Node, name: str, default: float) -> float:
        found = self._attribute(node, name, 2)
        return float(np.frombuffer(message(found[0]), "<f4")[0]) if found else default
