"""One text in whatever holds it, block by block, and the answer to what cannot be read."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2.contract.errors import BackendMissing, P2Error
from p2.trainer import unfolding
from p2.trainer.corpus import load
from p2.trainer.reader import Reader

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

FOLDED: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
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
    column = rows if isinstance(rows, pa.Array) else pa.array(rows, kind)
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
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


def test_a_folder_gives_its_compressed_texts_or_its_tables(tmp_path: Path) -> None:
    for name in ("a.txt", "b.md.gz", "c.TXT.XZ", "d.txt.zst", "e.jsonl", "f.ndjson.gz", "g.bin.gz", "h.gz"):
        write(tmp_path / name, b'{"text": "x"}')
    table(tmp_path / "i.parquet", ["x"])
    texts, tables = Reader([str(tmp_path)]), Reader([str(tmp_path)], column="text")
    assert [Path(name).name for name in texts.sources] == ["a.txt", "b.md.gz", "c.TXT.XZ", "d.txt.zst"]
    assert [Path(name).name for name in tables.sources] == ["e.jsonl", "f.ndjson.gz", "i.parquet"]
    assert texts.notes == [f"left out of {tmp_path}: 5 files of other kinds (.gz, .jsonl, .parquet)"]
    assert "".join(tables) == "x\nx\nx"
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        P2Error, match=r"holds no table \(\.jsonl, \.ndjson, \.parquet\): for files of another"
    ):
        Reader([str(tmp_path / "empty")], column="text")


@pytest.mark.parametrize("fold", list(FOLDED.values())[1:], ids=list(FOLDED)[1:])
def test_several_streams_in_a_file_and_a_pipe(fold: Callable, piped: Callable[[bytes], None]) -> None:
    """What `cat a.gz b.gz` writes."""
    piped(fold(b"abc\n") + fold(b"") + fold(b"xyz") + b"\0" * 8 * (fold is not FOLDED["zstd"]))
    assert read("-") == "abc\nxyz"


@pytest.mark.parametrize("fold", list(FOLDED.values())[1:], ids=list(FOLDED)[1:])
def test_a_compressed_file_that_is_cut_short_or_damaged(tmp_path: Path, fold: Callable) -> None:
    """Wherever it is cut, and whatever byte is changed: the text, or one sentence about the file."""
    data = fold("".join(f"{n * n % 977} words\n" for n in range(3000)).encode())
    path = tmp_path / "a"
    for end in {8, 9, len(data) // 2, len(data) - 9, len(data) - 1}:
        said = refusal(write(path, data[:end]))
        assert re.fullmatch(r".*/a is cut short: it ends in the middle of its (gzip|xz|zstd) data", said), end
    assert re.search(
        r"^cannot read .*: its (gzip|xz|zstd) data does not unfold \(",
        refusal(write(path, data + b"garbage" * 3)),
    )
    whole = read(write(path, data))
    for place in range(8, len(data), len(data) // 60):
        found, said = whole, "/a is whole"
        try:
            found = read(write(path, data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]))
        except P2Error as error:
            said = str(error)
        # gzip's header has a time and a name; zstd as Arrow writes it has no checksum.
        assert found == whole or fold is FOLDED["zstd"]
        assert re.search("^cannot read .*/a: |/a (is|holds) ", said)


def test_what_is_compressed_twice_is_told(tmp_path: Path) -> None:
    for fold in list(FOLDED.values())[1:]:
        name = write(tmp_path / "a", FOLDED["gzip"](fold(b"abc")))
        assert refusal(name) == f"{name} is compressed twice: unpack its gzip data once"
    inner = Path(table(tmp_path / "b.parquet", ["x"])).read_bytes()
    said = refusal(write(tmp_path / "a", FOLDED["xz"](inner)), column="text")
    assert said.endswith("is a Parquet file inside xz data: unpack it first")
    said = refusal(write(tmp_path / "a", FOLDED["xz"](b"P2TOKENS" + bytes(56))))
    assert said.endswith("is a token file inside xz data: unpack it first")


@pytest.mark.parametrize("kind", ["gzip", "xz", "zstd", "jsonl", "parquet"])
def test_a_bomb_is_refused_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """By the rule, with a smaller allowance; the memory that it took is far less than what it holds."""
    monkeypatch.setattr(unfolding, "FREE", 1 << 20)
    size = 16 << 20
    if kind == "parquet":
        rows = pa.DictionaryArray.from_arrays(pa.array([0] * (size >> 15), pa.int32()), ["x" * (1 << 15)])
        parquet.write_table(pa.table({"text": rows}), tmp_path / "a")
        name, column = str(tmp_path / "a"), "text"
    elif kind == "jsonl":
        name, column = write(tmp_path / "a", FOLDED["gzip"](b'{"text": "' + b"x" * size)), "text"
    else:
        name, column = write(tmp_path / "a", FOLDED[kind](b"x" * size)), None
    tracemalloc.start()
    try:
        said = refusal(name, column=column)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "/a unfolds to more than 250 times its size (" in said
    assert peak < size // 2


def test_xz_that_asks_for_a_large_dictionary_is_refused(tmp_path: Path) -> None:
    data = bytearray(lzma.compress(b"abc", filters=[{"id": lzma.FILTER_LZMA2, "preset": 9}]))
    assert read(write(tmp_path / "a.xz", bytes(data))) == "abc"
    # The dictionary's size is a byte of the block's header (34: 512 MiB), which ends with its CRC-32.
    start, length = 12, (data[12] + 1) * 4
    data[start + 4] = 34
    data[start + length - 4 : start + length] = zlib.crc32(data[start : start + length - 4]).to_bytes(
        4, "little"
    )
    said = refusal(write(tmp_path / "a.xz", bytes(data)))
    assert "its xz data does not unfold (memory usage limit exceeded)" in said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"plain words", "line 3 is no JSON: expecting value at column 1"),
        (b'{"text": "a"', "line 3 is no JSON: expecting ',' delimiter at column 13"),
        (b'["text"]', "line 3 is no JSON object: --column takes a value out of each"),
        (b'{"id": 2, "Text": "a"}', "line 3 has no 'text'; it has id, Text"),
        (b"{}", "line 3 has no 'text'; it has none"),
        (b'{"\\udfff\\u001b[2J": 1}', r"line 3 has no 'text'; it has \udfff\x1b[2J"),
        (b'{"text": 7}', "line 3: 'text' is a number, not a text"),
        (b'{"text": ["a"]}', "line 3: 'text' is a list, not a text"),
        (b'{"text": true}', "line 3: 'text' is true or false, not a text"),
        (b'{"text": "a\\u0000"}', "line 3 holds a zero character, as no text does"),
        (b'{"text": "a\\ud800"}', "line 3 holds U+D800: half of a surrogate pair, which is no character"),
        (b'{"n": ' + b"9" * 5000 + b"}", "line 3 is no JSON: a number has too many digits"),
        (b"[" * 200_000, "line 3 is no JSON: it is nested too deep"),
        (b"caf\xe9", "is not UTF-8 (at byte offset 19, line 3)"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, line: bytes, said: str) -> None:
    name = write(tmp_path / "a.jsonl", b'{"text": "a"}\r\n\n' + line + b'\n{"text": "b"}\n')
    assert said in refusal(name, column="text").replace(f"{name}, ", "")
    assert refusal(write(tmp_path / "b.gz", gzip.compress(Path(name).read_bytes())), column="text").count(
        said
    )


def test_a_line_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2.trainer.tables.LONGEST", 100_000)
    name = write(tmp_path / "a.jsonl", b'{"text": "a"}\n{"text": "' + b"a" * 300_000)
    assert refusal(name, column="text") == f"{name}, line 2 is longer than 100,000 characters"


def test_rows_without_a_text_are_counted(tmp_path: Path) -> None:
    rows = ["a", None, "", None, "b\r\n", "c"]
    jsonl, other = (
        write(tmp_path / "a.jsonl", lines(rows)),
        table(tmp_path / "b.parquet", rows, row_group_size=2),
    )
    reader = Reader([jsonl, other], column="text")
    assert "".join(reader) == "a\n\nb\nc\na\n\nb\nc"
    assert reader.notes == [f"rows without a text (null) were left out: 2 in {jsonl}, 2 in {other}"]
    nothing = table(tmp_path / "c.parquet", [None], pa.string())
    for name in (nothing, table(tmp_path / "d.parquet", [], pa.string()), write(tmp_path / "e.jsonl", b"")):
        with pytest.raises(P2Error, match=r"there is no text in .*: it is empty or blank"):
            load([name], column="text")


def test_a_parquet_file_that_does_not_fit(tmp_path: Path, piped: Callable[[bytes], None]) -> None:
    name = table(tmp_path / "a.parquet", ["x", "y"])
    assert refusal(name) == f"{name} is a Parquet file: --column says which of its columns to read"
    assert refusal(name, column="body") == f"{name} has no column 'body'; it has id, text"
    assert refusal(name, column="id") == f"{name}: the column 'id' holds int64, not strings"
    for rows, kind in (
        ([["a"]], "list<element: string>"),
        ([b"a"], "binary"),
        ([{"a": "b"}], "struct<a: string>"),
    ):
        other = table(tmp_path / "b.parquet", rows)
        assert refusal(other, column="text") == f"{other}: the column 'text' holds {kind}, not strings"
    same = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    parquet.write_table(same, tmp_path / "c.parquet")
    assert "has 2 columns 'text'" in refusal(str(tmp_path / "c.parquet"), column="text")
    zero = table(tmp_path / "d.parquet", ["x", "a\0"])
    assert refusal(zero, column="text") == f"{zero}, row 1 holds a zero character, as no text does"
    parquet.write_table(
        pa.table({"text": pa.array([b"a", b"\xff"]).view(pa.string())}), tmp_path / "e.parquet"
    )
    assert refusal(str(tmp_path / "e.parquet"), column="text").endswith("e.parquet, row 1 is not UTF-8")
    data = Path(name).read_bytes()
    piped(data)
    assert "holds a Parquet file, which is not read from front to back" in refusal("-", column="text")
    cut = [data[:end] for end in (5, len(data) // 2, len(data) - 1)]
    for damaged in (*cut, data.replace(b"text", b"te\xfft")):
        assert "is a damaged Parquet file: " in refusal(write(tmp_path / "f", damaged), column="text")


def test_a_parquet_file_with_any_byte_changed(tmp_path: Path) -> None:
    rows = [f"{n * n % 977} words" for n in range(300)]
    data = Path(table(tmp_path / "a.parquet", rows, write_page_checksum=True)).read_bytes()
    for place in range(4, len(data), len(data) // 40):
        name = write(tmp_path / "b.parquet", data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        said = "b.parquet"
        try:
            read(name, column="text")
        except P2Error as error:
            said = str(error)
        assert "b.parquet" in said


def test_each_of_several_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    names = [write(tmp_path / f"{kind}.txt", fold(b"abc" * 99)) for kind, fold in FOLDED.items()]
    cut = write(tmp_path / "z1.txt", FOLDED["gzip"](b"abc" * 99)[:-9])
    stray = write(tmp_path / "z2.txt", FOLDED["xz"]("“a” ".encode() * 9 + b"\x97\n"))
    reader = Reader([cut, *names, stray])
    with pytest.raises(P2Error, match="2 of 6 files cannot be read") as caught:
        list(reader)
    assert "z1.txt is cut short" in caught.value.__notes__[0]
    assert "z2.txt is UTF-8 but for 1 byte" in caught.value.__notes__[1]


@pytest.mark.parametrize("what", ["zstd", "parquet"])
def test_what_needs_pyarrow_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "zstd" and sys.version_info >= (3, 14):
        pytest.skip("the standard library reads zstd")
    name = write(tmp_path / "a", FOLDED["zstd"](b"abc")) if what == "zstd" else table(tmp_path / "a", ["x"])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(BackendMissing, match=r"/a is .*, which pyarrow reads.*: pip install .*\[data\]"):
        read(name, column="text" if what == "parquet" else None)


def test_a_large_file_in_another_encoding_is_told_by_what_is_around_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is not read twice, nor kept; line and offset are those of the whole."""
    monkeypatch.setattr("p2.trainer.faults._BEFORE", 1 << 16)
    monkeypatch.setattr("p2.trainer.faults._AFTER", 1 << 17)
    before = "plain words\r\n" * 20_000
    german = TEXT.encode("cp1252") * 200
    said = refusal(write(tmp_path / "a.txt", before.encode() + german))
    assert said.endswith(
        f"a.txt is not UTF-8 (at byte offset {len(before):,}, line 20,001): it is probably cp1252, which"
        " --encoding cp1252 reads"
    )
    strays = ("“a” " * 9 + "\n").encode() + b"\x97\n"
    said = refusal(write(tmp_path / "a.txt", before.encode() + strays * 20_000))
    assert re.search(r"is UTF-8 but for at least \d,\d{3} bytes, the first \(0x97\) at byte", said)
    assert "line 20,002:" in said
