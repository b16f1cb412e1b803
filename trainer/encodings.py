"""Encodings of texts: which there are, what of a file cannot be read and where, and which it probably has."""

from __future__ import annotations

import codecs
import unicodedata
from typing import TYPE_CHECKING

from ..contract.errors import UsageError
from ..contract.schema import shown

if TYPE_CHECKING:
    from .faults import Faults

ENCODING_ERRORS = {"strict": "", "replace": "\ufffd", "skip": ""}
"""What may become of bytes that cannot be read, and what stands in their place; strict refuses the file."""

UTF8 = "UTF-8"

_NO_TEXTS = ("idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape")
"""Codecs that Python counts among text encodings, and that no file is in."""

# Which encodings are guessed at all, and in a tie the earlier one: all that a file may well be in.
_PROBABLE = (
    *("cp1252", "cp1251", "cp1250", "cp932", "euc_jp", "gb18030", "big5", "cp949", "koi8_r"),
    *("cp1253", "cp1254", "cp1255", "cp1256", "cp1258", "iso8859_2", "iso8859_5", "iso8859_7", "iso8859_15"),
    *("cp866", "cp850", "mac_roman", "mac_cyrillic", "cp1257"),
)
_TIE = 0.02
_COHERENCE_WEIGHT = 0.75
_GUESS_BYTES = 1 << 18  # enough for a guess, and quick
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def check_encoding(encoding: str) -> None:
    """Whether texts can be in it.

    Raises:
        UsageError: Python does not know it, or it is no encoding of texts (base64, idna, ...).
    """
    try:
        known = codecs.lookup(encoding).name not in _NO_TEXTS
        b"a".decode(encoding)
    except UnicodeDecodeError:
        pass  # a wide encoding, which one byte cannot satisfy
    except (LookupError, ValueError):
        known = False
    if not known:
        raise UsageError(
            f"unknown --encoding {shown(encoding)}: use the name of an encoding of texts that Python knows,"
            " such as latin-1 or cp1252"
        )


def unreadable(where: str, faults: Faults) -> str:
    """A sentence about a file that cannot be read, and what to do.

    Args:
        where: its name.
        faults: what could not be read of it; none for a file with zero bytes.
    """
    encoding = faults.encoding
    data, start = faults.sample()
    first = faults.first - start
    wide = next((name for mark, name in _BYTE_ORDER_MARKS.items() if faults.head.startswith(mark)), None)
    if b"\0" in data and wide is None:
        return f"{where} is a binary file, not a text (it holds zero bytes)"
    place = f"byte offset {faults.first:,}, line {faults.line:,}"
    count = f"{'at least ' * faults.enough}{faults.bytes:,} byte{'s' * (faults.bytes != 1)}"
    if wide is None and _same(encoding, UTF8) and _well_formed(data) >= faults.nearby:
        return (
            f"{where} is UTF-8 but for {count}, the first (0x{data[first]:02X}) at {place}:"
            " --encoding-errors replace puts U+FFFD in the place of each, skip leaves them out"
        )
    problem = f"{where} is not {encoding} (at {place})"
    guess = wide or _guess(data, encoding, first)
    if guess is None:
        return (
            f"{problem}, and its encoding cannot be guessed: name it with --encoding NAME, or let"
            f" --encoding-errors replace or skip the {count} that cannot be read"
        )
    return f"{problem}: it is probably {guess}, which --encoding {guess} reads"


def _same(one: str, other: str) -> bool:
    return codecs.lookup(one).name.removesuffix("-sig") == codecs.lookup(other).name


def _well_formed(data: bytes) -> int:
    """Characters beyond ASCII that `data` holds in UTF-8: other encodings hardly make one by chance."""
    return sum(1 for character in data.decode(UTF8, "ignore") if character > "\x7f")


def _guess(data: bytes, failed: str, offset: int) -> str | None:
    """The encoding that `data` probably has, or None; `failed` is one that failed at `offset`."""
    from charset_normalizer import from_bytes

    if not _same(failed, UTF8) and _reads(UTF8, data):
        return "utf-8"
    # Guess from whole lines around the offence: far away the text may well be plain ASCII.
    start = data.rfind(b"\n", 0, max(0, offset - _GUESS_BYTES // 2)) + 1
    scored = []
    for match in from_bytes(data[start : start + _GUESS_BYTES], cp_isolation=list(_PROBABLE)):
        score = match.chaos + _out_of_place(str(match)) - _COHERENCE_WEIGHT * match.coherence
        names = {match.encoding, *match.could_be_from_charset} & set(_PROBABLE)
        scored += [(score, name) for name in names if not _same(failed, name) and _reads(name, data)]
    if not scored:
        return None
    likely = [name for score, name in scored if score <= min(scored)[0] + _TIE]
    return min(likely, key=_PROBABLE.index).replace("_", "-")


def _out_of_place(text: str) -> float:
    """Share of the characters beyond ASCII that stand where nobody would write them."""
    beyond = odd = 0
    for index, character in enumerate(text):
        if character > "\x7f":
            beyond += 1
            before, after = text[index - 1 : index], text[index + 1 : index + 2]
            kind = unicodedata.category(character)
            in_word = before.isalpha() and after.isalpha() and before < "\u0250"  # of Latin letters
            odd += (
                kind in ("Cc", "Cn", "Co")
                or unicodedata.name(character, "").startswith("BOX DRAWINGS")
                or (kind == "Lu" and before.islower())
                or (in_word and kind[0] not in "LM" and character not in "’\xad·")
            )
    return odd / max(beyond, 1)


def _reads(encoding: str, data: bytes) -> bool:
    try:
        data.decode(encoding)
    except UnicodeError:
        return False
    return True
