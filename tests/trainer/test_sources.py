"""Which files are meant: links, loops, hidden and unreadable things, and what is said about them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from p2.contract.errors import P2Error, UsageError
from p2.trainer.corpus import load
from p2.trainer.sources import files_of


def tree(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[{name}]\n")
    return root


def names(root: Path, text: str = "") -> list[str]:
    found, _ = files_of([f"{root}{text}"])
    return [os.path.relpath(name, root) for name in found]


def refuse(monkeypatch: pytest.MonkeyPatch, *folders: Path) -> None:
    """Stands for missing permissions, which the superuser never meets."""
    real = os.scandir

    def scandir(path: Path) -> object:
        if Path(path) in folders:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


def test_what_is_left_out_of_a_folder_is_said_in_a_line(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "a.txt", "x.png", "sub/y.png", "Makefile", ".git/b.txt", "sub/.c.txt")
    found, notes = files_of([str(root)])
    assert len(found) == 1
    assert notes == [
        f"left out of {root}: 3 files of other kinds (.png, Makefile), hidden .git, hidden .c.txt"
    ]
    assert load([str(root)]).notes == tuple(notes)
    assert files_of([str(tree(tmp_path / "clean", "a.txt", "b/c.md"))])[1] == []


def test_links_to_folders_are_followed_and_each_folder_visited_once(tmp_path: Path) -> None:
    elsewhere = tree(tmp_path / "elsewhere", "far.txt")
    root = tree(tmp_path / "d", "a.txt", "z/b.txt")
    (root / "a link").symlink_to(root / "z")  # comes before z, which is the real one
    (root / "linked").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(root)
    (root / "z" / "self").symlink_to(root / "z")
    assert names(root) == ["a.txt", "linked/far.txt", "z/b.txt"]
    assert names(root, "/**/*.txt") == ["a.txt", "linked/far.txt", "z/b.txt"]
    assert names(root, "/**/**/*.txt") == ["a.txt", "linked/far.txt", "z/b.txt"]


def test_a_link_to_a_folder_above_takes_nothing_in(tmp_path: Path) -> None:
    root = tree(tmp_path, "secret.txt", "d/e/a.txt") / "d"
    (root / "e" / "up").symlink_to(tmp_path)
    found, notes = files_of([str(root)])
    assert found == [str(root / "e" / "a.txt")]
    assert notes == [f"left out of {root}: the link up to a folder above"]


@pytest.mark.parametrize("pattern", ["", "/**/*.txt", "/*/*.txt", "/*/below/*"])
def test_a_folder_that_cannot_be_read_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str
) -> None:
    root = tree(tmp_path / "d", "a.txt", "private/b.txt", "open/below/c.txt", "private/below/d.txt")
    refuse(monkeypatch, root / "private", root / "private" / "below")
    with pytest.raises(P2Error, match=r"^cannot read .*/d/private.*: no permission$"):
        files_of([f"{root}{pattern}"])


@pytest.mark.parametrize("pattern", ["", "/*.txt"])
def test_a_link_that_leads_nowhere_is_refused_by_name(tmp_path: Path, pattern: str) -> None:
    root = tree(tmp_path / "d", "a.txt")
    (root / "gone.txt").symlink_to(root / "nothing")
    with pytest.raises(P2Error, match=r"^cannot read .*/gone\.txt: no such file or folder$"):
        load([f"{root}{pattern}"])


@pytest.mark.parametrize(
    ("pattern", "note"), [("", "1 file of other kinds (.txt)"), ("/*.txt", "the special")]
)
def test_a_pipe_in_a_folder_is_not_waited_for(tmp_path: Path, pattern: str, note: str) -> None:
    root = tree(tmp_path / "d", "a.txt")
    os.mkfifo(root / "pipe.txt")
    found, notes = files_of([f"{root}{pattern}"])
    assert [Path(name).name for name in found] == ["a.txt"]
    assert note in notes[0]


def test_patterns(tmp_path: Path) -> None:
    root = tree(tmp_path / "d", "a.txt", "b.c", "x/c.txt", "x/y/d.txt", ".h/e.txt", "x/.f.txt", "[1]/g.txt")
    assert names(root, "/*") == ["a.txt", "b.c"]
    assert names(root, "/*/*.txt") == ["[1]/g.txt", "x/c.txt"]
    assert names(root, "/**") == ["[1]/g.txt", "a.txt", "b.c", "x/c.txt", "x/y/d.txt"]
    assert names(root, "/**/y/*.txt") == ["x/y/d.txt"]
    assert names(root, "/.h/*.txt") == [".h/e.txt"]
    assert names(root, "/**/.*.txt") == ["x/.f.txt"]
    assert names(root, "/[[]1]/[a-z].txt") == ["[1]/g.txt"]
    _, notes = files_of([f"{root}/*"])
    assert notes == [f"left out of {root}/*: the folder {root}/[1], the folder {root}/x"]


def test_patterns_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree(tmp_path / "d", "a.txt", "x/b.txt"))
    assert files_of(["*.txt"])[0] == ["a.txt"]
    assert files_of(["**/*.txt", "./*.txt"])[0] == ["a.txt", "x/b.txt"]


def test_an_empty_name_is_not_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree(tmp_path / "d", "a.txt"))
    with pytest.raises(UsageError, match="the name of a TEXT is empty"):
        load(["a.txt", ""])
