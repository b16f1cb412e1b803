"""Documents and texts: good files, hostile ones, and their use; see `reading.Reader`."""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import lzma
import random
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p2.contract.errors import P2Error

from .. import test_documents as documents
from ..conftest import make_card
from . import breaking
from .reading import Files, Reader

Rnd = random.Random


def forge_documents(files: Files, rnd: Rnd) -> Files:
    return {name: breaking.json_text(data, rnd) for name, data in files.items()}


def of_document(kind: str) -> Reader:
    made: dict[str, Any] = {}

    def prepare() -> None:
        if not made:
            folder = Path(tempfile.mkdtemp())
            path, document, read = documents.KINDS[kind](folder)
            made.update(name=path.name, data=json.dumps(document).encode(), path=path, use=read)

    def good(_number: int) -> Files:
        prepare()
        return {made["name"]: made["data"]}

    def read(folder: Path) -> None:
        made["path"].write_bytes((folder / made["name"]).read_bytes())
        made["use"](made["path"])

    return Reader(f"documents: {kind}", good, forge_documents, read, 300)


def good_tuning(_number: int) -> Files:
    return {
        "tuning.json": json.dumps(
            {"key": "k", "plans": {"1": {"threads": 2, "group": 1}}, "layout": 1}
        ).encode()
    }


def read_tuning(folder: Path) -> None:
    from p2.runtime import tuning

    memory = tuning.Memory(make_card(), "here", 2)
    data = (folder / "tuning.json").read_bytes()
    with contextlib.suppress(ValueError, TypeError, RecursionError, AttributeError):
        told = json.loads(data)
        data = json.dumps(told | {"key": memory._key} if told.get("key") == "k" else told).encode()
    memory.path.parent.mkdir(parents=True, exist_ok=True)
    memory.path.write_bytes(data)
    memory = tuning.Memory(make_card(), "here", 2)
    setting = memory.get(1)
    assert setting is None or setting.threads <= 2
    assert memory.layout() is None or memory.layout() >= 0  # type: ignore[operator]
    memory.put(4, tuning.Setting(1, 4))


def good_text(_number: int) -> Files:
    return {"text.txt": b"The quick brown fox jumps over the lazy dog.\n" * 20}


def forge_text(files: Files, rnd: Rnd) -> Files:
    return {"text.txt": breaking.text(files["text.txt"], rnd)}


def read_text(folder: Path) -> None:
    from p2.contract.codec import Codec
    from p2.runtime.prompts import Prompts, read_prompt
    from p2.trainer.corpus import load

    path = folder / "text.txt"
    problem = None
    for call in (
        lambda: load([str(path)]).text,
        lambda: load([str(path)], None, "replace").text,
        lambda: load([str(folder)], "latin-1").text,
        lambda: read_prompt(path),
        lambda: Prompts(str(path)).check(Codec("abc"), "skip"),
        lambda: [*Prompts(str(path))],
    ):
        try:
            call()
        except P2Error as error:
            problem = error
    if problem:
        raise problem


LINES = b"".join(
    json.dumps({"text": f"the quick brown fox {at}", "n": at}).encode() + b"\n" for at in range(20)
)


@functools.cache
def good_packed(number: int) -> Files:
    from p2.trainer.tokenizing import tokenize

    plain = good_text(0)["text.txt"]
    for pack in (gzip.compress, lzma.compress):
        zeros(pack)
    with tempfile.TemporaryDirectory() as folder:
        path, tokens = Path(folder) / "text.txt", Path(folder) / "text.tokens"
        path.write_bytes(plain)
        tokenize([str(path)], tokens)
        return (
            {"text.txt.gz": gzip.compress(plain)},
            {"text.txt.xz": lzma.compress(plain)},
            {"text.jsonl": LINES},
            {"text.jsonl.gz": gzip.compress(LINES)},
            {"text.tokens": tokens.read_bytes()},
        )[number % 5]


@functools.cache
def zeros(pack: Callable[[bytes], bytes]) -> bytes:
    """What unpacks to much more."""
    return pack(bytes(96 << 20))


def forge_packed(files: Files, rnd: Rnd) -> Files:
    ((name, data),) = files.items()
    if name.endswith(".tokens"):
        return {name: forge_tokens(data, rnd)}
    if name.endswith(".jsonl"):
        lines = data.splitlines(keepends=True)
        at = rnd.randrange(len(lines))
        lines[at] = breaking.json_text(lines[at], rnd) + b"\n" * (rnd.random() < 0.9)
        return {name: b"".join(lines)}
    if rnd.random() < 0.5:
        return {name: breaking.any_bytes(data, rnd)}
    pack, unpack = (
        (lzma.compress, lzma.decompress) if name.endswith(".xz") else (gzip.compress, gzip.decompress)
    )
    if rnd.random() < 0.02:
        return {name: zeros(pack)}
    plain = breaking.text(unpack(data), rnd)
    return {name: pack(rnd.choice((plain, plain, pack(plain))))}


def forge_tokens(data: bytes, rnd: Rnd) -> bytes:
    """Its header and description changed, with the checksum that fits; or any bytes."""
    if rnd.random() < 0.3:
        return breaking.any_bytes(data, rnd)
    magic, count, width, described, _ = struct.unpack("<8sQII8x32s", data[:64])
    description = breaking.json_text(data[len(data) - described :], rnd)
    if rnd.random() < 0.2:
        count, width = rnd.choice(
            ((count, 4), (2**63, width), (count * 2, width), (0, width), (count, 2**31))
        )
    if rnd.random() < 0.1:
        return data[:64] + bytes([rnd.choice((200, 255))]) * 20 + data[84:]
    seal = hashlib.sha256(description).digest()
    head = struct.pack("<8sQII8x32s", magic, count, width, len(description), seal)
    return head + data[64 : len(data) - described] + description


def read_packed(folder: Path) -> None:
    from p2.trainer.corpus import load

    (path,) = folder.iterdir()
    held = load([str(path)], column="text" if "jsonl" in path.name else None)
    assert len(held.text) == len(held)
    assert held.describe().isprintable()
    held.encode(held.vocabulary + "\U0010ffff")


READERS = (
    *(of_document(kind) for kind in documents.KINDS if kind not in ("checkpoint", "sidecar")),
    Reader("documents: tuning", good_tuning, forge_documents, read_tuning, 600),
    Reader("texts and prompts", good_text, forge_text, read_text, 1300),
    Reader("texts: packed, tables, tokens", good_packed, forge_packed, read_packed, 1000, 90),
)
