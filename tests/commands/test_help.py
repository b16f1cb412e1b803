"""The help of the commands: options by topic, laid out to be read in wide and narrow windows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from p2.cli import app, main

# Two options of each panel, one of them the first: that a panel is there, and holds what its name says.
PANELS = {
    "train": {
        "Arguments": "TEXT",
        "Preset": "--preset",
        "Model": "--cell --hidden",
        "Text": "--encoding --vocab-from",
        "Learning": "--steps --lr",
        "Schedule": "--schedule --warmup",
        "Regularisation": "--dropout --ema",
        "Run": "--out --resume",
        "Options": "--help",
    },
    "import": {
        "Arguments": "source",
        "Vocabulary": "--vocab --vocab-from",
        "Tensors": "--mapping --print-mapping",
        "Result": "--out",
        "Options": "--help",
    },
    "export": {
        "Arguments": "checkpoint",
        "Graph": "--fp16 --precision",
        "Plan": "--engine --batch",
        "Triton": "--triton",
        "Web": "--web --ort-web",
        "Options": "--help",
    },
    "generate": {
        "Engine": "--engine --backend",
        "Prompt": "--prompt --on-unknown",
        "Choice": "--temperature --seed",
        "Output": "--length --jsonl",
        "Options": "--help",
    },
    "bench": {
        "Arguments": "MODEL",
        "What is measured": "--shape --precisions",
        "How": "--quick --threads",
        "Report": "--out",
        "Options": "--help",
        "Commands": "compare",
    },
    "practical text": {
        "Arguments": "BOOK",
        "Model": "--hidden --layers",
        "Text": "--characters --encoding",
        "Learning": "--steps --lr",
        "Writing": "--prompt --backend",
        "Run": "--quick --out",
        "Options": "--help",
    },
}


def sections(help_text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in help_text.splitlines():
        if re.fullmatch(r"[A-Z][a-z ]+:", line):
            found[line[:-1]] = []
        elif line and found:
            found[[*found][-1]].append(line)
    return found


@pytest.mark.parametrize("width", [50, 80, 200])
@pytest.mark.parametrize("command", PANELS)
def test_help_is_in_panels_and_fits(command, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([*command.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= min(width, 80)
    found = sections(shown)
    assert [*found] == [*PANELS[command]]
    for panel, names in PANELS[command].items():
        heads = [line for line in found[panel] if re.match(r"  \S", line)]
        assert [name for name in names.split() if not any(name in head for head in heads)] == []
    (last,) = [line for line in found["Options"] if re.match(r"  \S", line)]
    assert last.startswith("  -h, --help")  # every other option is in a panel


@pytest.mark.parametrize("command", PANELS)
def test_columns_line_up_from_panel_to_panel(command, capsys, monkeypatch):
    """Or, where two do not fit, every text begins below its name."""
    for width in (50, 80):
        monkeypatch.setenv("COLUMNS", str(width))
        assert main([*command.split(), "--help"]) == 0
        panels = sections(capsys.readouterr().out)
        panels.pop("Commands", None)
        lines = [line for panel in panels.values() for line in panel]
        beside = {at.end() for line in lines if (at := re.match(r"  \S.*?\S {2,}(?=\S)", line))}
        below = {len(line) - len(line.lstrip()) for line in lines if line.startswith("   ")}
        assert len(beside | below) == 1, (width, beside, below)
        assert bool(beside) == (width == 80)


def commands(group: Any = None, name: str = "") -> Iterator[tuple[str, Any]]:
    group = group or typer.main.get_command(app)
    for own, command in getattr(group, "commands", {}).items():
        yield f"{name} {own}", command
        yield from commands(command, f"{name} {own}")


def test_what_is_written_is_named_the_same_everywhere():
    named = {name: p.opts for name, command in commands() for p in command.params if p.name == "out"}
    assert len(named) > 6
    assert [name for name, options in named.items() if {*options} != {"--out", "-o"}] == []
