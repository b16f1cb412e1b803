"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from p2.contract import files, locks
from p2.contract.documents import read_document
from p2.contract.errors import P2Error


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


def test_what_a_killed_write_left_is_removed_by_a_later_one_at_once(tmp_path):
    killed, other = tmp_path / ".a.bin.abcd1234.part", tmp_path / ".b.bin.abcd1234.part"
    for leftover in (killed, other):
        leftover.write_bytes(b"half")

    def fill(file: object) -> None:
        inside.extend(path.name for path in tmp_path.glob(".a.bin.*.part"))
        files.write_bytes(tmp_path / "a.bin", b"another process, meanwhile")
        file.write(b"whole")

    inside: list[str] = []
    files.write_atomically(tmp_path / "a.bin", fill)
    assert len(inside) == 1
    assert inside != [killed.name]
    assert (tmp_path / "a.bin").read_bytes() == b"whole"  # what is being written is nobody's leftover
    assert sorted(tmp_path.iterdir()) == [other, tmp_path / "a.bin"]
    files.remove_leftovers(tmp_path)
    assert not other.exists()


def test_without_locks_only_what_is_old_is_a_leftover(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    old, young = tmp_path / ".a.bin.12345678.part", tmp_path / ".a.bin.abcd1234.part"
    for leftover in (old, young):
        leftover.write_bytes(b"half")
    os.utime(old, (0, 0))
    files.write_bytes(tmp_path / "a.bin", b"whole")
    assert sorted(tmp_path.iterdir()) == [young, tmp_path / "a.bin"]
    lock = tmp_path / "new" / "lock"
    with files.locked(lock, tmp_path), files.locked(lock, tmp_path):
        pass


def test_a_lock_is_for_one_at_a_time_and_leaves_nothing(tmp_path):
    lock = tmp_path / "made" / "for it" / "lock"
    for _ in range(2):
        with files.locked(lock, tmp_path / "run"):
            with (
                pytest.raises(
                    P2Error, match=rf"run is being written by another p2 \(process {os.getpid()} on "
                ),
                files.locked(lock, tmp_path / "run"),
            ):
                pass
            assert lock.exists()
        assert not list(tmp_path.iterdir())
    with files.locked(lock, tmp_path):
        (lock.parent / "result").touch()
    assert [path.name for path in lock.parent.iterdir()] == ["result"]


def test_a_killed_process_holds_no_lock(tmp_path):
    lock = tmp_path / "lock"
    script = (
        "import os, sys; from pathlib import Path; from p2.contract import files, locks\n"
        "with files.locked(Path(sys.argv[1]), Path('x')), locks.scratch_folder(sys.argv[2]) as folder:\n"
        "    print(folder, flush=True); sys.stdin.read(); os._exit(9)"
    )
    prefix = f"p2-test-{tmp_path.name}-"
    argv = [sys.executable, "-c", script, str(lock), prefix]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        folder = Path(process.stdout.readline().strip())
        with pytest.raises(P2Error, match=f"process {process.pid} on"), files.locked(lock, tmp_path):
            pass
        with locks.scratch_folder(prefix):
            assert folder.is_dir()  # somebody works in it
    assert process.returncode == 9
    assert lock.exists()
    assert folder.is_dir()
    with files.locked(lock, tmp_path), locks.scratch_folder(prefix) as mine:
        assert not folder.exists()
        assert mine.is_dir()
    assert not lock.exists()
    assert not mine.exists()


def test_a_link_is_neither_a_lock_nor_a_leftover(tmp_path):
    mine = tmp_path / "mine"
    mine.write_text("mine")
    lock = tmp_path / "lock"
    lock.symlink_to(mine)
    with pytest.raises(P2Error, match="cannot write run"), files.locked(lock, Path("run")):
        pass
    (tmp_path / ".a.abcd1234.part").symlink_to(mine)
    files.write_bytes(tmp_path / "a", b"")
    assert mine.read_text() == "mine"


def test_a_document_that_is_replaced_is_kept(tmp_path):
    document, picture = tmp_path / "a.json", tmp_path / "a.svg"
    assert files.keep_aside(document, picture) is None
    for number, text in enumerate(("one", "two"), start=1):
        document.write_text(text)
        picture.write_text(text)
        (tmp_path / ".a.json.old").mkdir()  # by a kill
        kept = files.keep_aside(document, picture, tmp_path / "missing")
        assert kept == tmp_path / f"a.json.old-{number}"
        assert files.keep_aside(document, picture) is None  # it is kept already
        assert {path.name: path.read_text() for path in kept.iterdir()} == {"a.json": text, "a.svg": text}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.json",
        "a.json.old-1",
        "a.json.old-2",
        "a.svg",
    ]


def test_a_text_that_is_not_utf8_is_told_where(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("é\r\nb\rc\n".encode() + b"caf\xe9\n")
    with pytest.raises(
        P2Error, match=r"a\.txt is not UTF-8: the byte 0xE9 at byte offset 11, line 4, cannot be"
    ):
        files.read_text(path)
