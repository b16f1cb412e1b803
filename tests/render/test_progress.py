"""Phases on stderr: lines in a pipe, a bar that goes away on a terminal, nothing where quiet is asked for."""

from __future__ import annotations

import io
import sys

import pytest

from p2.render.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    with progress:
        progress.phase("reading \x1b[31ma book\n", 3)
        progress.now("chapter 1")
        progress.done()
        progress.part("building", 2, 5)
        progress.say("kept")


def test_a_pipe_gets_a_line_for_each_phase(capsys):
    work(Progress())
    captured = capsys.readouterr()
    assert captured.err == "reading \\x1b[31ma book\\n\nkept\n"
    assert captured.out == ""


@pytest.mark.parametrize("quiet", [True, False])
def test_a_terminal_gets_a_bar_unless_it_is_to_be_quiet(quiet, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr(sys, "stderr", Terminal())
    work(Progress(quiet))
    said = sys.stderr.getvalue()
    assert ("2/5\x1b[0m building" in said) == ("kept" in said) == (not quiet)
    assert "\x1b[31m" not in said


def test_quiet_says_nothing_in_a_pipe_either(capsys):
    work(Progress(quiet=True))
    assert capsys.readouterr() == ("", "")
