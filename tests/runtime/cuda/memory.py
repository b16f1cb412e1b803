"""Memory of a GPU on this machine: exactly as large as was asked for, and full of NaN.

Behind it begins a page that nobody may touch, before it lies another one; where the alignment leaves bytes
between, they are checked.
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
import numpy.typing as npt

ALIGNMENT = 256  # of every address that a GPU gives
POISON = 0x7FA5FFC3  # NaN as float32, and both halves as float16 and as bfloat16
_GUARD = 0xDB
_NOBODY = 0  # PROT_NONE

_libc = ctypes.CDLL(None, use_errno=True)


class Fenced:
    """A piece of memory.

    Attributes:
        address: where it begins, a multiple of `ALIGNMENT`.
        bytes: its contents, uint8 ``[size]``; the memory goes when nobody has them any more.
    """

    def __init__(self, size: int) -> None:
        page = mmap.PAGESIZE
        used = -(-size // ALIGNMENT) * ALIGNMENT
        inside = -(-max(used, 1) // page) * page
        everything = np.frombuffer(mmap.mmap(-1, inside + 2 * page), np.uint8)
        for offset in (0, page + inside):
            at = ctypes.c_void_p(everything.ctypes.data + offset)
            if _libc.mprotect(at, ctypes.c_size_t(page), _NOBODY):
                raise OSError(ctypes.get_errno(), "mprotect")
        start = page + inside - used
        self._before, self._behind = everything[page:start], everything[start + size : page + inside]
        self._before[:] = self._behind[:] = _GUARD
        self.bytes = everything[start : start + size]
        self.bytes[:] = np.resize(np.array([POISON], "<u4").view(np.uint8), size)
        self.address = everything.ctypes.data + start

    def fault(self) -> str | None:
        """What was written beside it, if anything was."""
        for side, where in (("before", self._before), ("behind", self._behind)):
            if (where != _GUARD).any():
                return f"a kernel wrote {side} the {self.bytes.size} bytes at {self.address:#x}"
        return None


class Memory:
    """What a test has on the device, as arrays; `check` tells whether anybody wrote beside them."""

    def __init__(self) -> None:
        self._pieces: list[Fenced] = []

    def empty(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array full of NaN."""
        kind = np.dtype(dtype)
        piece = Fenced(int(np.prod(shape)) * kind.itemsize)
        self._pieces.append(piece)
        made: npt.NDArray[Any] = piece.bytes.view(kind).reshape(shape)
        return made

    def zeros(self, shape: int | tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        made = self.empty(shape, dtype)
        made[...] = 0
        return made

    def copy(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        made = self.empty(array.shape, array.dtype)
        made[...] = array
        return made

    def check(self) -> None:
        """Raises AssertionError."""
        for piece in self._pieces:
            assert piece.fault() is None, piece.fault()
