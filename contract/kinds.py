"""What kind of file a person has named, from its first bytes; nothing is loaded or run."""

from __future__ import annotations

import codecs
import zipfile
from pathlib import Path

from .files import reading
from .plan import FLAVOURS

_BEGINNINGS = {
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
    b"\x1f\x8b": "a gzip archive",
    b"BZh": "a bzip2 archive",
    b"\xfd7zXZ": "an xz archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"PAR1": "a Parquet file",
    b"P2TOKENS": "a token file of p2",
    b"\x93NUMPY": "a numpy array",
} | {flavour.magic: f"a {flavour.title} plan" for flavour in FLAVOURS.values()}


def kind_of(path: Path) -> str:
    """A few words for a file, with their article: ``a PyTorch file``, ``a safetensors file``, ``a text``.

    Raises:
        P2Error: it cannot be read.
    """
    with reading(path), path.open("rb") as file:
        head = file.read(4096)
    size = path.stat().st_size
    if not head:
        return "an empty file"
    for beginning, kind in _BEGINNINGS.items():
        if head.startswith(beginning):
            return kind
    if head.startswith(b"PK\x03\x04"):
        return _zipped(path)
    if head[0] == 0x80 and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        # What torch.save wrote before it took to archives begins with a number of its own.
        return "a PyTorch pickle" if b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" in head[:16] else "a Python pickle"
    if head[8:9] == b"{" and 8 + int.from_bytes(head[:8], "little") <= size:
        return "a safetensors file"
    if path.suffix == ".onnx" and head[0] == 8:  # the field that every ONNX file begins with: its version
        return "an ONNX file"
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the last character may be cut
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        return "a file of a kind that p2 does not know"
    return "a JSON document" if text.lstrip().startswith(("{", "[")) else "a text"


def _zipped(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.rpartition("/")[2] for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "a damaged zip archive"
    if "constants.pkl" in names:
        return "a TorchScript file"
    if "data.pkl" in names:
        return "a PyTorch pickle"
    return "a zip archive"
