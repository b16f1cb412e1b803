"""Encodings: what is allowed, what is said about a file, and that obeying it gives the text back."""

from __future__ import annotations

import codecs
import contextlib
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2.contract.errors import P2Error, UsageError
from p2.trainer.corpus import load

QUOTED = "“Don’t,” she said – and it was done.\n"
PLAIN = "It was the best of times, it was the worst of times.\n"
FRENCH = "Le garçon a été très étonné : « où est l’école ? » L’été, c’est déjà là.\n"
GERMAN = "Über die Brücke läuft ein schöner Mann, er grüßt.\n"
POLISH = "Zażółć gęślą jaźń, mówił stary człowiek do swojej żony.\n"
GREEK = "Η γρήγορη καφέ αλεπού πηδά πάνω από το τεμπέλικο σκυλί.\n"
RUSSIAN = "Привет мир, как дела у вас сегодня? Хорошо, спасибо.\n"
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。\n"
CHINESE = "学而时习之，不亦说乎？有朋自远方来，不亦乐乎？\n"


def refusal(path: Path, data: bytes, encoding: str | None = None) -> str:
    path.write_bytes(data)
    with pytest.raises(P2Error) as caught:
        load([str(path)], encoding)
    assert caught.value.exit_code == 1
    return str(caught.value)


@pytest.mark.parametrize(
    "encoding",
    [
        *("", "klingon", "utf-8\0", "\0", "\ud800", "x" * 5000, "a/b", ".."),
        *("base64", "bz2", "hex", "quopri", "rot13", "uu", "zlib"),  # bytes to bytes, or text to text
        *("idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape"),
    ],
)
def test_what_is_no_encoding_of_texts(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("abc")
    with pytest.raises(UsageError, match="unknown --encoding"):
        load([str(tmp_path / "a.txt")], encoding)


@given(st.text(max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_of_an_encoding_is_answered(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.txt").write_text("abc")
    with contextlib.suppress(P2Error):
        load([str(tmp_path / "a.txt")], encoding)


def test_every_encoding_that_python_has_reads_in_pieces_what_it_reads_whole(tmp_path: Path) -> None:
    """A file of several blocks, so that characters are cut apart; none ends in a traceback."""
    from encodings.aliases import aliases

    path = tmp_path / "a.txt"
    text = "".join(f"{index} plain words\n" for index in range(6000))
    read = 0
    for name in sorted(set(aliases.values()) - {"mbcs", "oem"}):
        try:
            path.write_bytes(text.encode(name))
        except (LookupError, UnicodeError):
            continue  # bytes to bytes, or without these characters
        try:
            assert load([str(path)], name).text == text, name
            read += 1
        except UsageError:
            pass
    assert read > 80


@pytest.mark.parametrize(
    ("text", "encoding"), [(JAPANESE, "shift_jis"), (CHINESE, "gb18030"), (JAPANESE, "utf-16")]
)
def test_characters_and_line_ends_across_blocks(tmp_path: Path, text: str, encoding: str) -> None:
    whole = "x" + text.replace("\n", "\r\n") * 3000
    (tmp_path / "a.txt").write_bytes(whole.encode(encoding))
    assert load([str(tmp_path / "a.txt")], encoding).text == "x" + text * 3000


@pytest.mark.parametrize("stray", [b"\x93", b"\xe9", b"\xff\xfe\xfd", b"\xe2\x80"])
def test_utf8_but_for_a_few_bytes(tmp_path: Path, stray: bytes) -> None:
    """A byte of another encoding in a text full of curly quotes does not make it a text of that encoding."""
    before = (PLAIN + QUOTED) * 2000
    path = tmp_path / "a.txt"
    message = refusal(path, before.encode() + b"word " + stray + b" word\n" + (QUOTED * 100).encode())
    offset, line = len(before.encode()) + 5, 4001
    count = f"{len(stray)} byte{'s' * (len(stray) > 1)}"
    assert (
        f"a.txt is UTF-8 but for {count}, the first (0x{stray[0]:02X}) at byte offset {offset:,}" in message
    )
    assert f"line {line:,}:" in message
    assert "--encoding-errors replace" in message
    assert "probably" not in message
    skipped = load([str(path)], errors="skip")
    assert skipped.text == before + "word  word\n" + QUOTED * 100
    assert skipped.notes == (f"bytes that are not UTF-8 were left out: {len(stray)} in {path}",)
    replaced = load([str(path)], errors="replace")
    assert replaced.text == path.read_bytes().decode(errors="replace")
    assert "replaced by U+FFFD" in replaced.notes[0]


@pytest.mark.parametrize("times", [1, 40])
@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        *(
            (PLAIN * 30 + QUOTED, "cp1252"),
            (PLAIN * 30 + "a café\n", "latin-1"),
            (PLAIN * 9 + "don’t\n", "cp1252"),
        ),
        *(
            (FRENCH, "cp1252"),
            (FRENCH, "mac-roman"),
            (GERMAN, "latin-1"),
            (GERMAN, "cp850"),
            (POLISH, "cp1250"),
        ),
        *(
            (POLISH, "iso8859-2"),
            (GREEK, "cp1253"),
            (RUSSIAN, "cp1251"),
            (RUSSIAN, "koi8-r"),
            (RUSSIAN, "cp866"),
        ),
        *((JAPANESE, "shift_jis"), (JAPANESE, "euc-jp"), (CHINESE, "gb18030"), (CHINESE, "utf-16")),
    ],
)
def test_obeying_the_guess_gives_the_text_back(tmp_path: Path, text: str, encoding: str, times: int) -> None:
    message = refusal(tmp_path / "a.txt", (text * times).encode(encoding))
    found = re.search(r"it is probably (\S+), which --encoding (\S+) reads", message)
    assert found, message
    assert found[1] == found[2]
    assert load([str(tmp_path / "a.txt")], found[1]).text == text * times


@given(st.binary(min_size=1, max_size=60), st.sampled_from([PLAIN, FRENCH, RUSSIAN]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_guessed_is_common_and_reads_the_file(tmp_path: Path, data: bytes, text: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode("latin-1", "ignore") + data)
    try:
        load([str(path)])
    except P2Error as error:
        found = re.search(r"it is probably (\S+),", str(error))
        if found:
            assert not re.match(r"mac-iceland|mac-latin2|mac-turkish|cp775|cp037|hp-roman8|ptcp154", found[1])
            path.read_bytes().decode(found[1])


def test_the_place_in_an_encoding_of_two_bytes(tmp_path: Path) -> None:
    good = "ab\r\ncd\r\n" * 9000
    message = refusal(
        tmp_path / "a.txt", codecs.BOM_UTF16_LE + good.encode("utf-16-le") + b"\x00\xd8a\0", "utf-16"
    )
    assert f"(at byte offset {2 + 2 * len(good):,}, line 18,001)" in message


def test_every_file_that_cannot_be_read_has_an_answer_of_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    for name, data in {
        "a.txt": PLAIN.encode(),
        "b.txt": (GERMAN * 9).encode("cp1252"),
        "c.txt": (RUSSIAN * 9).encode("koi8-r"),
        "d.txt": b"\x7fELF\0\0",
        "e.txt": (QUOTED * 9).encode() + b"\x97\n",
    }.items():
        (folder / name).write_bytes(data)
    (folder / "f.txt").symlink_to(folder / "nothing")
    with pytest.raises(P2Error) as caught:
        load([str(folder)])
    lines = caught.value.__notes__
    assert str(caught.value) == "5 of 6 files cannot be read (--encoding is for all):"
    for line, words in zip(
        lines,
        (
            "b.txt is not UTF-8.*probably cp1252",
            "c.txt.*probably koi8-r",
            "d.txt is a binary",
            "e.txt is UTF-8 but",
            "f.txt",
        ),
        strict=True,
    ):
        assert re.search(words, line), line


def test_many_files_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    for index in range(25):
        (tmp_path / f"{index:02}.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(P2Error) as caught:
        load([str(tmp_path)])
    assert str(caught.value).startswith("25 of 25 files cannot be read")
    assert len(caught.value.__notes__) == 11
    assert caught.value.__notes__[-1] == "and 15 more"


def test_errors_are_for_texts_that_are_read() -> None:
    with pytest.raises(UsageError, match="--encoding-errors says how to read a TEXT"):
        load([], errors="skip")
