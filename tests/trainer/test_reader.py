"""One text in whatever holds it, block by block, and the answer to what cannot be read."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2.contract.errors import P2Error
from p2.trainer import unfolding
from p2.trainer.corpus import load
from p2.trainer.reader import Reader

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FOLDED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}
TEXT = "Über die Brücke läuft ein schöner Mann, er grüßt.\n" * 40

# Any text that a file may hold, with the line ends that are made one.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff") | st.sampled_from("\r\n"),
    min_size=1,
)


def lf(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def lines(rows: list[object], column: str = "text") -> bytes:
    return "".join(json.dumps({"id": 1, column: row}) + "\n" for row in rows).encode()


def table(path: Path, rows: list[object], kind: object = None, **options: object) -> str:
    column = pa.array(rows, kind) if kind is not None else pa.array(rows)
    parquet.write_table(pa.table({"id": list(range(len(rows))), "text": column}), path, **options)
    return str(path)


def read(*texts: str, **how: object) -> str:
    return "".join(Reader(list(texts), **how))


def refusal(*texts: str, **how: object) -> str:
    with pytest.raises(P2Error) as caught:
        read(*texts, **how)
    return str(caught.value)


@pytest.mark.parametrize("fold", FOLDED.values(), ids=FOLDED)
@given(TEXTS, st.integers(1, 9), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_out_of_any_file_at_any_borders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fold: Callable, text: str, block: int, mark: bool
) -> None:
    """The block is a few bytes long, so that characters, CRLF and the byte-order mark are cut apart."""
    with monkeypatch.context() as patch:
        for module in (unfolding, sys.modules["p2.trainer.reader"]):
            patch.setattr(module, "BLOCK", block)
        name = write(tmp_path / "a", fold((b"\xef\xbb\xbf" if mark else b"") + text.encode()))
        blocks = list(Reader([name]))
    assert "".join(blocks) == lf(text)
    assert all(blocks)


@given(st.lists(TEXTS, min_size=1, max_size=6))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_rows_are_joined_as_files_are(tmp_path: Path, rows: list[str]) -> None:
    names = [write(tmp_path / f"{index}.txt", row.encode()) for index, row in enumerate(rows)]
    expected = lf("".join(row if row.endswith(("\n", "\r")) else f"{row}\n" for row in rows[:-1]) + rows[-1])
    assert read(*names) == expected
    jsonl = write(tmp_path / "a.jsonl", lines(rows))
    assert read(jsonl, column="text") == expected
    assert read(table(tmp_path / "a.parquet", rows), column="text") == expected


def test_the_same_text_is_the_same_corpus_whatever_held_it(tmp_path: Path) -> None:
    plain = load([write(tmp_path / "a.txt", TEXT.encode())])
    rows = TEXT.splitlines(keepends=True)
    held = {
        "a.gz": FOLDED["gzip"](TEXT.encode()),
        "a.xz": FOLDED["xz"](TEXT.encode()),
        "a.zst": FOLDED["zstd"](TEXT.encode()),
    }
    tables = {
        "a.jsonl": lines(rows),
        "a.jsonl.gz": FOLDED["gzip"](lines(rows)),
        "a.ndjson.zst": FOLDED["zstd"](b"\xef\xbb\xbf" + lines(rows).replace(b"\n", b"\r\n\n")),
    }
    found = [load([write(tmp_path / name, data)]) for name, data in held.items()]
    found += [load([write(tmp_path / name, data)], column="text") for name, data in tables.items()]
    for name, kind, options in (
        ("a.parquet", pa.string(), {"row_group_size": 7}),
        ("b.parquet", pa.large_string(), {"compression": "zstd"}),
        ("c.parquet", pa.dictionary(pa.int32(), pa.string()), {}),
    ):
        found.append(load([table(tmp_path / name, rows, kind, **options)], column="text"))
    for corpus in found:
        assert (corpus.sha256, corpus.vocabulary) == (plain.sha256, plain.vocabulary), corpus.sources
        assert corpus.tokens.dtype == plain.tokens.dtype
        assert (corpus.tokens == plain.tokens).all()


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[bytes], None]]:
    """Put bytes into a pipe that is standard input."""
    files = []

    def put(data: bytes) -> None:
        end, begin = os.pipe()
        files.append(os.fdopen(end, "rb"))
        with os.fdopen(begin, "wb") as file:
            file.write(data)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=files[-1]))

    yield put
    for file in files:
        file.close()


def test_pieces_are_the_text_that_is_loaded(tmp_path: Path, piped: Callable[[bytes], None]) -> None:
    lines = "oné\n" * 9000  # more than a block
    data = b"\xef\xbb\xbf" + lines.replace("\n", "\r\n").encode()
    names = [write(tmp_path / "a.txt", data * 2), write(tmp_path / "b.txt", b"bbb")]
    piped(data)
    reader = Reader([*names, "-"])
    whole = "".join(reader)
    assert whole == f"{lines}\ufeff{lines}bbb\n{lines}"
    assert load(names).text + "\n" + lines == whole
    assert reader.notes == []
    assert reader.size() is None
    assert reader.read_bytes == 3 * len(data) + 3


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b"abc\xff" + bytes(range(1, 99)),
            "standard input is not UTF-8 (at byte offset 3, line 1), and its encoding cannot be guessed",
        ),
        (b"abc\0", "standard input is a binary file, not a text"),
    ],
)
def test_a_stream_that_cannot_be_read_is_refused(
    data: bytes, said: str, piped: Callable[[bytes], None]
) -> None:
    piped(data)
    with pytest.raises(P2Error, match=re.escape(said)):
        read("-")
