"""Progress on stderr: sparse lines in a pipe, a bar on a terminal, nothing where texts are shown."""

from __future__ import annotations

import io
import sys

import pytest

from p2.runtime.character_count import LINE_SECONDS, CharacterCount


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def run(progress: CharacterCount, clock: Clock, seconds: float, pieces: int) -> None:
    with progress:
        for _ in range(pieces):
            clock.now += seconds
            progress.advance(100)


def test_a_pipe_gets_a_line_every_few_seconds(clock, capsys):
    run(CharacterCount(4000, io.StringIO(), clock), clock, 1.0, 14)
    assert LINE_SECONDS == 5.0
    assert capsys.readouterr().err.splitlines() == [
        "500 of 4,000 characters (12%), 100 a second, 35 s left",
        "1,000 of 4,000 characters (25%), 100 a second, 30 s left",
    ]


@pytest.mark.parametrize("total", [None, 0])
def test_a_total_that_says_nothing_is_left_out(total, clock, capsys):
    run(CharacterCount(total, io.StringIO(), clock), clock, 3.0, 3)
    assert capsys.readouterr().err == "200 characters, 33 a second\n"


def test_a_short_job_says_nothing(clock, capsys):
    run(CharacterCount(4000, io.StringIO(), clock), clock, 0.1, 40)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("seconds", [0.1, 3.0])
def test_a_terminal_that_shows_the_texts_shows_nothing_else(seconds, clock, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    run(CharacterCount(4000, Terminal(), clock), clock, seconds, 9)
    assert sys.stderr.getvalue() == ""


def test_a_terminal_gets_a_bar_once_the_job_takes_its_time(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    run(CharacterCount(4000, io.StringIO(), clock), clock, 0.1, 9)
    assert sys.stderr.getvalue() == ""
    run(CharacterCount(4000, io.StringIO(), clock), clock, 0.6, 5)
    assert "500 characters" in sys.stderr.getvalue()


def test_an_interrupted_bar_gives_the_cursor_back(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    progress = CharacterCount(None, io.StringIO(), clock)
    with pytest.raises(KeyboardInterrupt), progress:
        clock.now += 2
        progress.advance(100)
        raise KeyboardInterrupt
    hide, show = "\x1b[?25l", "\x1b[?25h"
    said = sys.stderr.getvalue()
    assert hide in said
    assert said.rindex(show) > said.rindex(hide)
