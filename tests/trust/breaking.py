"""Files changed by who understands them: every function takes good bytes, and gives bytes that are not."""

from __future__ import annotations

import json
import random
import struct
import zlib

from p2.contract.documents import SEAL, digest

from ..test_documents import BYTES, NASTY, changed, places

NUMBERS = (0, 1, 2, 7, 8, 127, 128, 255, 256, 65535, 65536, 10**6, 10**8, 2**31 - 1, 2**31, 2**32 - 1, 2**32,
           2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
WORDS = (
    "",
    "x",
    "\n",
    "..",
    "../../etc/passwd",
    "/dev/zero",
    "\0",
    "é" * 40,
    "x" * 5000,
    "\x1b[31m",
    "0",
    "-1",
    "nan",
)


def any_bytes(data: bytes, rnd: random.Random) -> bytes:
    """Bits, numbers and pieces at random places: one to four changes."""
    made = bytearray(data)
    for _ in range(rnd.choice((1, 1, 2, 4))):
        at = rnd.randrange(len(made) + 1)
        # Headers are at the ends: change those as often as all the rest.
        if rnd.random() < 0.5:
            at = min(len(made), rnd.randrange(256))
            at = at if rnd.random() < 0.7 else len(made) - at
        how = rnd.randrange(7)
        if how == 0 and at < len(made):
            made[at] ^= 1 << rnd.randrange(8)
        elif how == 1:
            number = struct.pack("<Q", rnd.choice(NUMBERS))[: rnd.choice((1, 2, 4, 8))]
            made[at : at + len(number)] = number
        elif how == 2:
            del made[at:]
        elif how == 3:
            del made[at : at + rnd.choice((1, 2, 4, 8, 100))]
        elif how == 4:
            made[at:at] = rnd.randbytes(rnd.choice((1, 4, 8, 100)))
        elif how == 5:
            start = rnd.randrange(len(made) + 1)
            made[at:at] = made[start : start + rnd.choice((4, 16, 300))]
        else:
            made[at : at + 16] = bytes([rnd.choice((0, 1, 127, 128, 255))]) * min(16, len(made) - at)
    return bytes(made)


def json_text(data: bytes, rnd: random.Random) -> bytes:
    """A document with something dropped, of another type, enormous, nested or twice; or none at all."""
    document = json.loads(data)
    how = rnd.random()
    if how < 0.7:
        for _ in range(rnd.choice((1, 1, 1, 2, 3))):
            paths = list(places(document))
            changed_to = rnd.choice((..., *NASTY))
            try:
                document = json.loads(changed(document, rnd.choice(paths), changed_to))
            except (ValueError, TypeError, RecursionError):
                break
        return json.dumps(document).encode()
    if how < 0.8:
        return data.replace(b"{", b'{"%s": 1, "%s": 2, ' % ((rnd.choice((b"x", b"format", b"card")),) * 2), 1)
    if how < 0.85:
        return rnd.choice(BYTES)
    return any_bytes(data, rnd)


def sealed(data: bytes) -> bytes:
    """A document with the checksum that fits it, where it can have one."""
    try:
        document = json.loads(data)
        return json.dumps({**document, SEAL: digest(document)}).encode()
    except (ValueError, TypeError, RecursionError, AttributeError):
        return data


def text(data: bytes, rnd: random.Random) -> bytes:
    """A text with marks, halves of characters, NULs, long lines, and bytes of other encodings."""
    pieces = (
        b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\0", b"\r\n", b"\r", b"\x85", b"\xe2\x80\xa8",
        b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x80", b"\xf0\x9f", b"x" * 70000, b"\x1b[2J",
        "e\u0301\u200d\U0001f468".encode(), "\u4e00".encode("utf-16"), b"\n" * 3000, zlib.compress(data),
        "".join(map(chr, range(256, 3000))).encode(),
    )  # fmt: skip
    made = bytearray(data)
    for _ in range(rnd.choice((1, 1, 2, 5))):
        at = rnd.choice((0, len(made), rnd.randrange(len(made) + 1)))
        made[at:at] = rnd.choice(pieces)
    return bytes(made) if rnd.random() < 0.8 else any_bytes(bytes(made), rnd)
