"""The profile adds up what ONNX Runtime traced, and the loop's operators are all there."""

from __future__ import annotations

import json

import pytest

from p2 import cli
from p2.bench.profile import operators, profile


@pytest.fixture(autouse=True)
def briefly(monkeypatch):
    monkeypatch.setattr("p2.bench.profile.SECONDS", 0.01)


def event(op, us, cat="Node", kind="kernel_time"):
    return {"cat": cat, "name": f"x_{kind}", "dur": us, "args": {"op_name": op}}


def test_calls_and_microseconds_of_a_step():
    events = [
        event("Gemm", 30),
        event("Gemm", 50),
        event("Add", 20),
        event("Scan", 1000),  # it contains the others
        event("Gemm", 999, kind="fence_before"),
        event("Gemm", 999, cat="Session"),
    ]
    gemm, add = operators(events, steps=2)
    assert (gemm.name, gemm.calls, gemm.us, gemm.share) == ("Gemm", 1.0, 40.0, 0.8)
    assert (add.name, add.calls, add.us, add.share) == ("Add", 0.5, 10.0, 0.2)
    assert operators([], 3) == []


@pytest.mark.parametrize(("precision", "product"), [("float32", "Gemm"), ("int8", "MatMulIntegerToFloat")])
def test_the_operators_of_a_step(precision, product, card_of, write_step):
    """A two-layer LSTM: products of 1 + 2 inputs and the output. Integers have functions of their own."""
    found = profile(str(write_step(card_of(precision=precision))), batch=2, threads=1)
    calls = {operator.name: operator.calls for operator in found.operators}
    assert calls[product] == 4
    if precision == "float32":
        assert (calls["Sigmoid"], calls["Tanh"]) == (2, 4)
    else:
        assert not {"Sigmoid", "Tanh"} & calls.keys()
        assert calls["Div"] == 4
    assert sum(operator.share for operator in found.operators) == pytest.approx(1)
    assert found.step_us > 0


def test_the_command(card_of, write_step, capsys, monkeypatch):
    path = write_step(card_of())
    monkeypatch.chdir(path.parent)
    assert cli.main(["bench", "profile"]) == 0
    assert "Gemm" in capsys.readouterr().out
    assert cli.main(["bench", "profile", path.name, "--batch", "3", "--threads", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["batch"] == 3
    path.rename(path.with_name("x[bold]y.onnx"))  # a name that rich would take for markup
    assert cli.main(["bench", "profile", "x[bold]y.onnx", "--threads", "1"]) == 0
    assert "x[bold]y.onnx" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--batch", "0"], "--batch must be 1 to 65,536, not 0"),
        (["--batch", str(10**30)], "--batch must be 1 to 65,536, not 1,000"),
        (["--threads", "0"], "--threads must be 1 to 256, not 0"),
    ],
)
def test_bad_calls(arguments, words, card_of, write_step, capsys, monkeypatch):
    monkeypatch.chdir(write_step(card_of()).parent)
    assert cli.main(["bench", "profile", *arguments]) == 2
    assert words in capsys.readouterr().err
