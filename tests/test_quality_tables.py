"""docs/quality.py: its splits, equal sizes, and tables that say what its runs did, stopped or not."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

import p2
from p2.contract.card import Card, stored_parameters

from .conftest import TINY_TEXT


@pytest.fixture
def quality(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = Path(__file__).parent.parent / "docs" / "quality.py"
    spec = importlib.util.spec_from_file_location("quality", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr("p2.trainer.curve.draw", lambda log, target: True)
    monkeypatch.setitem(module.PARTS, "cells", {"gru": {"cell": "gru"}})
    chosen = {"tied embedding": module.REGULARISERS["tied embedding"]}
    monkeypatch.setitem(module.PARTS, "regularisers", chosen)
    module.COMMON |= {"layers": 1, "embedding": 4, "batch_size": 2, "seq_len": 8, "val_every": 2, "warmup": 1}
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TINY_TEXT)
    return module


def run(module, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    arguments = ["text.txt", "--steps", "4", "--parameters", "1500", "--threads", "1", *words]
    monkeypatch.setattr(sys, "argv", ["quality.py", *arguments])
    return module.main()


def test_what_was_measured_is_in_the_tables(quality, monkeypatch, capsys):
    assert run(quality, monkeypatch, "--only", "cells") == 0
    assert run(quality, monkeypatch, "--only", "regularisers", "--seeds", "0", "1") == 0
    folder = Path("artifacts/quality")
    document = json.loads((folder / "quality.json").read_text())
    page = (folder / "quality.md").read_text()
    names = [(run["part"], run["name"], run["seed"]) for run in document["runs"]]
    tied = "tied embedding"
    assert names == [("cells", "gru", 0), ("regularisers", tied, 0), ("regularisers", tied, 1)]
    count = len(TINY_TEXT)
    test = TINY_TEXT[count * 95 // 100 :]
    held_out = count * 95 // 100 - count * 90 // 100
    assert capsys.readouterr().out.count(f"{held_out:,} held out") == 3
    for found in document["runs"]:
        out = re.search(r"--out (\S+)", found["command"]).group(1)
        with p2.load(out) as model:
            assert found["test_bits"] == pytest.approx(model.bits_per_character(test), abs=1e-4)
            shared = model.card.vocab * model.card.hidden * ("--tied" in found["command"])
            assert found["parameters"] == stored_parameters(model.card) - shared
            wider = model.card.with_(hidden=model.card.hidden + 1)
        assert abs(found["parameters"] - 1500) < stored_parameters(wider) - stored_parameters(model.card)
        assert f"| {found['parameters']:,} |" in page
    one, two = (found["test_bits"] for found in document["runs"][1:3])
    assert one != two
    assert f"| {(one + two) / 2:.3f} |" in page


def test_stopped_it_goes_on(quality, monkeypatch):
    train, calls = p2.train, []

    def stopping(texts, *, resume, **options):
        calls.append(resume)
        result = train(texts, resume=resume, **options)
        if len(calls) == 1:
            result = type(result)(result.folder, result.record, result.steps + 1)
        return result

    monkeypatch.setattr(p2, "train", stopping)
    assert run(quality, monkeypatch, "--only", "cells") == 130
    assert not Path("artifacts/quality/quality.json").exists()
    assert run(quality, monkeypatch, "--only", "cells") == 0
    assert calls == [False, True]


def test_cells_have_equal_sizes(quality):
    vocabulary = "".join(sorted(map(chr, range(32, 97))))
    for cell in ("rnn", "lstm", "gru"):
        options = {"cell": cell, "layers": 2, "embedding": 64}
        sizes = quality.width(options, vocabulary, 350_000)
        card = Card(cell, 2, sizes["embedding"], sizes["hidden"], vocabulary)
        assert stored_parameters(card) == pytest.approx(350_000, rel=0.01)
