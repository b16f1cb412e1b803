"""What kind of file it is, from its first bytes."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile

import numpy as np
import pytest

from p2.contract.kinds import kind_of


def saved(**options):
    import torch

    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, buffer, **options)
    return buffer.getvalue()


def safetensors():
    import safetensors.numpy

    return safetensors.numpy.save({"weight": np.zeros(2, np.float32)})


def onnx_file():
    import onnx
    from onnx import helper

    graph = helper.make_graph([helper.make_node("Identity", ["a"], ["b"])], "g", [], [])
    assert isinstance(graph, onnx.GraphProto)
    return helper.make_model(graph).SerializeToString()


def zipped(name):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, "x")
    return buffer.getvalue()


class Bomb:
    def __reduce__(self):
        return (print, ("was run",))


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("m.pt", saved, "a PyTorch pickle"),
        ("m.pth", lambda: saved(_use_new_zipfile_serialization=False), "a PyTorch pickle"),
        ("m.pt", lambda: pickle.dumps(Bomb()), "a Python pickle"),
        ("m.safetensors", safetensors, "a safetensors file"),
        ("m.onnx", onnx_file, "an ONNX file"),
        ("m.tokens", lambda: b"P2TOKENS" + bytes(56), "a token file of p2"),
        ("m.plan", lambda: b"ftrt" + bytes(60), "a TensorRT plan"),
        ("m.plan", lambda: b"vtrt" + bytes(60), "a TensorRT-RTX plan"),
        ("m.pt", lambda: zipped("code/constants.pkl"), "a TorchScript file"),
        ("m.zip", lambda: zipped("readme"), "a zip archive"),
        ("m.zip", lambda: zipped("readme")[:20], "a damaged zip archive"),
        ("m.gz", lambda: gzip.compress(b"x"), "a gzip archive"),
        ("m.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(9), "an HDF5 file"),
        ("model.json", lambda: b' {"format": 1}', "a JSON document"),
        ("book.txt", lambda: ("é" * 5000).encode(), "a text"),
        ("x", lambda: b"x" + ("é" * 5000).encode(), "a text"),  # a character is cut where the look ends
        ("x", lambda: bytes(range(256)), "a file of a kind that p2 does not know"),
        ("x", lambda: b"abc\0def", "a file of a kind that p2 does not know"),
        ("x", bytes, "an empty file"),
    ],
)
def test_kinds(name, content, kind, tmp_path, capsys):
    path = tmp_path / name
    path.write_bytes(content())
    assert kind_of(path) == kind
    assert capsys.readouterr().out == ""
