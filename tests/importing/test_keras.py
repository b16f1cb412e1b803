"""Keras 3's .keras and .h5, written here with h5py as Keras writes them."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
import zipfile

import numpy as np
import pytest

import p2
from p2.cli import main
from p2.contract.errors import P2Error
from p2.importing import hdf5_trial, keras_file

from .conftest import V

h5py = pytest.importorskip("h5py")

pytestmark = pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of Keras on PyTorch

E, H = 5, 6
GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
SNAKE = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn", "Embedding": "embedding", "Dense": "dense"}


def layers(kind="LSTM", depth=2, bias=True, reset_after=True, softmax=True, **settings):
    """(class, settings, variables) of each layer."""
    rng = np.random.default_rng(2)
    g = GATES[kind] * H

    def draw(*shape):
        return rng.normal(0, 0.4, shape).astype(np.float32)

    found = [("InputLayer", {"batch_shape": [None, None]}, []), ("Embedding", {}, [draw(V, E)])]
    for number in range(depth):
        rows = (2, g) if kind == "GRU" and reset_after else (g,)
        variables = [draw(H if number else E, g), draw(H, g), *([draw(*rows)] if bias else [])]
        config = {"activation": "tanh", "use_bias": bias, "return_sequences": True, **settings}
        if kind != "SimpleRNN":
            config.setdefault("recurrent_activation", "sigmoid")
        if kind == "GRU":
            config["reset_after"] = reset_after
        found += [(kind, config, variables), ("Dropout", {"rate": 0.2}, [])]
    activation = "softmax" if softmax else "linear"
    return [*found, ("Dense", {"activation": activation}, [draw(H, V), draw(V)])]


def config_of(model, kind="Sequential"):
    listed = [
        {"class_name": name, "config": {"name": f"{name.lower()}_{number}", **settings}}
        for number, (name, settings, _) in enumerate(model)
    ]
    return json.dumps({"class_name": kind, "config": {"name": "sequential", "layers": listed}})


def keras(path, model, config=None, pack=zipfile.ZIP_STORED, edit=lambda file: None):
    data, counted = io.BytesIO(), {}
    with h5py.File(data, "w") as file:
        for name, _, variables in model:
            stem = SNAKE.get(name, name.lower())
            number = counted[stem] = counted.get(stem, -1) + 1
            place = f"layers/{stem}_{number}" if number else f"layers/{stem}"
            inside = "cell/vars" if name in GATES else "vars"
            for at, array in enumerate(variables):
                file[f"{place}/{inside}/{at}"] = array
        edit(file)
    with zipfile.ZipFile(path, "w", pack) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", config or config_of(model))
        archive.writestr("model.weights.h5", data.getvalue())


def h5(path, model):
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = config_of(model)
        for number, (name, _, variables) in enumerate(model):
            group = file.create_group(f"model_weights/{name.lower()}_{number}")
            names = [
                f"sequential/x/{part}" for part in ("kernel", "recurrent_kernel", "bias")[: len(variables)]
            ]
            group.attrs["weight_names"] = names
            for one, array in zip(names, variables, strict=True):
                group[one] = array


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def logits_of(model, reset_after):
    """Keras's own formulas: x @ kernel + h @ recurrent_kernel + bias, gates i f c o, z r h, or one."""
    (table,), *cells, (w_out, b_out) = [variables for _, _, variables in model if variables]

    def run(tokens):
        states, found = [(np.zeros(H), np.zeros(H)) for _ in cells], []
        for token in tokens:
            x = table[token]
            for at, (kernel, recurrent, *bias) in enumerate(cells):
                h, c = states[at]
                b = bias[0] if bias else np.zeros(kernel.shape[1])
                if kernel.shape[1] == 4 * H:
                    i, f, g, o = np.split(x @ kernel + h @ recurrent + b, 4)
                    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
                    h = sigmoid(o) * np.tanh(c)
                elif kernel.shape[1] == H:
                    h = np.tanh(x @ kernel + h @ recurrent + b)
                else:
                    b_x, b_h = b if b.ndim == 2 else (b, np.zeros_like(b))
                    xz, xr, xh = np.split(x @ kernel + b_x, 3)
                    hz, hr, hh = np.split(h @ recurrent + b_h, 3)
                    z, r = sigmoid(xz + hz), sigmoid(xr + hr)
                    inner = r * hh if reset_after else (r * h) @ recurrent[:, 2 * H :]
                    h = z * h + (1 - z) * np.tanh(xh + inner)
                states[at], x = (h, c), h
            found.append(x @ w_out + b_out)
        return np.stack(found)

    return run


@pytest.mark.parametrize(
    "settings",
    [{}, {"kind": "GRU"}, {"kind": "GRU", "reset_after": False}, {"kind": "SimpleRNN", "bias": False}],
    ids=["LSTM", "GRU", "GRU, reset before", "SimpleRNN without bias"],
)
@pytest.mark.parametrize("save", [keras, h5], ids=["keras", "h5"])
def test_it_writes_what_the_model_writes(settings, save, tmp_path, writes_the_same):
    model = layers(**settings)
    path = tmp_path / f"model.{save.__name__}"
    save(path, model)
    made = writes_the_same(path, logits_of(model, settings.get("reset_after", True)))
    assert made.card.layers == 2
    assert (made.card.gru_reset == "before") == (settings.get("reset_after") is False)
    assert made.rows[0].role == "embedding"
    assert made.rows[-1].role == "output bias"
    installed = importlib.util.find_spec("keras") is not None
    assert made.judge.startswith("keras " if installed else "Keras's equations")


@pytest.mark.parametrize("broken", [False, True])
def test_where_keras_is_not_its_equations_are_asked(broken, tmp_path, writes_the_same, monkeypatch):
    """Not installed, or for a backend that is not."""
    model = layers("GRU")
    keras(tmp_path / "model.keras", model)
    with monkeypatch.context() as patch:
        if broken:
            patch.setitem(sys.modules, "keras", None)
            patch.setattr(importlib.util, "find_spec", lambda name: name)
        else:
            find = importlib.util.find_spec
            patch.setattr(importlib.util, "find_spec", lambda name: None if name == "keras" else find(name))
        made = writes_the_same(tmp_path / "model.keras", logits_of(model, True))
    assert made.judge == "Keras's equations in numpy"


def without(model, name):
    return [layer for layer in model if layer[0] != name]


def with_nan(model):
    model[2][2][1][0, 0] = np.nan
    return model


def with_layer(name, at, **settings):
    model = layers()
    model.insert(at, (name, settings, []))
    return model


def functional_with_two_inputs():
    listed = json.loads(config_of(layers(), "Functional"))
    history = {"class_name": "__keras_tensor__", "config": {"keras_history": ["x", 0, 0]}}
    listed["config"]["layers"][4]["inbound_nodes"] = [{"args": [history, history], "kwargs": {}}]
    return json.dumps(listed)


def elsewhere(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "/x")


def claimed(file):
    del file["layers/dense/vars/0"]
    file.create_dataset("layers/dense/vars/0", (H, 1 << 20), "f4")


def swollen(file):
    file["x"] = np.zeros(1 << 20)


ODD = '{"class_name": "Sequential", "config": []}'
REFUSED = {
    "bidirectional": (with_layer("Bidirectional", 3), {}, "'bidirectional_3' (Bidirectional) has no place"),
    "attention": (with_layer("MultiHeadAttention", 4), {}, "(MultiHeadAttention) has no place"),
    "normalisation": (with_layer("LayerNormalization", 3), {}, "(LayerNormalization) has no place"),
    "relu": (layers(activation="relu"), {}, "has activation 'relu', and p2's cells tanh"),
    "hard sigmoid": (
        layers(recurrent_activation="hard_sigmoid"),
        {},
        "has recurrent_activation 'hard_sigmoid'",
    ),
    "backwards": (layers(go_backwards=True), {}, "has go_backwards True"),
    "no embedding": (
        without(layers(), "Embedding"),
        {},
        "(LSTM) begins the model, where p2 has an Embedding",
    ),
    "no output": (without(layers(), "Dense"), {}, "no recurrent layer with an output layer (Dense)"),
    "nothing": ([], {}, "begins the model"),
    "two outputs": ([*layers(), layers()[-1]], {}, "stands after the output layer"),
    "two inputs": (layers(), {"config": functional_with_two_inputs()}, "has more than one input"),
    "nan": (with_nan(layers()), {}, "'layers/lstm/cell/vars/1' holds NaN or infinity"),
    "of one's own": (layers(), {"config": config_of(layers(), "MyModel")}, "is a 'MyModel'"),
    "no json": (layers(), {"config": "{"}, "not valid JSON"),
    "odd json": (layers(), {"config": ODD}, "says nothing of its layers"),
    "elsewhere": (layers(), {"edit": elsewhere}, "has no 'layers/dense/vars/0' of its own"),
    "claimed": (layers(), {"edit": claimed}, "and fewer are there"),
    "bomb": (layers(), {"edit": swollen, "pack": zipfile.ZIP_DEFLATED}, "packed otherwise than by Keras"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_and_nothing_is_written(name, tmp_path, vocab, capsys, monkeypatch):
    model, given, said = REFUSED[name]
    if "edit" not in given:  # to HDF5's library a file like those above
        monkeypatch.setattr(hdf5_trial, "_READ", "pass")
    keras(tmp_path / "model.keras", model, **given)
    refused(tmp_path / "model.keras", vocab, capsys, said)


def refused(path, vocab, capsys, said):
    before = sorted(path.parent.rglob("*"))
    assert main(["import", str(path), "--vocab", str(vocab), "--out", str(path.parent / "out")]) == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert sorted(path.parent.rglob("*")) == before


@pytest.mark.parametrize(
    "settings",
    [{"kind": "LSTM"}, {"kind": "SimpleRNN"}, {"kind": "GRU"}, {"kind": "GRU", "reset_after": False}],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_variables_of_other_shapes_are_refused(settings, tmp_path, vocab, monkeypatch):
    """Before Keras's own layers are made of them, where it is there."""
    monkeypatch.setattr(keras_file, "try_hdf5", lambda *_: None)  # a process for each
    path = tmp_path / "model.keras"
    for at, (_, _, variables) in enumerate(layers(**settings, depth=1)):
        for number, good in enumerate(variables):
            wide = good.shape[-1]
            for other in (
                good.ravel(),
                good.T,
                good[None],
                good[..., 1:],
                good[:0],
                np.zeros(wide, np.float32),
                np.zeros((2, wide), np.float32),
                np.zeros(2 * wide, np.float32),
            ):
                if other.shape == good.shape:
                    continue
                model = layers(**settings, depth=1)
                model[at][2][number] = other
                keras(path, model)
                with pytest.raises(P2Error):
                    p2.import_model(path, vocab=vocab, out=tmp_path / "out")
                assert not (tmp_path / "out").exists()


def test_what_is_no_whole_model(tmp_path, vocab, capsys):
    path = tmp_path / "model.h5"
    h5(path, layers())
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(path, vocab, capsys, "is not a readable Keras file")
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.zeros(3, np.float32)
    refused(path, vocab, capsys, "holds weights without the model's configuration")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "a")
    refused(path, vocab, capsys, "is no Keras file: there is no config.json in it")


def test_without_h5py_the_cure_is_said(tmp_path, vocab, monkeypatch):
    import sys

    keras(tmp_path / "model.keras", layers())
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(p2.P2Error, match=r"h5py is not installed: pip install .*keras"):
        p2.import_model(tmp_path / "model.keras", vocab=vocab, out=tmp_path / "out")


def test_a_file_that_holds_up_or_ends_hdf5s_library_is_a_sentence(tmp_path, vocab, capsys, monkeypatch):
    """Whatever happens in the process of its own; the real one reads the files of all other tests."""
    h5(tmp_path / "model.h5", layers(depth=1))
    keras(tmp_path / "model.keras", layers(depth=1))
    for code in ("while True: pass", "import os; os.abort()"):
        monkeypatch.setattr(hdf5_trial, "_READ", code)
        monkeypatch.setattr(hdf5_trial, "_SECONDS", 0.1)
        monkeypatch.setattr(hdf5_trial, "_PATIENCE", 5)
        for name in ("model.h5", "model.keras"):
            out = str(tmp_path / "out")
            assert main(["import", str(tmp_path / name), "--vocab", str(vocab), "-o", out]) == 1
            assert f"{name} is damaged: HDF5's library does not" in capsys.readouterr().err


def test_an_array_larger_than_its_file_is_not_read(tmp_path):
    """Damage can make the library itself believe that gigabytes are stored in a file of kilobytes."""
    path = tmp_path / "model.h5"
    h5(path, layers(depth=1))
    with h5py.File(path) as file:
        saved = keras_file._Saved(file, path, True, V * E * 4 - 1)
        with pytest.raises(P2Error, match=f"claims {V} x {E} numbers, and fewer are there"):
            saved.of({"name": "embedding_1"})
