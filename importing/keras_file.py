"""A Keras 3 model in .keras or .h5, read with h5py: no TensorFlow, and nothing of it is run.

Keras keeps a kernel as ``[inputs, gates * units]``, gates in an order of its own (`Cell.keras_gates`), and a
GRU that resets after the product has two rows of biases. p2 is compared with Keras's own layers where Keras
is installed (`keras_layers`), else with its equations in numpy.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.cells import FORMS, Cell
from ..contract.documents import MOST_BYTES as MOST_JSON
from ..contract.documents import parse
from ..contract.errors import BackendMissing, P2Error
from ..contract.files import reading
from ..contract.schema import shown
from ..contract.shell import install
from . import equations, keras_layers
from .equations import Gate
from .found import MOST_BYTES, Floats, Found, Layer, Row, check_finite, check_sizes, size
from .hdf5_trial import try_hdf5

_SLACK = 1 << 20  # bytes that an archive's index may take
_NOTHING = {"InputLayer", "Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout"}  # once trained
_ENDS = (None, "linear", "softmax")  # which change no order of the logits, nor what follows from them
_ROOTS = ("layers", "_layer_checkpoint_dependencies")
_SIMPLE = "Simple"  # how Keras's name for the plain cell begins
_EMBEDDING, _DENSE, _EACH = "Embedding", "Dense", "TimeDistributed"


def read_keras(path: Path) -> Found:
    """The model in a .keras, or in a .h5 of a whole model.

    Raises:
        P2Error: it is damaged, or holds what p2's models have not: the sentence names the layer.
        BackendMissing: h5py is not here.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise BackendMissing(f"h5py is not installed: {install('train', 'keras')}") from error
    with reading(path):
        length = path.stat().st_size
        if length > MOST_BYTES:
            raise P2Error(f"{path} has more than {MOST_BYTES >> 30} GiB")
        archived = zipfile.is_zipfile(path)
    try:
        if archived:
            config, weights = _unpacked(path, length)
            try_hdf5(weights, path)
            with h5py.File(io.BytesIO(weights), "r") as file:
                return _Reader(path, _layers(config, path), _Saved(file, path, False, len(weights))).found()
        data = path.read_bytes()
        try_hdf5(data, path)
        with h5py.File(io.BytesIO(data), "r") as file:
            config = file.attrs.get("model_config")
            if config is None:
                raise P2Error(f"{path} holds weights without the model's configuration: save it as .keras")
            said = config.encode() if isinstance(config, str) else bytes(config)
            return _Reader(path, _layers(said, path), _Saved(file, path, True, length)).found()
    except P2Error:
        raise
    except Exception as error:  # whatever the bytes make the reader stumble over
        raise P2Error(f"{path} is not a readable Keras file ({shown(str(error))[1:-1]})") from error


def _has_two_biases(form: Cell) -> bool:
    """Of input and state, where the cell has two forms and resets after the product."""
    return form.reset == "after" and _has_two_forms(form)


def _has_two_forms(form: Cell) -> bool:
    """Whether another resets elsewhere."""
    return len([one for one in FORMS if one.title == form.title]) > 1


def _unpacked(path: Path, length: int) -> tuple[bytes, bytes]:
    with zipfile.ZipFile(path) as archive:
        names = {entry.filename: entry.file_size for entry in archive.infolist()}
        if sum(names.values()) > length + _SLACK or names.get("config.json", 0) > MOST_JSON:
            raise P2Error(f"{path} is damaged, or packed otherwise than by Keras")
        for name in ("config.json", "model.weights.h5"):
            if name not in names:
                raise P2Error(f"{path} is no Keras file: there is no {name} in it")
        return archive.read("config.json"), archive.read("model.weights.h5")


def _layers(config: bytes, path: Path) -> list[dict[str, Any]]:
    """The layers' classes and settings."""
    model = parse(config, str(path))
    try:
        kind, layers = model["class_name"], model["config"]["layers"]
        found = [{"class": one["class_name"], **one["config"]} for one in layers]
    except (TypeError, KeyError) as error:
        raise P2Error(
            f"{path} says nothing of its layers: p2 reads Sequential and Functional models"
        ) from error
    if kind not in ("Sequential", "Functional", "Model"):
        raise P2Error(f"{path} is a {shown(kind)}: p2 reads Sequential and Functional models of Keras")
    for one in layers:
        if len(json.dumps(one.get("inbound_nodes", [])).split('"keras_history"')) > 2:
            raise P2Error(f"{path}: the layer {shown(one['config'].get('name'))} has more than one input")
    return found


class _Saved:
    """The variables of a file of so many bytes, by layer."""

    def __init__(self, file: Any, path: Path, is_whole: bool, length: int) -> None:
        self._file, self._path, self._is_whole = file, path, is_whole
        self._counted: dict[str, int] = {}
        self._left = length  # what a file says of its own parts is not believed

    def of(self, layer: dict[str, Any], inside: str = "") -> list[tuple[str, npt.NDArray[Any]]]:
        """Names and arrays of a layer's variables, in Keras's order; `inside` is where its own are."""
        if self._is_whole:
            group = self._at(self._file, "model_weights", str(layer.get("name")))
            names = [
                n.decode() if isinstance(n, bytes) else str(n) for n in group.attrs.get("weight_names", ())
            ]
            return [(name, self._array(self._at(group, *name.split("/")), name)) for name in names]
        stem = _snake(str(layer["class"]))
        number = self._counted[stem] = self._counted.get(stem, -1) + 1
        root = next((one for one in _ROOTS if one in self._file), _ROOTS[0])
        place = [root, f"{stem}_{number}" if number else stem, *([inside] if inside else []), "vars"]
        group = self._at(self._file, *place)
        return [
            (name, self._array(self._at(group, key), name))
            for key, name in ((key, "/".join([*place, key])) for key in sorted(group, key=int))
        ]

    def _at(self, group: Any, *names: str) -> Any:
        import h5py

        for name in names:
            link = group.get(name, getlink=True) if isinstance(group, h5py.Group) else None
            if not isinstance(link, h5py.HardLink):
                raise P2Error(f"{self._path} has no {shown(f'{group.name}/{name}'.lstrip('/'))} of its own")
            group = group[name]
        return group

    def _array(self, found: Any, name: str) -> npt.NDArray[Any]:
        if getattr(found, "dtype", np.dtype(object)).kind != "f" or found.is_virtual or found.external:
            raise P2Error(f"{self._path}: {shown(name)} is no array of floats in the file itself")
        self._left -= found.nbytes
        if self._left < 0 or found.id.get_storage_size() < found.nbytes:
            raise P2Error(
                f"{self._path} is damaged: {shown(name)} claims {size(found.shape)} numbers, and fewer are"
                " there"
            )
        array: npt.NDArray[Any] = found[()]
        return array


class _Reader:
    """One model, and what has been found in it so far."""

    def __init__(self, path: Path, layers: list[dict[str, Any]], saved: _Saved) -> None:
        self._where, self._layers, self._saved = str(path), layers, saved
        self._rows: list[Row] = []
        self._kept: list[list[Floats]] = []  # the variables of the recurrent layers, then of the output layer

    def found(self) -> Found:
        rest = self._plain()
        first = next(rest, {"class": "none", "name": ""})
        if first["class"] != _EMBEDDING:
            raise self._refused(first, "begins the model, where p2 has an Embedding of characters")
        if first.get("mask_zero"):
            raise self._refused(first, "has mask_zero, which p2's models have not")
        (embedding,) = self._taken(first, ["embedding"])
        gates: list[dict[str, Gate]] = []
        forms, dense = [], None
        for layer in rest:
            form = self._form(layer)
            if dense is not None:
                raise self._refused(layer, "stands after the output layer")
            if form is not None:
                forms.append(form)
                gates.append(self._gates(form, layer, len(gates)))
            else:
                dense = self._dense(layer)
        if dense is None or not gates:
            raise P2Error(f"{self._where} has no recurrent layer with an output layer (Dense) behind it")
        form = forms[0]
        if any(one is not form for one in forms):
            raise P2Error(
                f"{self._where} has layers of several cells ({', '.join(one.name for one in forms)})"
            )
        w_out, b_out = dense
        parts = ("w_x", "w_h", "b_x", "b_h")
        layers = tuple(
            Layer(*(np.concatenate([getattr(one[k], part) for k in form.torch_gates]) for part in parts))
            for one in gates
        )
        table, matrix, bias = (array.astype(np.float64) for array in (embedding, w_out, b_out))

        def predict(tokens: npt.NDArray[np.int64]) -> npt.NDArray[np.floating]:
            return equations.run(form, gates, table, matrix, bias, tokens)

        rows = tuple(self._rows)
        found = Found(form, embedding, layers, w_out, b_out, rows, "Keras's equations in numpy", predict)
        check_sizes(found, self._where)
        kind = f"{_SIMPLE}RNN" if form.title == "RNN" else form.title
        settings = {"reset_after": form.reset == "after"} if _has_two_forms(form) else {}
        judge = keras_layers.rebuilt(kind, self._kept[:-1], settings, embedding, self._kept[-1])
        return replace(found, judge=judge[0], predict=judge[1]) if judge else found

    def _plain(self) -> Iterator[dict[str, Any]]:
        """The layers that do something, and a Dense without the wrapper that repeats it."""
        for at, layer in enumerate(self._layers):
            kind = layer["class"]
            if kind == "InputLayer" and at:
                raise self._refused(layer, "is a second input")
            if kind in _NOTHING:
                continue
            is_last = at == len(self._layers) - 1
            if is_last and kind in ("Activation", "Softmax") and layer.get("activation", "softmax") in _ENDS:
                continue
            yield layer

    def _form(self, layer: dict[str, Any]) -> Cell | None:
        title = str(layer["class"]).removeprefix(_SIMPLE)
        if title == "RNN" and title == layer["class"]:
            return None  # of cells that anybody wrote
        forms = [form for form in FORMS if form.title == title]
        if len(forms) > 1:
            reset = "after" if layer.get("reset_after", True) else "before"
            forms = [form for form in forms if form.reset == reset]
        return forms[0] if forms else None

    def _gates(self, form: Cell, layer: dict[str, Any], number: int) -> dict[str, Gate]:
        wanted = {"activation": "tanh", "go_backwards": False, "time_major": False}
        wanted |= {"recurrent_activation": "sigmoid"} if form.sigmoids else {}
        for name, value in wanted.items():
            if layer.get(name, value) != value:
                raise self._refused(layer, f"has {name} {shown(layer[name])}, and p2's cells {value}")
        roles = ["input", "recurrent", *(["bias"] if layer.get("use_bias", True) else [])]
        letters = form.keras_gates
        names = [
            f"layer {number}, {role}{f', gates {letters}' if len(letters) > 1 else ''}" for role in roles
        ]
        taken = self._taken(layer, names, "cell")
        self._kept.append(taken)
        kernel, recurrent, *bias = taken
        if kernel.ndim != 2 or recurrent.ndim != 2 or recurrent.shape[1] != len(letters) * recurrent.shape[0]:
            raise self._refused(layer, f"has kernels of {size(kernel.shape)} and {size(recurrent.shape)}")
        wide = recurrent.shape[1]
        both = np.zeros((2, wide), np.float32)
        if bias:
            if bias[0].shape != ((2, wide) if _has_two_biases(form) else (wide,)):
                raise self._refused(layer, f"has a bias of {size(bias[0].shape)}")
            both[: bias[0].ndim] = bias[0]
        split = [np.split(one, len(letters), axis=-1) for one in (kernel, recurrent, both)]
        return {
            letter: Gate(w_x.T, w_h.T, b[0], b[1])
            for letter, w_x, w_h, b in zip(letters, *split, strict=True)
        }

    def _dense(self, layer: dict[str, Any]) -> tuple[Floats, Floats]:
        inner, inside = layer, ""
        if layer["class"] == _EACH:
            inner, inside = {"class": layer["layer"]["class_name"], **layer["layer"]["config"]}, "layer"
        if inner["class"] != _DENSE:
            raise self._refused(layer, "has no place in p2's models")
        if inner.get("activation") not in _ENDS:
            raise self._refused(layer, f"has the activation {shown(inner['activation'])}")
        roles = ["output layer, transposed", *(["output bias"] if inner.get("use_bias", True) else [])]
        taken = self._taken(layer, roles, inside)
        self._kept.append(taken)
        kernel, *bias = taken
        if kernel.ndim != 2 or (bias and bias[0].shape != kernel.shape[1:]):
            raise self._refused(layer, f"has a kernel of {size(kernel.shape)}")
        return np.ascontiguousarray(kernel.T), bias[0] if bias else np.zeros(kernel.shape[1], np.float32)

    def _taken(self, layer: dict[str, Any], roles: list[str], inside: str = "") -> list[Floats]:
        """A layer's variables, float32, one for each role."""
        named = self._saved.of(layer, inside)
        if len(named) != len(roles):
            raise self._refused(layer, f"has {len(named)} variables, not {len(roles)}")
        for (name, array), role in zip(named, roles, strict=True):
            if not array.size:
                raise self._refused(layer, f"has the empty {shown(name)}")
            self._rows.append(Row(name, array.shape, role))
        with np.errstate(over="ignore"):
            short = {name: np.ascontiguousarray(array, np.float32) for name, array in named}
        check_finite(short, self._where)
        return [*short.values()]

    def _refused(self, layer: dict[str, Any], why: str) -> P2Error:
        name, kind = shown(str(layer.get("name"))), shown(str(layer["class"]))[1:-1]
        return P2Error(f"{self._where}: the layer {name} ({kind}) {why}")


def _snake(name: str) -> str:
    """A class's name as Keras writes it in paths: ``SimpleRNN`` -> ``simple_rnn``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()
