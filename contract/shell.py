"""What a person pastes or reads: commands quoted for the shell, names that break no line and no terminal."""

from __future__ import annotations

import contextlib
import os
import shlex
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import importlib.metadata

# What pip calls p2, as in pyproject.toml.
DISTRIBUTION = "p2-charlm"

PACKAGE = Path(__file__).resolve().parent.parent

# Categories of characters that move the cursor, end a line or are none, and those that turn the text round.
_UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
_TURNING = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def command(*words: str | Path) -> str:
    """A command line that a shell reads as exactly these words.

    Args:
        words: a `Path` is told from an option, whatever its name begins with.
    """
    return " ".join(map(_quoted, words))


def _quoted(word: str | Path) -> str:
    text = str(word)
    if isinstance(word, Path) and text.startswith("-"):
        text = f"./{text}"
    if printable(text) == text:
        return shlex.quote(text)
    # bash, zsh, ksh: bytes by their numbers, on one line.
    shown = "".join(
        "\\" + c if c in "'\\" else c if _seen(c) else "".join(f"\\x{byte:02x}" for byte in os.fsencode(c))
        for c in text
    )
    return f"$'{shown}'"


def printable(text: str) -> str:
    """A text on one line, harmless to a terminal: what cannot be seen is shown as its escape."""
    if text.isprintable():
        return text
    return "".join(c if _seen(c) else c.encode("unicode_escape").decode() for c in text)


def _seen(character: str) -> bool:
    return unicodedata.category(character) not in _UNSEEN and character not in _TURNING


def install(*extras: str, anew: bool = False) -> str:
    """The command that installs p2 with these extras.

    pip is told the folder that the package lies in, or was installed from, wherever that is. Without one, an
    installed p2 is named by its distribution: no index holds it, but pip takes the extras of what is
    installed already. (The name `p2` in the package index is another's.)

    Args:
        extras: of ``pyproject.toml``.
        anew: build p2 itself again, and install nothing else; only its folder can.
    """
    wanted = f"[{','.join(extras)}]" if extras else ""
    folder, editable = _source()
    words = ["pip", "install", *(["--force-reinstall", "--no-deps"] if anew else [])]
    words += ["--editable"] if editable else []
    if folder is None:
        if extras and not anew and _distribution():
            return command(*words, f"{DISTRIBUTION}{wanted}")
        return f"{command(*words, f'.{wanted}')} in p2's folder"
    here = False
    with contextlib.suppress(OSError):  # the folder one is in may be gone
        here = Path.cwd() == folder
    return command(*words, f"{'.' if here else folder}{wanted}")


def _source() -> tuple[Path | None, bool]:
    """p2's own folder, and whether this process runs from it."""
    if (PACKAGE / "pyproject.toml").is_file():
        return PACKAGE, True
    import json
    import urllib.parse

    with contextlib.suppress(ValueError, KeyError, TypeError):
        said = found.read_text("direct_url.json") if (found := _distribution()) else None
        url = urllib.parse.urlparse(json.loads(said or "{}")["url"])
        folder = Path(urllib.parse.unquote(url.path))
        if url.scheme == "file" and (folder / "pyproject.toml").is_file():
            return folder, False
    return None, False


def _distribution() -> importlib.metadata.Distribution | None:
    """What pip wrote down of the p2 that it installed."""
    import importlib.metadata

    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.distribution(DISTRIBUTION)
    return None
