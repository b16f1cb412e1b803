"""model.py inside a stand-in of Triton's Python backend: texts are `p2 generate`'s, side by side."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")

import p2

from .simulator import BackendRequest, load_model, read_config

NUMPY = {"TYPE_STRING": object, "TYPE_INT32": np.int32, "TYPE_UINT64": np.uint64, "TYPE_FP64": np.float64}
NUMPY["TYPE_BOOL"] = np.bool_


@pytest.fixture
def types(exported):
    """Name of an input -> its numpy type, as the configuration says."""
    from tritonclient.grpc import model_config_pb2 as pb

    config = read_config(exported / "charlm")
    return {one.name: NUMPY[pb.DataType.Name(one.data_type)] for one in config.input}


@pytest.fixture
def model(exported, backend):
    made = load_model(exported / "charlm")
    yield made
    made.finalize()


@pytest.fixture
def ask(model, types):
    def ask(**values):
        inputs = {}
        for name, value in values.items():
            several = value if isinstance(value, list) else [value]
            encoded = [one.encode() if isinstance(one, str) else one for one in several]
            inputs[name] = np.array(encoded, dtype=types[name])
        request = BackendRequest(inputs)
        model.execute([request])
        return request.sender

    return ask


def test_texts_are_those_of_generate_whoever_is_beside_them(exported, ask):
    asked = [
        {"prompt": "the ", "length": 300, "seed": 7, "tau": 2.0},
        {"prompt": "", "length": 1, "seed": 8},
        {"prompt": "she ", "length": 120, "seed": 2**63 + 5, "temperature": 0.7, "top_k": 5, "stream": 3},
        {"prompt": "fox", "length": 80, "greedy": True},
        {"prompt": "dog", "length": 200, "seed": 1, "top_p": 0.9, "min_p": 0.05, "stop": ["s", "zz"]},
        {"prompt": "lazy É", "length": 20, "seed": 1, "on_unknown": "skip"},
        {"prompt": "x", "length": 0, "seed": 1},
    ]
    senders = [ask(**values) for values in asked]
    with p2.load(exported.parent / "charlm.onnx") as model:
        for values, sender in zip(asked, senders, strict=True):
            settings = dict(values)
            if "stream" in settings:
                settings["first_stream"] = settings.pop("stream")
            assert sender.text() == model.generate(**settings), values
    assert len(senders[0].pieces) > 1


def test_without_a_seed_texts_differ(ask):
    one, other = (ask(prompt="the ", length=60) for _ in range(2))
    assert one.text() != other.text()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"prompt": "É"}, "'É'"),
        ({"prompt": "a", "length": -1}, "length must be 0 or more"),
        ({"prompt": "a", "tau": 2.0, "greedy": True}, "give one of --temperature, --tau, --greedy"),
        ({"prompt": "a", "top_p": float("nan")}, "top-p must be above 0"),
        ({"prompt": "a", "temperature": float("inf")}, "temperature must be"),
        ({"prompt": ["a", "b"]}, "prompt takes one value, not 2"),
        ({"prompt": "a", "stop": [""]}, "a stop string must not be empty"),
        ({"prompt": b"\xff"}, "not UTF-8"),
        ({"prompt": "a", "on_unknown": "ignore"}, "on-unknown takes error or skip"),
    ],
)
def test_bad_requests_are_answered_in_a_sentence(values, says, ask):
    sender = ask(**values)
    assert sender.done.wait(30)
    assert says in sender.problem
    assert ask(prompt="a", length=3, seed=1).text()  # and the model goes on


def test_a_cancelled_text_ends(ask):
    sender = ask(prompt="a", length=2**31 - 1)
    assert sender.sent.get(timeout=30)
    sender.cancelled = True
    assert sender.done.wait(30)
    assert sender.problem is None


def test_an_unloaded_model_finishes_its_texts_and_takes_no_more(exported, backend):
    made = load_model(exported / "charlm")
    inputs = {"prompt": np.array([b"the "], object), "length": np.array([2000], np.int32)}
    first, late = BackendRequest(inputs), BackendRequest(inputs)
    made.execute([first])
    made.finalize()
    assert len(first.sender.text()) == 2000
    made.execute([late])
    assert late.sender.done.wait(30)
    assert late.sender.problem == "the server is about to end"


def test_parameters_name_a_backend(exported, backend):
    config = json.dumps({"parameters": {"backend": {"string_value": "onnxruntime-cpu"}}})
    made = load_model(exported / "charlm", config)
    assert made.engine.name == "ONNX Runtime float32 (CPU)"
    made.finalize()
