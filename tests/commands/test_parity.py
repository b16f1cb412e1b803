"""How `p2 parity` is called: every bad call is a sentence."""

from __future__ import annotations

import pytest

BAD_CALLS = [
    (
        ["parity", "--backend", "tpu"],
        2,
        "unknown backend 'tpu': choose one of eager, cuda-graph, native",
    ),
    (["parity"], 1, "there is no engine in artifacts/charlm"),
    (["parity", "absent.onnx"], 1, "there is no absent.onnx here"),
]


@pytest.mark.parametrize(
    ("argv", "code", "words"), BAD_CALLS, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_bad_calls_are_answered(argv, code, words, here, fails):
    assert words in fails(*argv, code=code)
