"""Commands that a shell reads as they were meant, whatever a folder is called."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from p2.contract import shell
from p2.contract.plan import FLAVOURS
from p2.runtime.installed import PACKAGES

ROOT = Path(__file__).parent.parent.parent.resolve()
# What p2 says to people: its code and its pages, without the reports, which keep what was said on their day.
SOURCES = [
    path
    for pattern in ("*.py", "*.md", "Makefile")
    for path in ROOT.rglob(pattern)
    if not {"tests", ".venv", "build"} & {*path.relative_to(ROOT).parts}
    and not path.with_suffix(".json").exists()
]

HOSTILE = ["plain", "two words", "; rm x", "$(rm x)", "`rm x`", "it's", '"', "*", "~", "#", "é", "a\\b"]
BREAKING = ["a\nb", "a\rb", "\x1b[31mred", "tab\there", "it's\n", "\u202ereverse", "a\u2028b", "bad\udcff"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_shell_reads_the_words_that_were_given(name):
    assert shlex.split(shell.command("p2", "export", name)) == ["p2", "export", name]
    assert shlex.split(shell.command("p2", "export", Path(f"-{name}"))) == ["p2", "export", f"./-{name}"]


def test_what_would_break_a_line_stays_on_one_and_is_read_by_bash():
    line = "printf '%s\\0' " + shell.command(*BREAKING)
    assert shell.printable(line) == line
    assert line.isascii()
    said = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert said.split(b"\0")[:-1] == [os.fsencode(name) for name in BREAKING]


def test_what_cannot_be_seen_is_shown_as_its_escape():
    assert shell.printable("cannot read a\nb: \x1b[31m") == r"cannot read a\nb: \x1b[31m"
    assert shell.printable("\u202eé\u2028😀") == r"\u202eé\u2028😀"


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """Installed from a folder, away from it: ``installed(url)``."""
    monkeypatch.setattr(shell, "PACKAGE", tmp_path / "site-packages" / "p2")

    def say(url: str | None) -> None:
        import importlib.metadata as metadata
        from types import SimpleNamespace

        found = SimpleNamespace(read_text=lambda _: url and f'{{"url": "{url}", "dir_info": {{}}}}')
        monkeypatch.setattr(metadata, "distribution", lambda _: found)

    return say


def test_pip_is_told_the_folder_that_p2_came_from(installed, tmp_path, monkeypatch):
    source = tmp_path / "my p2"
    source.mkdir()
    (source / "pyproject.toml").touch()
    installed(f"file://{tmp_path}/my%20p2")
    assert shlex.split(shell.install("cpu", "train")) == ["pip", "install", f"{source}[cpu,train]"]
    monkeypatch.chdir(source)
    assert shell.install("gpu") == "pip install '.[gpu]'"
    assert shell.install(anew=True) == "pip install --force-reinstall --no-deps ."


@pytest.mark.parametrize("url", [None, "file:///nowhere", "https://example.org/p2.whl"])
def test_an_installed_wheel_is_named_by_its_distribution(url, installed):
    installed(url)
    assert shell.install("gpu", "train") == "pip install 'p2-charlm[gpu,train]'"
    assert shell.install(anew=True) == "pip install --force-reinstall --no-deps . in p2's folder"


def test_where_nothing_is_known_the_words_say_which_folder(tmp_path, monkeypatch):
    """Run from a copy that has no pyproject.toml, next to whatever is installed under p2's old name."""
    monkeypatch.setattr(shell, "PACKAGE", tmp_path)
    monkeypatch.setattr(shell, "DISTRIBUTION", "a-name-that-is-not-installed")
    assert shell.install("gpu") == "pip install '.[gpu]' in p2's folder"


def test_advice_names_what_pyproject_names():
    """`make wheel-check` runs one. Here: pip's name, and every extra asked for, are those of the project."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == shell.DISTRIBUTION
    code = "".join(path.read_text() for path in SOURCES if path.suffix == ".py")
    extras = {flavour.extra for flavour in FLAVOURS.values()} | set(PACKAGES.values()) - {""}
    extras |= set(re.findall(r"\b(?:install|needing)\(\"(\w+)\"", code))
    assert {"cpu", "gpu", "rtx", "train"} <= extras <= project["optional-dependencies"].keys()


def test_a_checkout_stays_one():
    assert shlex.split(shell.install("rtx")) in (
        ["pip", "install", "--editable", f"{ROOT}[rtx]"],
        ["pip", "install", "--editable", ".[rtx]"],
    )


def test_no_advice_installs_the_strangers_package():
    """The name p2 in the package index is not this p2."""
    advice = re.compile(r"pip install[^\n`|]*\bp2(\[|['\"\s)]|$)|['\"]p2\[")
    assert advice.search("pip install 'p2[gpu]'")
    assert not advice.search("pip install 'p2-charlm[gpu]'")
    assert not [path for path in SOURCES if advice.search(path.read_text())]


def test_no_command_is_put_together_without_quoting():
    """A name in a command that is shown goes through `command`: none is a part of the string."""
    words = r"train|export|generate|parity|inspect|bench|practical"
    raw = re.compile(rf"(next: |to go on: |`|: )p2 (?:{words})[^`\n\"]*\{{(?!batch|command)")
    assert not [path for path in SOURCES if path.suffix == ".py" and raw.search(path.read_text())]
