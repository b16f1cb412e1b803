"""How `p2 eval` is called: what it prints, and a sentence for every bad call."""

from __future__ import annotations

import gzip
import io
import json
import shutil
from types import SimpleNamespace

import pytest
from rich.console import Console

import p2
from p2.cli import main
from p2.evaluation.report import tables


@pytest.fixture
def text(engine, here):
    (here / "text.txt").write_text("the quick brown fox\n" * 20)


def test_json_is_what_python_has(text, capsys):
    assert main(["eval", "charlm.onnx", "charlm.onnx", "text.txt", "--window", "8", "--json"]) == 0
    said = capsys.readouterr()
    found = p2.evaluate(["charlm.onnx"] * 2, "text.txt", window=8)
    assert json.loads(said.out) == found.to_dict()
    assert said.err == "looking through text.txt\npredicting text.txt\n"
    assert (found.window, found.characters, found.engines[1].difference) == (8, 400, 0.0)
    with p2.load("charlm.onnx") as model:
        bits = model.bits_per_character("the quick brown fox\n" * 20)
    assert p2.evaluate("charlm.onnx", "text.txt").engines[0].score.bits_per_character == pytest.approx(bits)


def test_a_table_of_one_engine_and_of_two(text, capsys):
    assert main(["eval", "charlm.onnx", "text.txt"]) == 0
    one = capsys.readouterr().out
    assert "399 characters predicted" in one
    assert "difference" not in one
    assert "257–512" in one
    assert "line end" in one
    assert main(["eval", "charlm.onnx", "charlm.onnx", "text.txt", "--window", "8"]) == 0
    two = capsys.readouterr().out
    assert "+0.0000" in two
    assert "5–8" in two
    assert "9–16" not in two


def test_eighty_columns_hold_what_tells_engines_apart(text, here):
    (here / "a-folder-of-engines").mkdir()
    names = [f"a-folder-of-engines/charlm.{kind}.onnx" for kind in ("float16", "int8")]
    for name in names:
        shutil.copy("charlm.onnx", name)
    found = p2.evaluate(["charlm.onnx", *names], "text.txt")
    printed = []
    for table in tables(found):
        console = Console(width=80, file=io.StringIO())
        console.print(table)
        printed.append(console.file.getvalue())
    assert "…" not in "".join(printed)
    column = "".join(line[1:].partition("│")[0].strip() for line in printed[0].splitlines())
    assert all(name in column for name in names)


def test_a_compressed_table_is_its_text(text, here, capsys):
    rows = "".join(json.dumps({"id": 1, "text": "the quick brown fox"}) + "\n" for _ in range(20))
    (here / "rows.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    assert main(["eval", "charlm.onnx", "rows.jsonl.gz", "--column", "text", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["engines"][0]
    whole = p2.evaluate("charlm.onnx", "text.txt").engines[0].to_dict()
    assert found["characters"] == whole["characters"] - 1  # no line break after the last row


def test_standard_input_and_characters_that_are_skipped(engine, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"The quick Fox\r\n")))
    assert main(["eval", "charlm.onnx", "-", "--on-unknown", "skip", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["characters"], found["skipped"], found["sources"]) == (12, 2, ["-"])
    assert found["notes"] == ["skipped 2 characters of standard input that a model does not know"]


BAD_CALLS = [
    (["charlm.onnx", "empty.txt"], 1, "empty.txt is too short: it has 0 characters that a model knows"),
    (["charlm.onnx", "one.txt"], 1, "one.txt is too short: it has 1 character that a model knows"),
    (["charlm.onnx", "big.txt", "--on-unknown", "skip"], 1, "big.txt is too short: it has 0 characters"),
    (["charlm.onnx", "big.txt"], 2, "charlm.onnx: the model does not know the character 'Q' (U+0051 LATIN"),
    (["charlm.onnx", "later.txt"], 2, "LATIN CAPITAL LETTER Q) at position 100003; its vocabulary has"),
    (["charlm.onnx", "bytes.txt"], 1, "bytes.txt is not UTF-8 (at byte offset 3, line 1)"),
    (["charlm.onnx", "absent.txt"], 1, "cannot read absent.txt: no such file or folder"),
    (["absent.onnx", "one.txt"], 1, "there is no absent.onnx here"),
    (["one.txt", "charlm.onnx"], 2, "one.txt is no engine"),
    (["charlm.onnx"], 2, "Missing argument"),
    (["charlm.onnx", "big.txt", "--window", "0"], 2, "window must be 1 to "),
    (["charlm.onnx", "one.txt", "--threads", "0"], 2, "threads must be 1 to 256, not 0"),
    (["charlm.onnx", "big.txt", "--on-unknown", "drop"], 2, "on-unknown takes error or skip, not 'drop'"),
    (["charlm.onnx", "big.txt", "--encoding", "utf9"], 2, "unknown --encoding 'utf9'"),
    (
        ["charlm.onnx", "big.txt", "--encoding-errors", "drop"],
        2,
        "encoding-errors takes strict, replace or skip, not 'drop'",
    ),
    (["charlm.onnx", "big.txt", "--backend", "eager"], 2, "--backend eager runs a checkpoint"),
]


@pytest.mark.parametrize(
    ("argv", "code", "words"), BAD_CALLS, ids=lambda v: " ".join(v) if isinstance(v, list) else ""
)
def test_bad_calls_are_answered(argv, code, words, engine, here, fails):
    (here / "empty.txt").write_text("")
    (here / "one.txt").write_text("a")
    (here / "big.txt").write_text("QQ")
    (here / "later.txt").write_text("the " * 25_000 + "a\nbQ")
    (here / "bytes.txt").write_bytes(b"the\xff fox")
    assert words in fails("eval", *argv, code=code)


def test_values_that_only_python_can_give(here):
    with pytest.raises(p2.UsageError, match="name at least one engine"):
        p2.evaluate([], "text.txt")
    with pytest.raises(p2.UsageError, match="window must be a whole number"):
        p2.evaluate("charlm.onnx", "text.txt", window=2.5)


def test_a_backend_is_for_the_engines_of_its_kind(tiny_run, here, capsys):
    p2.export(tiny_run, engine="none", out=here / "charlm.onnx")
    (here / "text.txt").write_text("the fox\n")
    assert (
        main(["eval", str(tiny_run), "charlm.onnx", "text.txt", "--backend", "onnxruntime-cpu", "--json"])
        == 0
    )
    eager, other = json.loads(capsys.readouterr().out)["engines"]
    assert eager["engine"].startswith("eager PyTorch")
    assert other["engine"].startswith("ONNX Runtime")
    assert abs(other["difference"]) < 1e-5
