"""Files changed by who understands them: every function takes good bytes, and gives bytes that are not."""

from __future__ import annotations

import hashlib
import io
import json
import pickletools
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

from p2.contract.documents import SEAL, digest
from p2.contract.stamp import stamped
from p2.runtime.protobuf import Damaged, encode, fields

from ..test_documents import BYTES, NASTY, changed, places

Change = Callable[[bytes, random.Random], bytes]

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


# A message is a list of (field number, wire type, value); a value may itself be a message.


def _taken_apart(data: bytes | memoryview, depth: int = 0) -> list[list[Any]]:
    parts: list[list[Any]] = []
    for number, value in fields(data):
        if isinstance(value, int):
            parts.append([number, 0, value])
            continue
        inner: Any = bytes(value)
        if depth < 6 and 1 < len(inner) < 1 << 14:
            try:
                again = _taken_apart(inner, depth + 1)
                inner = again if _together(again) == inner else inner
            except Damaged:
                pass
        parts.append([number, 2, inner])
    return parts


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _together(parts: list[list[Any]]) -> bytes:
    made = []
    for part in parts:
        number, wire, value, *length = part
        key = _varint(number << 3 | wire)
        if wire == 0:
            made.append(key + _varint(value & 2**64 - 1))
        elif wire in (1, 5):
            made.append(
                key + (struct.pack("<Q", value) if wire == 1 else struct.pack("<I", value & 2**32 - 1))
            )
        else:
            body = _together(value) if isinstance(value, list) else value
            made.append(key + _varint(length[0] if length else len(body)) + body)
    return b"".join(made)


def _messages(parts: list[list[Any]]) -> list[list[list[Any]]]:
    found = [parts]
    for part in parts:
        if isinstance(part[2], list):
            found += _messages(part[2])
    return found


def protobuf(data: bytes, rnd: random.Random) -> bytes:
    """A message with fields dropped, doubled, moved, of another number, wire type or length."""
    try:
        parts = _taken_apart(data)
    except Damaged:
        return any_bytes(data, rnd)
    for _ in range(rnd.choice((1, 1, 2, 3))):
        messages = _messages(parts)
        where = rnd.choice(messages)
        if not where:
            continue
        at = rnd.randrange(len(where))
        part = where[at]
        how = rnd.randrange(9)
        if how == 0:
            del where[at]
        elif how == 1:
            where[at:at] = [part] * (rnd.choice((1, 1, 2, 300)) if len(_together([part])) < 100 else 1)
        elif how == 2:
            where.append(where.pop(at))
        elif how == 3:
            part[0] = rnd.choice((1, 2, 3, 5, 7, 8, 9, 13, 14, 20, 1000, 2**29 - 1))
        elif how == 4:
            where[at] = [part[0], 0, rnd.choice(NUMBERS)]
        elif how == 5:
            where[at] = [part[0], rnd.choice((1, 5)), rnd.choice(NUMBERS) & 2**64 - 1]
        elif how == 6:
            where[at] = [part[0], 2, rnd.choice((*WORDS, "x" * 70000)).encode()]
        elif how == 7 and part[1] == 2:
            where[at] = [part[0], 2, part[2], rnd.choice(NUMBERS)]
        else:
            inner: Any = rnd.choice(messages)
            body = _together(inner)[: 1 << 12]
            for _ in range(rnd.choice((1, 3, 100))):
                body = encode(part[0] or 1, body)
            where[at] = [part[0], 2, body]
    return _together(parts)


def signed(data: bytes) -> bytes:
    """A step file with the checksums that fit it, as far as its outermost fields can be told."""
    try:
        parts = [(number, value) for number, value in fields(data)]
        graph = next(value for number, value in parts if number == 7)
        metadata = {}
        for number, value in parts:
            if number == 14:
                entry = dict(fields(value))
                metadata[str(entry[1], "utf-8")] = str(entry.get(2, b""), "utf-8")
        nodes = hashlib.sha256(b"".join(bytes(value) for number, value in fields(graph) if number == 1))
        if "p2.nodes_sha256" in metadata:
            metadata["p2.nodes_sha256"] = json.dumps(nodes.hexdigest())
        made = b"".join(encode(number, value) for number, value in parts if number != 14)
        entries = stamped(metadata, graph).items()
        return made + b"".join(encode(14, encode(1, name) + encode(2, text)) for name, text in entries)
    except (Damaged, StopIteration, UnicodeDecodeError, KeyError, TypeError):
        return data


def safetensors(data: bytes, rnd: random.Random) -> bytes:
    """Names, types, shapes and places of tensors changed, in a header whose length fits, or does not."""
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    how = rnd.randrange(8)
    names = [name for name in header if name != "__metadata__"]
    if how == 0:
        return any_bytes(data, rnd)
    for _ in range(rnd.choice((1, 1, 2))):
        name = rnd.choice(names)
        entry = header.get(name)
        if not isinstance(entry, dict) or len(entry) != 3 or "x" in str(entry) or "None" in str(entry):
            continue  # it has been changed
        if how == 1:
            entry["dtype"] = rnd.choice(("F64", "F16", "BF16", "I8", "BOOL", "F8_E4M3", "X", 3, None, "U64"))
        elif how == 2:
            size = rnd.choice((*NUMBERS, -1))
            entry["shape"] = rnd.choice(
                ([size], [size, size], [], [1] * 100, [0, size], "x", None, entry["shape"][::-1])
            )
        elif how == 3:
            start, end = (*entry["data_offsets"], 0, 0)[:2]
            ends = (start, end, 0, len(body), start + 1, end - 4, rnd.choice(NUMBERS))
            entry["data_offsets"] = rnd.choice(
                ([rnd.choice(ends), rnd.choice(ends)], [], None, [start, end, end])
            )
        elif how == 4:
            header[rnd.choice(WORDS)] = header.pop(name)
        elif how == 5:
            del header[name]
        elif how == 6:
            values = rnd.choice((None, [], {"a": 1}, {"a": "x" * 100}, "x"))
            header["__metadata__"] = values
        else:
            entry[rnd.choice(("dtype", "shape", "data_offsets", "more"))] = rnd.choice(NASTY)
    text = json.dumps(header).encode()
    if rnd.random() < 0.1:
        text = text.replace(b"{", b'{"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, ' * 2, 1)
    said = rnd.choice(NUMBERS) if rnd.random() < 0.1 else len(text)
    return (
        struct.pack("<Q", said)
        + text
        + (body if rnd.random() < 0.9 else body[: rnd.randrange(len(body) + 1)])
    )


def safetensors_numbers(data: bytes, rnd: random.Random) -> bytes:
    """The same file with a number that is none, or is enormous."""
    (length,) = struct.unpack("<Q", data[:8])
    made = bytearray(data)
    at = 8 + length + 4 * rnd.randrange((len(data) - 8 - length) // 4)
    made[at : at + 4] = struct.pack(
        "<f", rnd.choice((float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 1e-45))
    )
    return bytes(made)


def pickled(data: bytes, rnd: random.Random) -> bytes:
    """A pickle with operations dropped, doubled, moved, of other arguments, or that call something."""
    try:
        found = list(pickletools.genops(data))
    except Exception:
        return any_bytes(data, rnd)
    ends = [at for _, _, at in found[1:]] + [len(data)]
    pieces = [data[at:end] for (_, _, at), end in zip(found, ends, strict=True)]
    for _ in range(rnd.choice((1, 1, 2, 4))):
        at = rnd.randrange(len(pieces))
        name = found[at][0].name if at < len(found) else ""
        how = rnd.randrange(6)
        if "INT" in name and how < 4:
            pieces[at] = _long(rnd.choice((*NUMBERS, -1, -(2**40), 10**30)))
        elif "UNICODE" in name and how < 4:
            text = rnd.choice((*WORDS, "cuda:0", "meta", "0", "1", "FloatStorage")).encode()
            pieces[at] = b"X" + struct.pack("<I", len(text)) + text
        elif "GLOBAL" in name and how < 4:
            pieces[at] = rnd.choice(GLOBALS)
        elif how == 4:
            pieces[at] = b""
        elif how == 5:
            other = rnd.randrange(len(pieces))
            pieces[at], pieces[other] = pieces[other], pieces[at]
        else:
            pieces[at] *= 2
    return b"".join(pieces)


GLOBALS = tuple(
    f"c{module}\n{name}\n".encode()
    for module, names in {
        "os": "system",
        "builtins": "eval exec",
        "subprocess": "Popen",
        "collections": "Counter",
        "_codecs": "encode",
        "torch": "load DoubleStorage Size bfloat16 device",
        "torch.nn.parameter": "Parameter",
        "torch._utils": "_rebuild_sparse_tensor _rebuild_qtensor _rebuild_parameter _rebuild_wrapper_subclass"
        " _rebuild_meta_tensor_no_storage",
    }.items()
    for name in names.split()
)


def _long(value: int) -> bytes:
    data = value.to_bytes(17, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def archive(data: bytes, rnd: random.Random, inside: Callable[[str, bytes, random.Random], bytes]) -> bytes:
    """A zip archive with a changed entry, other names, sizes or packing, or one that unpacks to much more."""
    if rnd.random() < 0.2:
        return any_bytes(data, rnd)
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        entries = [(entry.filename, file.read(entry)) for entry in file.infolist()]
    at = rnd.randrange(len(entries))
    name, content = entries[at]
    pack, how = zipfile.ZIP_STORED, rnd.random()
    if how < 0.7:
        entries[at] = name, inside(name, content, rnd)
    elif how < 0.76:
        del entries[at]
    elif how < 0.82:
        entries.append((name, content))
    elif how < 0.88:
        entries[at] = rnd.choice(("../x", "/etc/x", f"{name}x", "x" * 300, name.upper())), content
    elif how < 0.9:
        entries[at] = name, bytes(96 << 20)
        pack = zipfile.ZIP_DEFLATED
    else:
        pack = rnd.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", pack) as file:
        for name, content in entries:
            file.writestr(zipfile.ZipInfo(name) if pack == zipfile.ZIP_STORED else name, content)
    whole = bytearray(made.getvalue())
    if rnd.random() < 0.1:  # sizes in the directory
        where = whole.rfind(b"PK\x01\x02") + rnd.choice((20, 24, 28, 30, 42))
        whole[where : where + 4] = struct.pack("<I", rnd.choice(NUMBERS) & 2**32 - 1)
    return bytes(whole)


def hdf5(data: bytes, rnd: random.Random) -> bytes:
    """An HDF5 file whose sets are of other types and shapes, links, packed or elsewhere; or other bytes."""
    import h5py
    import numpy as np

    if rnd.random() < 0.4:
        return any_bytes(data, rnd)
    made = io.BytesIO(data)
    with h5py.File(made, "r+") as file:
        sets: list[str] = []
        groups: list[str] = []
        file.visititems(lambda name, one: (sets if isinstance(one, h5py.Dataset) else groups).append(name))
        name, group = rnd.choice(sets), rnd.choice(groups)
        old = file[name][()]
        how = rnd.randrange(11)
        if how < 9:
            del file[name]
        if how == 0:
            file.create_dataset(
                name, shape=rnd.choice(((2**40,), (2**20, 2**20), (0, 5), ())), chunks=None, dtype="f4"
            ) if rnd.random() < 0.3 else file.create_dataset(
                name, shape=(10**6, 10**6), chunks=(64, 64), dtype="f4"
            )
        elif how == 1:
            file[name] = old.astype(rnd.choice(("f2", "f8", "i4", "u1", "c8", "S4")))
        elif how == 2:
            file[name] = old.reshape(-1)[: rnd.randrange(old.size + 1)]
        elif how == 3:
            file[name] = h5py.SoftLink(rnd.choice(("/", f"/{name}", "/nowhere", f"/{sets[0]}")))
        elif how == 4:
            file[name] = h5py.ExternalLink("/etc/passwd", "/")
        elif how == 5:
            file.create_dataset(name, data=np.zeros((4096, 4096), "f4"), chunks=True, compression="gzip")
        elif how == 6:
            file.create_dataset(
                name, shape=(10**5,), dtype="f4", external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]
            )
        elif how == 7:
            layout = h5py.VirtualLayout(shape=(10**5,), dtype="f4")
            layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(10**5,))
            file.create_virtual_dataset(name, layout)
        elif how == 8:
            bad = np.array(old)
            bad.flat[rnd.randrange(max(1, bad.size))] = rnd.choice((np.nan, np.inf, 3e38))
            file[name] = bad
        elif how == 9:
            file[f"{group}/{rnd.choice(('0', '9', 'x', '-1', '1e3'))}x"] = file[group]
        else:
            attributes = file[group].attrs
            key = rnd.choice([*attributes] or ["weight_names"])
            attributes[key] = rnd.choice(
                (b"\xff\xfe", 7, np.arange(3), "x" * 100, np.array([b"a/b", b"../c"]))
            )
    return made.getvalue()


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
