"""The Markdown and terminal forms of the report."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from p2.bench.html import page
from p2.bench.markdown import summary, table, terminal
from p2.bench.reading import load

COMMITTED = sorted((Path(__file__).parents[3] / "artifacts/bench").glob("*.json"))


def shown(document, width=200):
    out = io.StringIO()
    terminal(document, Console(file=out, width=width))
    return out.getvalue()


def cells(line):
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_table_has_the_figures(judged):
    text = table(judged(512))
    rows = {cells(line)[0]: cells(line) for line in text.splitlines() if line.startswith("| ")}
    # 512: 12 * 512 ** 2 float32 weights in 125 µs are 100.7 GB/s, of 32.
    assert rows["p2 float32"] == [
        "p2 float32",
        "float32",
        "8,000",
        "125",
        "175",
        "16.0×",
        "314.6 %",
        "1.5000",
    ]
    assert rows["nn.LSTM, eager PyTorch"][5] == "1.00×"
    assert rows["p2 int8"][-1] == "1.5004"
    assert "- ONNX Runtime, CUDA: no NVIDIA GPU" in text
    assert rows["float32, times eager PyTorch"][1:4] == ["≥ 10×", "16.0×", "reached"]
    assert rows["p2 --help, from the shell"][3] == "reached"
    assert rows["GPU, first character of a small model, caches warm"][3:] == [
        "not judged",
        "no NVIDIA GPU",
    ]
    assert "Imaginary 9000, 2 processors, Linux x86\\_64. p2 1.2.3" in text


def test_every_row_is_as_wide_as_its_heading(judged):
    for block in table(judged(512, 2048)).split("\n\n"):
        widths = {len(cells(line)) for line in block.splitlines() if line.startswith("|")}
        assert len(widths) <= 1


def test_markdown_shows_names_as_they_are(bench):
    document = bench.document(bench.model(512, name="a|b_*c*<br>\n# `x`"))
    bench.of(document["models"][0], "openvino")["title"] = "x | y\\"
    text = table(document)
    assert "### a\\|b\\_\\*c\\*\\<br\\>�\\# \\`x\\`: LSTM, 2 layers, hidden 512" in text
    assert "| x \\| y\\\\ | float32 |" in text


def test_nothing_measured(bench):
    document = bench.emptied(bench.document(bench.model(512)))
    text = table(document)
    assert "- p2 float32: its speed was not measured" in text
    assert "| contender |" not in text
    assert "more: its speed was not measured" in shown(document)  # one line for all that share the reason
    assert shown(bench.document()).strip() == "No target could be judged."
    assert "Machine not known" in table(bench.document(machine={}))


def test_the_terminal_shows_the_same(judged):
    text = shown(judged(512, 2048))
    for word in ("LSTM, 2 layers, hidden 2,048", "8,000", "16.0×", "314.6 %", "no NVIDIA GPU", "missed"):
        assert word in text


def test_a_reason_that_many_share_is_one_line(judged):
    document = judged(512)
    entries = document["models"][0]["entries"]
    for entry in entries[-3:]:
        entry["characters_per_second"], entry["skipped"] = None, "it needs an NVIDIA GPU"
    said = shown(document)
    assert said.count("it needs an NVIDIA GPU") == 1
    assert f"{entries[-3]['title']} and 2 more: it needs an NVIDIA GPU" in said


def test_the_terminal_takes_no_markup_from_the_document(bench):
    document = bench.document(bench.model(512, name="[red]x[/red] [/]"))
    bench.of(document["models"][0], "openvino")["title"] = "[bold]y[/] [/nothing]"
    text = shown(document)
    assert "[red]x[/red] [/]" in text
    assert "[bold]y[/] [/nothing]" in text


def test_the_summary_counts_what_was_judged(bench):
    kept = {"what": "", "goal": "", "measured": "", "note": ""}
    verdicts = [True, False, None, True]
    document = bench.document(targets=[{**kept, "reached": reached} for reached in verdicts])
    assert summary(document) == "2 of 3 targets reached; 1 not judged, the notes say why."


def test_it_says_when_ratios_are_not_those_of_the_medians(bench, judged):
    document = judged(512)
    told = "this is not the ratio of the medians"
    forms = (table, page, lambda d: " ".join(shown(d).split()))
    assert not any(told in form(document) for form in forms)
    bench.of(document["models"][0], "openvino")["beside"] = bench.beside([9000.0] * 5, [])
    assert [told in form(document) for form in forms] == [True] * 3


@pytest.mark.parametrize("report", COMMITTED, ids=lambda path: path.stem)
def test_the_committed_reports_are_read_and_their_tables_are_theirs(report):
    assert table(load(report)) == report.with_suffix(".md").read_text()
