"""Fixtures of the commands' tests: an empty folder, an engine in it, and calls as a person makes them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from p2.cli import main
from p2.contract.card import Card


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def engine(here: Path, card_of: Callable[..., Card], write_step: Callable[..., Path]) -> Path:
    """A step graph called charlm.onnx in the working folder."""
    return write_step(card_of("gru", layers=1))


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Call, expect an exit code, and return the one sentence on stderr: ``fails("export", code=1)``."""

    def call(*argv: str, code: int) -> str:
        assert main(list(argv)) == code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return captured.err

    return call


@pytest.fixture
def pasted(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Call, and return the words that a shell reads in the command of the one line it says."""

    def call(argv: list[str], code: int, before: str, after: str) -> list[str]:
        assert main(argv) == code
        said = capsys.readouterr()
        (line,) = [line for line in (said.out + said.err).splitlines() if before in line]
        assert line.isprintable()
        words = line.partition(before)[2].removesuffix("\n")
        words = words.partition(after)[0] if after else words
        shell = subprocess.run(["bash", "-c", f"printf '%s\\0' {words}"], capture_output=True, check=True)
        return shell.stdout.decode().split("\0")[:-1]

    return call
