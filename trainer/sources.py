"""Which files a person means: names, folders, patterns, standard input. Nothing is left out in silence.

A folder gives its texts (`SUFFIXES`) or its tables (`TABLES`), compressed ones and those in subfolders too;
a pattern gives whatever matches it (``**`` is any number of folders). Links to folders are followed, each
folder is visited once, and a link to a folder that holds the one it lies in is not followed. Hidden files and
folders count only where they are named.
A folder that cannot be read is refused, not passed over.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ..contract.errors import P2Error, UsageError
from ..contract.files import reading
from ..contract.shell import command

STDIN = "-"
SUFFIXES = (".adoc", ".markdown", ".md", ".org", ".rst", ".tex", ".text", ".txt")
"""What counts as a text inside a folder, alone or before one of `COMPRESSED`."""

TABLES = (".jsonl", ".ndjson", ".parquet")
"""What counts as a table there."""

COMPRESSED = (".gz", ".xz", ".zst")

_SHOWN = 3  # names or suffixes of what was left out


def files_of(texts: list[str], *, tables: bool = False) -> tuple[list[str], list[str]]:
    """The files that `texts` name, each once, in a stable order, and a line for each folder that has others.

    Args:
        texts: names of files and folders, patterns, or ``-``.
        tables: whether folders give their tables, not their texts.

    Raises:
        P2Error: there is no such file, no match or no text, or a folder cannot be read.
        UsageError: a name is empty.
    """
    seen, sources, notes = set(), [], []
    for text in texts:
        found, note = _files_of(text, TABLES if tables else SUFFIXES)
        notes += [note] if note else []
        for source in found:
            identity = source if source == STDIN else os.path.realpath(source)
            if identity not in seen:
                seen.add(identity)
                sources.append(source)
    return sources, notes


def _files_of(text: str, suffixes: tuple[str, ...]) -> tuple[list[str], str]:
    if not text:
        raise UsageError("the name of a TEXT is empty (an unset variable?)")
    if text == STDIN:
        return [text], ""
    path = Path(text)
    with reading(path):
        if path.is_dir():
            return _files_in(path, suffixes)
        if path.exists():
            return [text], ""
    if not glob.has_magic(text):
        raise P2Error(f"cannot read {text}: no such file or folder")
    found, note = _matching(path)
    if not found:
        raise P2Error(f"no file matches {text!r}")
    return found, note


def _files_in(folder: Path, suffixes: tuple[str, ...]) -> tuple[list[str], str]:
    found, others, aside = [], Counter[str](), list[str]()
    for place in _folders(folder, aside):
        for entry in _entries(place):
            if entry.name.startswith("."):
                aside.append(f"hidden {entry.name}")
            elif (kind := _kind(entry)) == "file" and _stem(entry.name).endswith(suffixes):
                found.append(entry.path)
            elif kind != "folder":
                others[os.path.splitext(entry.name)[1] or entry.name] += 1
    if not found:
        raise P2Error(
            f"the folder {folder} holds no {'table' if suffixes is TABLES else 'text'}"
            f" ({', '.join(suffixes)}): for files of another kind give a"
            f" pattern such as {command(folder / '**/*.c')}"
        )
    parts = []
    if others:
        parts.append(
            f"{_files(others.total())} of other kinds ({_some([k for k, _ in others.most_common()])})"
        )
    return sorted(found), _left_out(folder, parts + aside)


def _stem(name: str) -> str:
    """In lower case, without the ending that says that it is compressed."""
    name = name.lower()
    return next((name.removesuffix(ending) for ending in COMPRESSED if name.endswith(ending)), name)


def _left_out(of: Path, parts: list[str]) -> str:
    return f"left out of {of}: {_some(parts)}" if parts else ""


def _files(count: int) -> str:
    return f"{count:,} file{'s' * (count != 1)}"


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest:,} more" if rest > 0 else "")


def _folders(top: Path, aside: list[str] | None = None) -> Iterator[Path]:
    """`top` and the folders below it, each once: real ones before those that only a link leads to."""
    seen, waiting, links = set(), [top], list[Path]()
    while waiting or links:
        place = waiting.pop() if waiting else links.pop(0)
        real = os.path.realpath(place)
        if real in seen:
            continue
        if place is not top and Path(real) in Path(os.path.realpath(top)).parents:
            if aside is not None:
                aside.append(f"the link {place.name} to a folder above")
            continue
        seen.add(real)
        yield place
        for entry in _entries(place):
            if not entry.name.startswith(".") and _kind(entry) == "folder":
                (links if entry.is_symlink() else waiting).append(place / entry.name)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with reading(folder), os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _kind(entry: os.DirEntry[str]) -> str:
    """What it is or links to: a folder, a file, or special: a pipe or a device, which would be waited for."""
    with reading(Path(entry.path)):
        if entry.is_dir():
            return "folder"
        # A link that leads nowhere is refused when it is read.
        return "file" if entry.is_file() or not os.path.exists(entry.path) else "special"


def _matching(pattern: Path) -> tuple[list[str], str]:
    """The files that match, sorted by path, and what else does."""
    *parts, last = pattern.relative_to(pattern.anchor).parts
    places = [Path(pattern.anchor)]
    if last == "**":
        parts, last = [*parts, last], "*"
    parts = [part for index, part in enumerate(parts) if part != "**" or parts[index - 1 : index] != ["**"]]
    for part in parts:
        if part == "**":
            places = [below for place in places for below in _folders(place)]
        elif glob.has_magic(part):
            found = [(place, entry) for place in places for entry in _entries(place) if _fits(entry, part)]
            places = [place / entry.name for place, entry in found if _kind(entry) == "folder"]
        else:
            with reading(pattern):
                places = [place / part for place in places if (place / part).is_dir()]
    # Two patterns for any number of folders reach a folder in several ways.
    found = [(place, entry) for place in set(places) for entry in _entries(place) if _fits(entry, last)]
    kinds = {str(place / entry.name): _kind(entry) for place, entry in found}
    others = [f"the {kind} {name}" for name, kind in sorted(kinds.items()) if kind != "file"]
    if last == "*" and "**" in parts:
        others = [other for other in others if not other.startswith("the folder ")]  # their files are in
    return sorted(name for name, kind in kinds.items() if kind == "file"), _left_out(pattern, others)


def _fits(entry: os.DirEntry[str], pattern: str) -> bool:
    hidden = entry.name.startswith(".") and not pattern.startswith(".")
    return not hidden and fnmatch.fnmatch(entry.name, pattern)
