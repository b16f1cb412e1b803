"""Put large weights on large pages of memory (Linux).

At batch 1 every weight is read for every character, and with pages of 4 KiB a good part of that time
goes into looking addresses up: a step took 15 to 35 % less time with pages of 2 MiB where it was
measured. ONNX Runtime does not ask the kernel for them, so p2 does, once the weights are in place
(`collapse`). For memory of its own p2 asks at once (`empty`).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PAGE = 2 << 20
LINE = 64  # bytes that caches keep together
# Below this the weights lie in a cache, and it makes no difference.
WORTHWHILE = 16 << 20

_MADV_HUGEPAGE, _MADV_COLLAPSE = 14, 25  # from Linux's mman.h; COLLAPSE since Linux 6.1
_SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array with any contents, if it is large on large pages where the system has them."""
    kind = np.dtype(dtype)
    size = math.prod(shape) * kind.itemsize
    if size < PAGE:
        return np.empty(shape, kind)
    memory = mmap.mmap(-1, size + PAGE)  # freed with the last array that looks into it
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    raw = np.frombuffer(memory, np.uint8)
    offset = -raw.ctypes.data % PAGE
    return raw[offset : offset + size].view(kind).reshape(shape)


class Pool:
    """Memory for many arrays, one after the other: small ones share a large page.

    What is read in a row then lies in a row, and in a cache no part of it is in the way of another, as
    parts are that lie on small pages anywhere in the memory.
    """

    def __init__(self) -> None:
        self._free = np.empty(0, np.uint8)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array with any contents, at an address that is a multiple of 64."""
        kind = np.dtype(dtype)
        size = -(-math.prod(shape) * kind.itemsize // LINE) * LINE
        if size > len(self._free):
            self._free = empty((max(PAGE, -(-size // PAGE) * PAGE),), np.uint8)
        taken, self._free = self._free[:size], self._free[size:]
        return taken[: math.prod(shape) * kind.itemsize].view(kind).reshape(shape)


def collapse() -> int:
    """Ask for large pages under all large anonymous memory of this process.

    Returns:
        bytes that now lie on them; 0 where the system has none, or forbids them. Never fails: without,
        everything works the same, only slower.
    """
    if not sys.platform.startswith("linux"):
        return 0
    try:
        if "[never]" in _SETTING.read_text():
            return 0
        maps = Path("/proc/self/maps").read_text()
        libc = ctypes.CDLL(None, use_errno=True)
        madvise = libc.madvise
    except (OSError, AttributeError):
        return 0
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    done = 0
    for start, size in large_ranges(maps):
        if madvise(start, size, _MADV_HUGEPAGE) == 0 and madvise(start, size, _MADV_COLLAPSE) == 0:
            done += size
    return done


def large_ranges(maps: str) -> list[tuple[int, int]]:
    """Whole 2 MiB pages (address, bytes) inside the private anonymous memory that is writable.

    Args:
        maps: the text of ``/proc/<pid>/maps``.
    """
    found = []
    for line in maps.splitlines():
        addresses, rights, _, _, inode, *name = line.split(maxsplit=5)
        if rights != "rw-p" or inode != "0" or (name and name[0].startswith("[stack")):
            continue
        low, high = (int(part, 16) for part in addresses.split("-"))
        start, end = -(-low // PAGE) * PAGE, high // PAGE * PAGE
        if end - start >= 2 * PAGE:
            found.append((start, end - start))
    return found
