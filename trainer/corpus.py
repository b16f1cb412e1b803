"""Texts to train on: files, folders, patterns, standard input, or the text inside Python itself.

Files are read as UTF-8 unless another encoding is named. A byte-order mark is dropped and the line
ends CRLF and CR become LF; nothing else is changed. Several files are joined in the order given
(inside a folder or a pattern: sorted by path), with a line break after a file that does not end
with one, and a file that is named twice counts once.
"""

from __future__ import annotations

import codecs
import glob
import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..spec.errors import P2Error, UsageError
from ..spec.files import reading
from ..spec.shell import command

if TYPE_CHECKING:
    from charset_normalizer import CharsetMatch

BUILT_IN = "python:pydoc_data.topics"
"""Source name of the text that every CPython carries."""

STDIN = "-"
SUFFIXES = (".adoc", ".markdown", ".md", ".org", ".rst", ".tex", ".text", ".txt")
"""What counts as a text inside a folder."""

_GUESS_BYTES = 1 << 18  # enough for a guess, and quick
_COMMON = "cp1252"  # Western European Windows, nearly the same as latin-1
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


@dataclass(frozen=True)
class Corpus:
    """A text and where it came from.

    Attributes:
        text: all of it.
        sources: the files it was joined from, ``-`` for standard input, or `BUILT_IN`.
        sha256: SHA-256 of the text in UTF-8.
    """

    text: str
    sources: tuple[str, ...]
    sha256: str

    def head(self, characters: int) -> Corpus:
        """The same with the first `characters` (>= 1) of the text only."""
        return _corpus(self.text[:characters], self.sources)

    def describe(self) -> str:
        """Where the text came from, in a few words."""
        if self.sources == (BUILT_IN,):
            return "the documentation inside Python (pydoc_data.topics)"
        names = ["standard input" if source == STDIN else source for source in self.sources]
        shown = ", ".join(names[:5])
        return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more files"


def load(texts: list[str], encoding: str | None = None) -> Corpus:
    """Read and join texts.

    Args:
        texts: files, folders, glob patterns or ``-``; none means the text inside Python.
        encoding: encoding of all files; None is UTF-8.

    Raises:
        P2Error: a file is missing, unreadable, binary, in another encoding, or there is no text.
        UsageError: the encoding is unknown, or named without a text.
    """
    if encoding is not None:
        _check_encoding(encoding)
    if not texts:
        if encoding is not None:
            raise UsageError("--encoding says how to read a TEXT, and none was given")
        return _corpus(_built_in_text(), (BUILT_IN,))
    sources = list(_expand(texts))
    parts = []
    for source in sources:
        part = _decode(_read(source), "standard input" if source == STDIN else source, encoding or "UTF-8")
        parts.append(part if part.endswith("\n") or source == sources[-1] else part + "\n")
    corpus = _corpus("".join(parts), tuple(sources))
    if not corpus.text.strip():
        raise P2Error(f"there is no text in {corpus.describe()}: it is empty or blank")
    return corpus


def _corpus(text: str, sources: tuple[str, ...]) -> Corpus:
    digest = hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()
    return Corpus(text, sources, digest)


def _built_in_text() -> str:
    """The topics of Python's own help, in alphabetical order, a blank line between two of them.

    Their wrapping at 70-odd columns and their markup are kept. About 465,000 characters, 103 of them
    distinct; the text differs a little from one Python release to the next.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise P2Error("this Python comes without its documentation (pydoc_data): name a TEXT") from None
    return "\n".join(topics[name] for name in sorted(topics))


def _expand(texts: list[str]) -> Iterator[str]:
    """The files that `texts` name, each once, in a stable order."""
    seen = set()
    for text in texts:
        for source in _files_of(text):
            identity = source if source == STDIN else os.path.realpath(source)
            if identity not in seen:
                seen.add(identity)
                yield source


def _files_of(text: str) -> list[str]:
    if text == STDIN:
        return [text]
    path = Path(text)
    with reading(path):
        if path.is_dir():
            return _files_in(path)
        if path.exists():
            return [text]
    if not glob.has_magic(text):
        raise P2Error(f"cannot read {text}: no such file or folder")
    found = sorted(name for name in glob.glob(text, recursive=True) if os.path.isfile(name))
    if not found:
        raise P2Error(f"no file matches {text!r}")
    return found


def _files_in(folder: Path) -> list[str]:
    found = []
    for place, subfolders, names in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [
            os.path.join(place, name)
            for name in names
            if not name.startswith(".") and name.lower().endswith(SUFFIXES)
        ]
    if not found:
        raise P2Error(
            f"the folder {folder} holds no text ({', '.join(SUFFIXES)}): for files of another kind give a"
            f" pattern such as {command(folder / '**/*.c')}"
        )
    return sorted(found)


def _read(source: str) -> bytes:
    with reading(Path(source)):
        return sys.stdin.buffer.read() if source == STDIN else Path(source).read_bytes()


def _check_encoding(encoding: str) -> None:
    try:
        b"a".decode(encoding)
    except LookupError:
        raise UsageError(
            f"unknown --encoding {encoding!r}: use a name that Python knows, such as latin-1 or cp1252"
        ) from None
    except UnicodeError:
        pass  # a wide encoding, which one byte cannot satisfy


def _decode(data: bytes, where: str, encoding: str) -> str:
    """The text of one file."""
    try:
        text = data.decode(encoding)
    except UnicodeError as error:
        raise P2Error(_undecodable(data, where, encoding, getattr(error, "start", 0))) from None
    if "\0" in text:
        raise P2Error(_binary(where))
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _binary(where: str) -> str:
    return f"{where} is a binary file, not a text (it holds zero bytes)"


def _undecodable(data: bytes, where: str, encoding: str, offset: int) -> str:
    guess = _guess(data, encoding, offset)
    if b"\0" in data and guess not in _BYTE_ORDER_MARKS.values():
        return _binary(where)
    problem = f"{where} is not {encoding} (at byte offset {offset:,})"
    if guess is None:
        return f"{problem}, and its encoding cannot be guessed: name it with --encoding NAME"
    return f"{problem}: it is probably {guess}, which --encoding {guess} reads"


def _guess(data: bytes, failed: str, offset: int) -> str | None:
    """The encoding that `data` probably has, or None; `failed` is one that failed at `offset`."""
    from charset_normalizer import from_bytes

    for mark, name in _BYTE_ORDER_MARKS.items():
        if data.startswith(mark):
            return name
    # Guess from whole lines around the offence: far away the text may well be plain ASCII.
    start = data.rfind(b"\n", 0, max(0, offset - _GUESS_BYTES // 2)) + 1
    matches = list(from_bytes(data[start : start + _GUESS_BYTES]))
    # A tie, which short texts often give, goes to the most common encoding of its kind.
    tied = [match for match in matches if _score(match) == _score(matches[0])]
    likely = [_COMMON] if any(_COMMON in match.could_be_from_charset for match in tied) else []
    for name in likely + [match.encoding for match in matches]:
        # Without their mark, UTF-16 and UTF-32 fit any few bytes of an even number.
        wide = name.startswith(("utf_16", "utf_32"))
        same = codecs.lookup(name).name == codecs.lookup(failed).name
        if not wide and not same and _reads(name, data):
            return name.replace("_", "-")
    return None


def _score(match: CharsetMatch) -> tuple[float, float]:
    return match.chaos, match.coherence


def _reads(encoding: str, data: bytes) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True
