"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os

import pytest

from p2.spec import files
from p2.spec.documents import read_document
from p2.spec.errors import P2Error


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "new" / "a.bin"
    files.write_bytes(path, b"one")
    files.write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


@pytest.mark.parametrize("where", ["write", "fsync", "rename"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, where):
    path = tmp_path / "a.bin"
    files.write_bytes(path, b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if where == "write":
        fill = full
    else:
        monkeypatch.setattr(os, {"fsync": "fsync", "rename": "replace"}[where], full)

        def fill(file: object) -> None:
            file.write(b"new")

    with pytest.raises(P2Error, match=r"cannot write .*a\.bin: the disk is full"):
        files.write_atomically(path, fill)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_nothing_behind(tmp_path):
    def interrupted(file: object) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(tmp_path / "a", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(P2Error, match=r"cannot write .*a part of the path is a file"):
        files.make_folder(tmp_path / "file" / "folder")


def test_json_round_trip_with_any_character(tmp_path):
    value = {"vocabulary": "aé\udcff😀\n", "n": [1, 2.5, None]}
    files.write_json(tmp_path / "a.json", value)
    assert read_document(tmp_path / "a.json") == value


def test_damaged_and_missing_json(tmp_path):
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(P2Error, match="damaged: not valid JSON"):
        read_document(tmp_path / "a.json")
    with pytest.raises(P2Error, match="no such file"):
        read_document(tmp_path / "b.json")


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")  # FIPS 180-2's first example
    assert files.sha256_of(tmp_path / "a").startswith("ba7816bf8f01cfea414140de5dae2223")


def test_what_a_killed_write_left_is_removed_by_a_later_one(tmp_path):
    old, young = tmp_path / ".a.bin.xyz.part", tmp_path / ".a.bin.abc.part"
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    os.utime(old, (0, 0))
    files.write_bytes(tmp_path / "a.bin", b"whole")
    assert not old.exists()
    assert young.exists()  # another process may be writing it
