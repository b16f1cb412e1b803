"""The display, the log and the curve of a run."""

from __future__ import annotations

import math
import os
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.errors import P2Error
from p2.trainer import curve, display
from p2.trainer.metrics import SMOOTHING, Metrics, Report, running_average
from p2.trainer.runfolder import Log, RunFolder, read_log


def report(step: int) -> Report:
    return Report(step, 10, Metrics(1.0, 0.25), Metrics(2.0, 0.5), 1e-3, 12_345.6, 61.0, 75.2)


def test_plain_lines_are_few_and_readable(capsys: pytest.CaptureFixture[str]) -> None:
    shown = display.Plain(seconds=3600)
    shown.start(0, 10)
    for step in (1, 2, 10):
        shown.update(report(step))
    shown.validated(10, Metrics(1.0, 0.25), best=True)
    shown.stop()
    bits = 2 / math.log(2)
    assert capsys.readouterr().out.splitlines() == [
        f"    10/10  loss 2.000  {bits:.3f} bits/char  accuracy 0.500  12,346 char/s  1:15 left",
        "    10 held-out text: loss 1.000  1.443 bits/char  accuracy 0.250  (best so far)",
    ]


def test_every_update_is_due_without_a_pause(capsys: pytest.CaptureFixture[str]) -> None:
    shown = display.Plain(seconds=0)
    shown.start(0, 10)
    for step in (1, 2, 3):
        shown.update(report(step))
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_the_live_display_shows_the_figures(capsys: pytest.CaptureFixture[str]) -> None:
    shown = display.Live()
    shown.note("a [note] with brackets")
    shown.start(0, 10)
    shown.update(report(4))
    shown.validated(4, Metrics(1.0, 0.25), best=False)
    shown.stop()
    out = capsys.readouterr().out
    assert "a [note] with brackets\n" in out
    assert "4 held-out text: loss 1.000" in out
    assert "4/10" in out
    assert "12,346 char/s" in out


def test_a_pipe_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert isinstance(display.for_stdout(), display.Plain)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert isinstance(display.for_stdout(), display.Live)


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    shown = display.Silent()
    shown.note("x")
    shown.start(0, 1)
    shown.update(report(1))
    shown.validated(1, Metrics(1.0, 0.25), best=True)
    shown.stop()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.6, "1:00"), (75.2, "1:15"), (3675, "1:01:15"), (360_000, "100:00:00")],
)
def test_durations(seconds: float, text: str) -> None:
    assert display.duration(seconds) == text


@given(st.lists(st.floats(0, 1), min_size=1, max_size=3 * SMOOTHING))
def test_the_running_average_is_a_mean_and_then_exponential(values: list[float]) -> None:
    average, expected = None, 0.0
    for step, value in enumerate(values, start=1):
        average = running_average(average, Metrics(value, value), step)
        if step <= SMOOTHING:
            expected = sum(values[:step]) / step
        else:
            expected += (value - expected) / SMOOTHING
        assert average.loss == pytest.approx(expected, abs=1e-9)
        assert average.accuracy == average.loss


def test_a_log_drops_what_lies_past_the_checkpoint_and_what_was_cut_short(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    path = run.log
    log = Log(run, 0, pytest.fail)
    for step in (1, 2, 3):
        log.write({"step": step, "loss": 1.5})
    with path.open("a", encoding="utf-8") as file:
        file.write('not json\n{"step": "x"}\n{"step": 4, "lo')
    assert [entry["step"] for entry in read_log(path)] == [1, 2, 3]
    Log(run, 2, pytest.fail).write({"step": 3, "loss": 0.5})
    assert read_log(path) == [{"step": 1, "loss": 1.5}, {"step": 2, "loss": 1.5}, {"step": 3, "loss": 0.5}]
    assert path.read_text(encoding="utf-8").count("\n") == 3


GOOD = '{"step": 5, "loss": 2.5}'


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 1.5}',
        '{"step": true}',
        '{"step": -1}',
        '{"step": 9223372036854775808}',
        '{"step": 1e5}',
        '{"step": 1, "loss": NaN}',
        '{"step": 1, "val_loss": Infinity}',
        '{"step": 1, "loss": 1e999}',
        '{"step": 1, "loss": 1e300}',
        '{"step": 1, "loss": "1"}',
        '{"step": 1, "accuracy": [0.5]}',
        '{"step": 1, "step": 2}',
        '{"step": ' + "9" * 5000 + "}",
        "[" * 60_000,
        '{"a":' * 60_000,
        '["' + "x" * 200_000 + '"]' + GOOD,
        '{"step": 1, "text": "' + "x" * 200_000 + '"}',
        "[1]",
        "\0",
        "\ufeff" + GOOD,
    ],
)
def test_a_line_that_is_none_of_ours_is_left_out(tmp_path: Path, line: str) -> None:
    """Also by a run that goes on with the log, and by its curve."""
    run = RunFolder(tmp_path)
    run.log.write_bytes(f"{GOOD}\n{line}\n".encode() + b"\xff\n" + GOOD.encode())
    assert read_log(run.log) == [{"step": 5, "loss": 2.5}] * 2
    Log(run, 5, pytest.fail)
    assert run.log.read_text() == f"{GOOD}\n" * 2


def test_a_log_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(P2Error, match=r"cannot read .*log\.jsonl: no such file"):
        read_log(tmp_path / "log.jsonl")


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    log = Log(RunFolder(tmp_path), 0, pytest.fail)
    for step in range(10, 60, 10):
        entry = {"step": step, **Metrics(100 / step, step / 100).to_dict()}
        log.write(entry | (Metrics(1.0, 0.3).to_dict("val_") if step % 20 == 0 else {}))
    return tmp_path / "log.jsonl"


def test_the_curve_is_a_picture_and_always_the_same(log_path: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.svg", tmp_path / "2.svg"
    assert curve.draw(log_path, first)
    assert curve.draw(log_path, second)
    assert first.read_bytes() == second.read_bytes()
    words = "".join(ET.parse(first).getroot().itertext())
    for expected in ("bits per character", "accuracy", "training batch", "held-out text", "updates"):
        assert expected in words


def test_without_matplotlib_there_is_no_curve(
    log_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert not curve.draw(log_path, tmp_path / "c.svg")
    assert not (tmp_path / "c.svg").exists()


@pytest.mark.parametrize(
    "broken", ["no log", "a log of other things", "matplotlib fails", "a folder in its place"]
)
def test_a_curve_that_cannot_be_drawn_is_a_note(
    log_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    run = RunFolder(log_path.parent)
    if broken == "no log":
        log_path.unlink()
    elif broken == "a log of other things":
        log_path.write_text('{"step": 1, "bits_per_character": {}, "accuracy": "high"}\n', encoding="utf-8")
    elif broken == "matplotlib fails":
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *_, **__: 1 / 0)
    else:
        run.curve.mkdir()
    said: list[str] = []
    curve.update(run, said.append)
    assert [line.split(":")[0] for line in said] == ["no curve.svg"]
    assert not run.curve.is_file()
    assert not list(run.path.glob(".*"))


def test_a_curve_is_drawn_again_only_where_it_is_behind(
    log_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(log_path.parent)
    drawn: list[Path] = []
    monkeypatch.setattr(curve, "draw", lambda _, target: drawn.append(target) or not target.touch())
    for _ in range(2):
        curve.catch_up(run, pytest.fail)
    assert drawn == [run.curve]
    os.utime(run.curve, (0, 0))
    curve.catch_up(run, pytest.fail)
    assert len(drawn) == 2


def test_a_log_that_cannot_be_written_is_a_note_and_said_once(log_path: Path) -> None:
    said: list[str] = []
    run = RunFolder(log_path.parent)
    log = Log(run, 50, said.append)
    log_path.unlink()
    log_path.mkdir()
    for step in (60, 70):
        log.write({"step": step})
    assert said == [f"cannot write {log_path}: it is a folder: the run goes on without a log"]
    Log(run, 0, said.append).write({"step": 1})
    assert len(said) == 2
