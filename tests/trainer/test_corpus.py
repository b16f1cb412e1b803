"""Reading texts: what is kept, what is refused, and what the refusal says."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2.contract.errors import P2Error, UsageError
from p2.trainer.corpus import BUILT_IN, load
from p2.trainer.windows import Lanes, RandomWindows, split

GERMAN = "Über die Brücke läuft ein schöner Mann, er grüßt.\n" * 40
RUSSIAN = "Привет мир, как дела у вас сегодня? Хорошо, спасибо.\n" * 20


def write(path: Path, data: bytes | str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def test_without_a_text_it_is_the_documentation_inside_python() -> None:
    from pydoc_data.topics import topics

    corpus = load([])
    assert corpus.sources == (BUILT_IN,)
    assert len(corpus.text) == sum(map(len, topics.values())) + len(topics) - 1
    assert 400_000 < len(corpus.text) < 600_000
    assert 90 < len(set(corpus.text)) < 130
    first, second = sorted(topics)[:2]
    assert corpus.text.startswith(f"{topics[first]}\n{topics[second]}")


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\ufeff"), min_size=1).filter(
        str.strip
    )
)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_utf8_is_kept_exactly(tmp_path: Path, text: str) -> None:
    corpus = load([write(tmp_path / "a.txt", text)])
    assert corpus.text == text
    assert corpus.sha256 == hashlib.sha256(text.encode()).hexdigest()


def test_mark_and_line_ends(tmp_path: Path) -> None:
    name = write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree\n\r\n")
    assert load([name]).text == "one\ntwo\nthree\n\n"


def test_files_are_joined_in_order_and_counted_once(tmp_path: Path) -> None:
    b, a = write(tmp_path / "b.txt", "bbb"), write(tmp_path / "a.txt", "aaa\n")
    corpus = load([b, a, b, str(tmp_path / "*.txt")])
    assert corpus.text == "bbb\naaa\n"
    assert corpus.sources == (b, a)


def test_a_folder_gives_its_texts_sorted_and_no_hidden_ones(tmp_path: Path) -> None:
    for name in ("z.txt", "sub/c.MD", "a.rst", "picture.png", ".hidden.txt", ".git/x.txt"):
        write(tmp_path / "d" / name, f"[{name}]")
    corpus = load([str(tmp_path / "d")])
    assert corpus.text == "[a.rst]\n[sub/c.MD]\n[z.txt]"
    assert [Path(source).name for source in corpus.sources] == ["a.rst", "c.MD", "z.txt"]


def test_a_pattern_takes_any_suffix_and_folders_below(tmp_path: Path) -> None:
    write(tmp_path / "one.c", "1\n")
    write(tmp_path / "deep" / "two.c", "2\n")
    assert load([f"{tmp_path}/**/*.c"]).text == "2\n1\n"


def test_a_file_whose_name_looks_like_a_pattern(tmp_path: Path) -> None:
    assert load([write(tmp_path / "notes [1].txt", "hello")]).text == "hello"


def test_standard_input(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO("Grüße\r\n".encode())))
    corpus = load(["-", write(tmp_path / "a.txt", "a")])
    assert corpus.text == "Grüße\na"
    assert corpus.sources[0] == "-"
    assert corpus.describe().startswith("standard input, ")


def test_many_files_are_described_shortly(tmp_path: Path) -> None:
    for index in range(8):
        write(tmp_path / f"{index}.txt", "a\n")
    assert load([str(tmp_path)]).describe().endswith("4.txt and 3 more files")


@pytest.mark.parametrize(
    ("text", "encoding"), [(GERMAN, "latin-1"), (RUSSIAN, "cp1251"), (RUSSIAN, "utf-16")]
)
def test_another_encoding_is_named_and_then_read(tmp_path: Path, text: str, encoding: str) -> None:
    data = text.encode(encoding)
    name = write(tmp_path / "a.txt", data)
    with pytest.raises(P2Error) as caught:
        load([name])
    message = str(caught.value)
    assert name in message
    first_bad = next(index for index, byte in enumerate(data) if byte >= 0x80)
    assert f"byte offset {first_bad}" in message
    guess = message.rpartition("--encoding ")[2].removesuffix(" reads")
    assert load([name], guess).text == text


def test_the_wrong_encoding_is_told_the_right_one(tmp_path: Path) -> None:
    name = write(tmp_path / "a.txt", "x" * 10 + GERMAN)
    with pytest.raises(P2Error, match=r"is not ascii \(at byte offset 10, line 1\): it is probably utf-8"):
        load([name], "ascii")


def test_bytes_that_are_no_text_in_any_encoding(tmp_path: Path) -> None:
    name = write(tmp_path / "a.txt", bytes(range(1, 256)) * 9)
    with pytest.raises(P2Error, match=r"is not UTF-8 \(at byte offset 127, line 3\)"):
        load([name])


@pytest.mark.parametrize("data", [b"\x7fELF\x02\x01\x01\0\0\0\xff\xfe", b"plain\0text", b"\xff\0\xff\0"])
def test_a_binary_file(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(P2Error, match=r"a\.bin is a binary file, not a text"):
        load([write(tmp_path / "a.bin", data)])


@pytest.mark.parametrize("data", [b"", b" \n\t\n", b"\xef\xbb\xbf"])
def test_an_empty_text(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(P2Error, match=r"there is no text in .*a\.txt: it is empty or blank"):
        load([write(tmp_path / "a.txt", data)])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.txt", "cannot read .*missing.txt: no such file or folder"),
        ("missing*.txt", r"no file matches '.*missing\*\.txt'"),
        ("folder", r"the folder .*folder holds no text .*\*\*/\*\.c'"),
        ("file/below", "cannot read .*file/below"),
    ],
)
def test_nothing_to_read(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path / "file", "a")
    with pytest.raises(P2Error, match=message):
        load([str(tmp_path / name)])


@pytest.mark.parametrize("encoding", ["klingon", "base64"])
def test_an_unknown_encoding(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(UsageError, match=f"unknown --encoding '{encoding}'"):
        load([write(tmp_path / "a.txt", "a")], encoding)


def test_an_encoding_without_a_text() -> None:
    with pytest.raises(UsageError, match="--encoding says how to read a TEXT"):
        load([], "latin-1")


@pytest.mark.parametrize(
    ("characters", "dtype"),
    [(1, np.uint8), (256, np.uint8), (257, np.uint16), (1 << 16, np.uint16), (65_537, np.uint32)],
)
def test_tokens_take_as_few_bytes_as_the_vocabulary_allows(
    tmp_path: Path, characters: int, dtype: type
) -> None:
    # Downwards, so that the order in which they come is not that of the vocabulary.
    text = "".join(chr(0x20000 - index) for index in range(characters)) + "\U00020000"
    corpus = load([write(tmp_path / "a.txt", text)])
    assert corpus.tokens.dtype == dtype
    assert corpus.vocabulary == "".join(sorted(set(text)))
    assert corpus.tokens.tolist() == [*range(characters - 1, -1, -1), characters - 1]
    assert corpus.text == text
    assert len(corpus) == characters + 1


def test_the_same_text_in_another_vocabulary(tmp_path: Path) -> None:
    corpus = load([write(tmp_path / "a.txt", "b" * 70_000 + "adb")])
    vocabulary = "".join(map(chr, range(97, 97 + 300)))
    assert corpus.encode("abd") is corpus.tokens
    assert corpus.encode(vocabulary).dtype == np.uint16
    assert corpus.encode(vocabulary)[-4:].tolist() == [1, 0, 3, 1]
    with pytest.raises(UsageError, match=r"the text holds 'a' .* at position 70,000, not in the vocabulary"):
        corpus.encode("bd")
    kept = corpus.only("bc")
    assert kept.text == "b" * 70_001
    assert kept.sha256 == hashlib.sha256(b"b" * 70_001).hexdigest()
    assert kept.notes == ("2 characters that the model does not know were left out: 'a', 'd'",)
    assert corpus.only("abcd") is corpus


@pytest.mark.parametrize(
    ("line", "most"), [("plain words and \n", 3), ("Привет, мир!\n", 2), ("words \U0001f600\n", 3)]
)
def test_memory_is_a_few_bytes_for_each_byte_of_the_text(tmp_path: Path, line: str, most: float) -> None:
    """From the file to what the updates draw from: it was 20 bytes in ASCII."""
    data = (line * (3_000_000 // len(line.encode()))).encode()
    name = write(tmp_path / "a.txt", data)
    load([write(tmp_path / "b.txt", line)])  # what is loaded once does not count
    tracemalloc.start()
    try:
        corpus = load([name])
        tokens = corpus.encode(corpus.vocabulary + "\U0001f601")
        train, _ = split(tokens, 0.1, 8)
        RandomWindows(train, 8, 4, 0).batch(0)
        Lanes(train, 8, 4, 0).batch(0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(data) < 3_000_001
    assert peak < most * len(data) + (2 << 20)


def test_the_head_of_a_text_keeps_its_source() -> None:
    whole = load([])
    head = whole.head(100)
    assert head.text == whole.text[:100]
    assert head.sources == whole.sources
    assert head.sha256 == hashlib.sha256(head.text.encode()).hexdigest() != whole.sha256
    assert whole.head(len(whole.text)) == whole


@pytest.mark.parametrize(
    ("data", "half"), [(b"ab +2AA-", "D800"), (b"+3/8-x", "DFFF"), (b"x" * 70_000 + b"+2AA-x+3/8-", "D800")]
)
def test_half_a_surrogate_pair_is_refused(tmp_path: Path, data: bytes, half: str) -> None:
    """JSON would join two of them into one character, so that a vocabulary came back shorter."""
    path = write(tmp_path / "a.txt", data)
    with pytest.raises(P2Error, match=rf"a\.txt holds, read as utf-7, U\+{half}: half of a surrogate pair"):
        load([path], "utf-7")
    assert load([write(tmp_path / "b.txt", b"ab +2D3eAA-")], "utf-7").vocabulary == " ab\U0001f600"
