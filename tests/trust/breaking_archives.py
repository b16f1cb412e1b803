"""What other programs pack models into, changed by who understands it: pickles, zip, HDF5; see `breaking`."""

from __future__ import annotations

import io
import pickletools
import random
import struct
import zipfile
from collections.abc import Callable

from .breaking import NUMBERS, WORDS, any_bytes


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
