"""The load driver and the soak: a few seconds of each, and what they make of what they find."""

from __future__ import annotations

import asyncio
import json

import pytest

from p2.contract.errors import P2Error
from p2.serve import client, load, soak


def figures(streams: int, rate: float, first: float = 50.0, chunk: float = 30.0) -> load.Figures:
    return load.Figures(streams, rate, (10.0, first), (5.0, 9.0), 12.0, chunk, 7)


@pytest.mark.parametrize(
    ("rate", "first", "beside", "met"),
    [(80, 149, 90, [True] * 3), (79, 151, 89, [False] * 3), (100, 10, 50, [True, True, False])],
)
def test_targets(rate, first, beside, met):
    judged = load.judge({64: 100.0}, [figures(64, rate, first)], figures(64, 100), figures(64, beside))
    assert [one["met"] for one in judged] == met


def test_the_driver_counts_what_it_was_sent(served, alone):
    found = asyncio.run(load.drive(served.port, alone["lstm"].card.vocabulary, 3, 0.5))
    assert found.texts > 0
    assert found.rate > 0
    assert 0 < found.first[0] <= found.first[1]
    assert 0 < found.piece <= load.LENGTH


def test_the_report(folder, monkeypatch, capsys):
    monkeypatch.setattr(load, "OTHERS", 2)
    monkeypatch.setattr(load, "LENGTH", 20)
    code = load.main(
        [
            str(folder / "charlm.onnx"),
            "--streams",
            "1",
            "64",
            "--seconds",
            "0.4",
            "--out",
            str(folder / "new" / "r"),
        ]
    )
    report = json.loads((folder / "new" / "r.json").read_text())
    assert code == int(not all(one["met"] for one in report["targets"]))
    assert [one["streams"] for one in report["served"]] == [1, 64]
    assert (folder / "new" / "r.md").read_text() in capsys.readouterr().out


def test_a_model_that_is_not_there_is_said(folder, capsys):
    assert load.main([str(folder / "none.onnx")]) == 1
    assert soak.main([str(folder / "none.onnx")]) == 1
    assert all(line.startswith("p2: ") for line in capsys.readouterr().err.splitlines())


def test_a_soak(served):
    found = asyncio.run(soak.soak(served.port, 3))
    assert {"whole", "hang up", "bad"} <= {*found}


def test_texts_that_nobody_waits_for_are_found(served, monkeypatch):
    async def meter(_port: int, name: str) -> float:
        return name == "p2_running_texts"

    monkeypatch.setattr(client, "meter", meter)
    monkeypatch.setattr(soak, "LEFT_SECONDS", 0)
    with pytest.raises(P2Error, match="1 texts were left"):
        asyncio.run(soak.soak(served.port, 0.1))
