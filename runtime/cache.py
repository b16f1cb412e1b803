"""What was learnt on a machine, by NVIDIA's libraries and by `runtime.tuning`, in the user's cache folder.

A cache saves time and nothing else: one that is missing, unreadable or of another version is as good as
empty, and one that cannot be written is not missed.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from ..contract.errors import P2Error
from ..contract.files import write_bytes
from ..contract.plan import Flavour


def folder() -> Path:
    """``$XDG_CACHE_HOME/p2``, or ``~/.cache/p2``; a relative XDG_CACHE_HOME does not count.

    Who has no home folder gets one in which nothing can be read or written.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (named if named.is_absolute() else Path.home() / ".cache") / "p2"
    except RuntimeError:
        return Path(os.devnull) / "p2"


def cache_path(kind: str, flavour: Flavour, version: str, gpu: str) -> Path:
    """Where one cache lies.

    Args:
        kind: ``timing`` (the builder's) or ``kernels`` (TensorRT-RTX's, of the running engine).
        flavour: the library it belongs to.
        version: of the library; no other can read it.
        gpu: name of the GPU it was measured on.
    """
    slug = re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-")
    return folder() / f"{flavour.name}-{version}" / f"{kind}-{slug}.bin"


def read_cache(path: Path) -> bytes:
    """What was kept, or nothing."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def write_cache(path: Path, data: bytes) -> None:
    """Keep `data`, whole or not at all."""
    with contextlib.suppress(P2Error, OSError):
        write_bytes(path, data)
