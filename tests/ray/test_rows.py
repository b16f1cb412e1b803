"""Every row has its number, however the files are cut."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.contract.errors import P2Error, UsageError
from p2.ray import rows
from p2.ray.rows import Part


def here(function, arguments):
    return [function(*one) for one in arguments]


TEXTS = st.lists(st.lists(st.text(max_size=12), max_size=30), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(
    texts=TEXTS,
    size=st.integers(1, 9),
    span=st.integers(1, 64),
    block=st.integers(1, 40),
    ending=st.sampled_from(["\n", "\r\n"]),
    last=st.booleans(),
)
def test_any_cut_of_json_lines_has_the_same_rows(tmp_path_factory, texts, size, span, block, ending, last):
    folder = tmp_path_factory.mktemp("rows")
    for number, some in enumerate(texts):
        lines = [json.dumps({"prompt": one} if place % 2 else one) for place, one in enumerate(some)]
        data = ending.join(lines) + (ending if last and lines else "")
        (folder / f"{number}.jsonl").write_bytes(data.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows, "RANGE", span)
        patch.setattr(rows, "_BLOCK", block)
        parts = rows.split(rows.find(folder), size, "prompt", here)
    check(parts, [one for some in texts for one in some], size)


def check(parts: list[Part], texts: list[str], size: int) -> None:
    at = 0
    for part in parts:
        assert part.first == at
        assert 1 <= part.count <= size
        assert list(rows.read(part, "prompt")) == texts[at : at + part.count]
        at += part.count
    assert at == len(texts)
    assert sorted(part.name for part in parts) == [part.name for part in parts]


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("group", [1, 4, 1000])
def test_any_cut_of_parquet_has_the_same_rows(size, group, tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra ray brings it")
    from pyarrow import parquet

    monkeypatch.setattr(rows, "_BATCH", 2)
    texts = [f"text {number}" for number in range(23)]
    for name, some in (("a", texts[:9]), ("b", []), ("c", texts[9:])):
        table = pyarrow.table({"n": list(range(len(some))), "prompt": pyarrow.array(some, pyarrow.string())})
        parquet.write_table(table, tmp_path / f"{name}.parquet", row_group_size=group)
    check(rows.split(rows.find(tmp_path / "*.parquet"), size, "prompt", here), texts, size)


def test_a_file_given_twice_counts_twice(tmp_path):
    (tmp_path / "a.jsonl").write_text('"x"\n"y"\n')
    files = rows.find([tmp_path / "a.jsonl", tmp_path])
    check(rows.split(files, 10, "prompt", here), ["x", "y", "x", "y"], 10)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b'"a"\n\n"b"\n', "line 2 is no JSON"),
        (b'"a"\n{"text": "b"}\n', "row 2 has no text under 'prompt'"),
        (b"[1]\n", "row 1 has no text under 'prompt'"),
        (b'"a"\n"\xff"\n', "line 2 is no JSON"),
        (b"[" * 100_000 + b"\n", "line 1 is no JSON"),
    ],
)
def test_a_bad_line_is_named(data, says, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(data)
    (part,) = rows.split(rows.find(tmp_path), 10, "prompt", here)
    with pytest.raises(P2Error, match=says):
        list(rows.read(part, "prompt"))


def test_what_is_not_there_or_of_no_format(tmp_path):
    with pytest.raises(P2Error, match="there are no prompts in"):
        rows.find(tmp_path)
    (tmp_path / "a.csv").touch()
    with pytest.raises(UsageError, match="neither JSON Lines"):
        rows.find(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("name", "column", "says"),
    [
        ("good", "text", "has no column 'text': it has n, prompt"),
        ("good", "n", "holds int64, not texts"),
        ("cut", "prompt", "is no Parquet file, or is damaged"),
        ("null", "prompt", "row 2 has no text"),
    ],
)
def test_a_bad_table_is_refused(name, column, says, tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: the extra ray brings it")
    from pyarrow import parquet

    path: Path = tmp_path / f"{name}.parquet"
    parquet.write_table(pyarrow.table({"n": [1, 2], "prompt": ["a", None if name == "null" else "b"]}), path)
    if name == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(P2Error, match=says):
        for part in rows.split([str(path)], 10, column, here):
            list(rows.read(part, column))
