"""What `p2 import` reads: good files, hostile ones, and their use; see `reading.Reader`."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime import forging
from . import breaking, breaking_archives, breaking_models
from .reading import Files, Reader

Rnd = random.Random


LETTERS = list("zyx wvut")
VOCABULARY = json.dumps(LETTERS).encode()


@functools.cache
def good_state(kind: str, number: int = 0) -> bytes:
    import safetensors.torch
    import torch
    from torch import nn

    from ..importing.test_state_dict import ByHand, Embedded

    torch.manual_seed(number)
    model = (
        ByHand() if kind == "by hand" else Embedded([nn.LSTM, nn.GRU, nn.RNN][number % 3], vocab=8, hidden=6)
    )
    state = model.state_dict()
    if kind == "safetensors":
        return bytes(safetensors.torch.save(dict(state)))
    made = io.BytesIO()
    torch.save({"model": state, "epoch": 3} if number % 2 else state, made)
    return made.getvalue()


def good_pt(number: int) -> Files:
    return {"model.pt": good_state("pt", number % 6), "vocab.json": VOCABULARY}


def good_safetensors(number: int) -> Files:
    return {"model.safetensors": good_state("safetensors", number % 6), "vocab.json": VOCABULARY}


def forge_pt(files: Files, rnd: Rnd) -> Files:
    def inside(name: str, content: bytes, rnd: Rnd) -> bytes:
        return (
            breaking_archives.pickled(content, rnd)
            if name.endswith(".pkl")
            else breaking.any_bytes(content, rnd)
        )

    if rnd.random() < 0.7:  # the pickle, of which there is one among many entries

        def pickle_only(name: str, content: bytes, rnd: Rnd) -> bytes:
            return breaking_archives.pickled(content, rnd)

        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(files["model.pt"])) as old, zipfile.ZipFile(made, "w") as new:
            for entry in old.infolist():
                content = old.read(entry)
                new.writestr(
                    entry.filename,
                    pickle_only(entry.filename, content, rnd) if entry.filename.endswith(".pkl") else content,
                )
        return files | {"model.pt": made.getvalue()}
    return files | {"model.pt": breaking_archives.archive(files["model.pt"], rnd, inside)}


def forge_safetensors(files: Files, rnd: Rnd) -> Files:
    return files | {"model.safetensors": breaking_models.safetensors(files["model.safetensors"], rnd)}


@functools.cache
def good_graph(number: int) -> Files:
    from ..importing import test_onnx

    op, layers = (("LSTM", 2), ("GRU", 1), ("RNN", 1))[number % 3]
    model = test_onnx.graph(
        op, layers=layers, head=("Gather", "OneHot")[number % 2], tail=("MatMul", "Gemm")[number // 2 % 2]
    )
    return {
        "model.onnx": model.SerializeToString(),
        "vocab.json": json.dumps(list(test_onnx_letters())).encode(),
    }


def test_onnx_letters() -> str:
    from ..importing.conftest import CHARACTERS

    return CHARACTERS


def forge_graph(files: Files, rnd: Rnd) -> Files:
    import onnx

    data = files["model.onnx"]
    if rnd.random() < 0.5:
        return files | {"model.onnx": breaking_models.protobuf(data, rnd)}
    model = onnx.load_model_from_string(data)
    changes = (
        forging.one_dimension, forging.another_shape, forging.another_type, forging.other_bytes,
        forging.another_name, forging.no_tensor, forging.another_value, forging.other_nodes,
    )  # fmt: skip
    for _ in range(rnd.choice((1, 1, 2))):
        with contextlib.suppress(ValueError, TypeError, IndexError):  # forged already, past a second change
            rnd.choice(changes)(model, rnd)
    return files | {"model.onnx": model.SerializeToString()}


@functools.cache
def good_keras(number: int) -> Files:
    from ..importing import test_keras
    from ..importing.conftest import CHARACTERS

    kind = ("LSTM", "GRU", "SimpleRNN")[number % 3]
    name = ("model.keras", "model.h5")[number // 3 % 2]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write: Any = test_keras.keras if name.endswith("keras") else test_keras.h5
        write(path, test_keras.layers(kind, depth=1))
        return {name: path.read_bytes(), "vocab.json": json.dumps(list(CHARACTERS)).encode()}


def forge_keras(files: Files, rnd: Rnd) -> Files:
    def inside(name: str, content: bytes, rnd: Rnd) -> bytes:
        if name.endswith(".json"):
            return breaking.json_text(content, rnd)
        return breaking_archives.hdf5(content, rnd)

    if "model.h5" in files:
        return files | {"model.h5": breaking_archives.hdf5(files["model.h5"], rnd)}
    return files | {"model.keras": breaking_archives.archive(files["model.keras"], rnd, inside)}


MAPPING = {
    "cell": "lstm",
    "layers": [
        {
            "input": {gate: f"W_{gate}x" for gate in "gifo"},
            "recurrent": {gate: f"W_{gate}h" for gate in "gifo"},
            "input_bias": {gate: f"b_{gate}" for gate in "gifo"},
        }
    ],
    "output": "W_ph",
    "output_bias": "b_p",
    "embedding": "embedding.weight",
}


def good_mapping(_number: int) -> Files:
    from ..importing.conftest import CHARACTERS

    letters = json.dumps(list(CHARACTERS)).encode()
    return {
        "model.pt": good_state("by hand"),
        "vocab.json": letters,
        "mapping.json": json.dumps(MAPPING).encode(),
    }


def forge_mapping(files: Files, rnd: Rnd) -> Files:
    document = json.loads(files["mapping.json"])
    if rnd.random() < 0.5:  # other names of tensors
        names = [
            "W_gx",
            "W_ph",
            "b_g",
            "-W_ih.T",
            "W_ih.T",
            "-",
            ".T",
            "",
            "b_p",
            "embedding.weight",
            "nothing",
        ]
        layer = document["layers"][0]
        layer["gates"] = rnd.choice(("", "gifo", "gggg", "ofig", "x"))
        part = rnd.choice((document, layer, layer["input"]))
        part[rnd.choice([*part])] = rnd.choice(names)
        return files | {"mapping.json": json.dumps(document).encode()}
    return files | {"mapping.json": breaking.json_text(files["mapping.json"], rnd)}


def good_letters(number: int) -> Files:
    name, data = (
        ("vocab.json", VOCABULARY),
        ("vocab.json", json.dumps({one: at for at, one in enumerate(LETTERS)}).encode()),
        ("vocab.json", json.dumps({str(at): one for at, one in enumerate(LETTERS)}).encode()),
        ("vocab.txt", "".join(LETTERS).encode()),
        ("text.txt", "".join(LETTERS * 5).encode()),
    )[number % 5]
    return {"model.pt": good_state("pt"), name: data}


def forge_letters(files: Files, rnd: Rnd) -> Files:
    (name,) = files.keys() - {"model.pt"}
    change = breaking.json_text if name.endswith(".json") and rnd.random() < 0.8 else breaking.text
    return files | {name: change(files[name], rnd)}


def read_source(folder: Path) -> None:
    from p2.importing.importer import import_checkpoint

    def there(*names: str) -> Path | None:
        return next((folder / name for name in names if (folder / name).exists()), None)

    source = there("model.pt", "model.safetensors", "model.onnx", "model.keras", "model.h5")
    assert source is not None
    made = import_checkpoint(
        source, folder / "out", there("vocab.json", "vocab.txt"), there("text.txt"), there("mapping.json")
    )
    assert np.isfinite(made.difference)


READERS = (
    Reader("import: .pt", good_pt, forge_pt, read_source, 1000),
    Reader("import: .safetensors", good_safetensors, forge_safetensors, read_source, 1300),
    Reader("import: .onnx", good_graph, forge_graph, read_source, 700),
    Reader("import: .keras, .h5", good_keras, forge_keras, read_source, 40, 30),
    Reader("import: mapping", good_mapping, forge_mapping, read_source, 900, 90),
    Reader("import: vocabulary", good_letters, forge_letters, read_source, 1000),
)
