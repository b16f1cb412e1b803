"""Prompts, one on each line of a file."""

from __future__ import annotations

import codecs
import io
import os
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.codec import Codec, UnknownCharacter
from p2.contract.errors import P2Error
from p2.runtime.prompts import Prompts

CODEC = Codec("abcé")


@pytest.mark.parametrize(
    ("data", "prompts"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a\nb", ["a", "b"]),
        (b"a\nb\n", ["a", "b"]),
        (b"a\r\n\r\n\xc3\xa9\r\n", ["a", "", "é"]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", ["a", "\ufeffb"]),
        (b" a \n", [" a "]),
        ("a\u2028b\x0bc\n".encode(), ["a\u2028b\x0bc"]),
    ],
)
def test_lines_are_prompts(data, prompts, tmp_path, monkeypatch):
    path = tmp_path / "prompts.txt"
    path.write_bytes(data)
    assert list(Prompts(str(path))) == prompts
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    assert list(Prompts("-")) == prompts


def test_a_file_is_read_as_far_as_it_is_needed(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"a\n" + b"\xff")
    prompts = iter(Prompts(str(path)))
    assert next(prompts) == "a"
    with pytest.raises(P2Error, match=r"prompts\.txt is not UTF-8: line 2, byte 0 cannot be read"):
        next(prompts)


def test_a_file_is_checked_from_end_to_end(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a\n\nbé\n", encoding="utf-8")
    assert Prompts(str(path)).check(CODEC, "error") == 3
    path.write_text("a\nQ\n")
    with pytest.raises(UnknownCharacter, match="line 2 of the prompts"):
        Prompts(str(path)).check(CODEC, "error")
    assert Prompts(str(path)).check(CODEC, "skip") == 2


def test_a_stream_is_not_read_before_its_time(tmp_path, monkeypatch):
    stdin = io.BytesIO(b"a\n")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=stdin))
    assert Prompts("-").check(CODEC, "error") is None
    assert stdin.tell() == 0
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert Prompts(str(tmp_path / "pipe")).check(CODEC, "error") is None


def test_a_line_can_be_had_as_soon_as_it_has_come():
    reading, writing = os.pipe()
    with open(reading, "rb", buffering=0) as file, open(writing, "wb", buffering=0) as sender:
        prompts = Prompts("a pipe")
        lines = prompts._lines(file)
        sender.write(b"a\nb\nc")
        assert next(lines) == "a"
        assert not prompts.waits()
        assert next(lines) == "b"
        assert prompts.waits()  # for the rest of the line
        sender.write(b"c\n")
        assert not prompts.waits()
        assert next(lines) == "cc"
        assert prompts.waits()
        sender.close()
        assert not prompts.waits()
        assert list(lines) == []


@given(st.binary(max_size=60).map(lambda d: d.replace(b"\xff", b"\n")), st.lists(st.integers(1, 7)))
def test_however_a_stream_comes_its_lines_are_the_same(data, sizes):
    class Slow(io.BytesIO):
        def read(self, size=-1):
            return super().read(sizes.pop() if sizes else size)

    text = data.decode("latin-1").encode()
    lines = text.removeprefix(codecs.BOM_UTF8).split(b"\n")
    expected = [line.removesuffix(b"\r").decode() for line in (lines if lines[-1] else lines[:-1])]
    assert list(Prompts("")._lines(Slow(text))) == expected


def test_what_cannot_be_read_is_named(tmp_path, monkeypatch):
    with pytest.raises(P2Error, match="no such file"):
        list(Prompts(str(tmp_path / "absent")))
    with pytest.raises(P2Error, match="it is a folder"):
        list(Prompts(str(tmp_path)))
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a\nb\xff\n")))
    with pytest.raises(P2Error, match="standard input is not UTF-8: line 2, byte 1"):
        list(Prompts("-"))
