"""The load driver and the soak: a few seconds of each, and what they make of what they find."""

from __future__ import annotations

import asyncio
import json

import pytest

from p2.contract.errors import P2Error
from p2.serve import client, load, soak


def figures(streams: int, rate: float, first: float = 50.0, chunk: float = 30.0) -> load.Figures:
    return load.Figures(streams, rate, (10.0, first), (5.0, 9.0), 12.0, chunk, 0.9, 7)


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
    assert 0 < found.writing <= 1.1  # a chunk that begins before the time that is measured ends in it


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


def test_a_soak_and_its_report(folder, capsys, monkeypatch):
    monkeypatch.setattr(soak, "SLACK", 1 << 30)  # after a fifth of two seconds not all is loaded
    out = folder / "new" / "s"
    code = soak.main([str(folder / "charlm.onnx"), "--minutes", "0.04", "--out", str(out)])
    said = capsys.readouterr()
    assert code == 0, said.err
    report = json.loads(out.with_suffix(".json").read_text())
    assert {*report["requests"]} == {*soak.KINDS}
    assert report["curve"][-1]["running"] == 0
    assert out.with_suffix(".md").read_text() in said.out


def test_a_text_that_is_not_as_it_should_be_is_found(served, monkeypatch):
    monkeypatch.setattr(soak, "KINDS", {"known": 1.0})
    wrong = [({"prompt": "a", "max_tokens": 5, "seed": 1}, "wrong")]
    with pytest.raises(P2Error, match="and not 'wrong'"):
        asyncio.run(soak.soak(served.port, 0.2, wrong))


def test_texts_that_nobody_waits_for_are_found(served, monkeypatch):
    async def meters(_port: int, *_: str) -> list[float]:
        return [1.0, 1e8, 9.0, 0.0, 1.0, 0.0]

    monkeypatch.setattr(client, "meters", meters)
    monkeypatch.setattr(soak, "KINDS", {"look": 1.0})
    monkeypatch.setattr(soak, "LEFT_SECONDS", 0)
    with pytest.raises(P2Error, match="1 texts and 0 open files were left"):
        asyncio.run(soak.soak(served.port, 0.1, []))


def test_memory_that_grows_is_found(served, monkeypatch):
    memory = iter(range(1 << 28, 1 << 40, 1 << 26))

    async def meters(_port: int, *_: str) -> list[float]:
        return [1.0, next(memory), 9.0, 0.0, 0.0, 0.0]

    monkeypatch.setattr(client, "meters", meters)
    monkeypatch.setattr(soak, "KINDS", {"look": 1.0})
    monkeypatch.setattr(soak, "SAMPLES", 20)
    with pytest.raises(P2Error, match="memory grew from"):
        asyncio.run(soak.soak(served.port, 0.5, []))
