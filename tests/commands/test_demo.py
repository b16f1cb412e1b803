"""A tiny run of the demo, and the GPU checks where there is no GPU."""

from __future__ import annotations

import functools
import io
import json
from dataclasses import dataclass

from rich.console import Console

from p2.bench import speed
from p2.bench.speed import measure
from p2.commands import demonstration as demo
from p2.runtime.onnxruntime.engine import open_onnx
from p2.trainer.options import TrainOptions


@dataclass(frozen=True)
class Small(TrainOptions):
    """What a run of the demo is, but for its size."""

    embedding: int = 16
    hidden: int = 32
    seq_len: int = 32
    batch_size: int = 16


def test_the_demo_shows_everything_and_keeps_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr("p2.trainer.options.TrainOptions", Small)
    monkeypatch.setattr(demo, "CHARACTERS", 50)
    monkeypatch.setattr(demo, "TEXT_STEPS", 60)
    monkeypatch.setattr(speed, "measure", functools.partial(measure, rounds=3, seconds=0.01))
    monkeypatch.setattr(speed, "REST_SECONDS", 0)
    out = io.StringIO()
    folder = tmp_path / "demo"
    assert demo.run(Console(file=out, width=120), steps=3, folder=folder)
    shown = out.getvalue()
    report = json.loads((folder / "demo.json").read_text())
    assert [e["title"] for e in report["engines"]] == [
        "eager PyTorch",
        "p2 float32",
        "p2 float16",
        "p2 int8",
        "p2 int4",
    ]
    for engine in report["engines"]:
        assert f"{engine['speed']['characters_per_second']:,.0f}" in shown
        assert (
            engine["speed"]["slowest"]
            <= engine["speed"]["characters_per_second"]
            <= engine["speed"]["fastest"]
        )
    assert report["sample"]["text"] in shown
    assert "parity: every engine says what eager PyTorch says" in shown
    assert "p2 train your-book.txt" in shown
    assert "<svg" in (folder / "demo.svg").read_text()

    # The next one may replace this run, as long as nobody has added to it.
    options = Small(steps=3, out=folder)
    assert demo.made_here(folder, options)
    assert not demo.made_here(folder, Small(steps=4, out=folder))
    assert not demo.made_here(tmp_path, options)
    (folder / "best.onnx").touch()
    assert not demo.made_here(folder, options)


def test_engines_take_turns(card_of, write_step, monkeypatch):
    engines = [open_onnx(write_step(card_of())) for _ in range(2)]
    turns = []
    for name, engine in zip("ab", engines, strict=True):
        monkeypatch.setattr(engine, "decode", _noting(turns, name, engine.decode))
    monkeypatch.setattr("time.sleep", lambda _: turns.append("rest"))
    speeds = measure(engines, rounds=3, seconds=0.01)
    assert len(speeds) == 2
    order = "".join(turn for turn in turns if turn != "rest")
    while len(shorter := order.replace("aa", "a").replace("bb", "b")) < len(order):
        order = shorter
    assert order == "ab" * 4  # finding the counts, then three rounds
    assert turns.count("rest") == 6


def _noting(turns, name, decode):
    def noted(*arguments):
        turns.append(name)
        return decode(*arguments)

    return noted


def test_what_is_next_begins_with_what_makes_p2_a_command(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo.sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    assert demo._environment() == []  # the system's own Python
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    assert demo._environment()[0].startswith(". .venv/bin/activate ")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / ".venv"))
    assert demo._environment() == []
