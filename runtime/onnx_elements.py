"""Elements of ONNX tensors in forms that numpy does not read: packed varints, float8."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def varints(data: memoryview) -> npt.NDArray[np.uint64]:
    """The numbers of a packed field, uint64.

    Raises:
        ValueError: the bytes end inside a number.
    """
    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 0x80) + 1
    starts = np.concatenate([[0], ends[:-1]]) if len(ends) else ends
    if len(octets) != (ends[-1] if len(ends) else 0) or (ends - starts > 10).any():
        raise ValueError("it ends inside a number")
    shifts = 7 * (np.arange(len(octets)) - np.repeat(starts, ends - starts))
    shifted = (octets & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.add.reduceat(shifted, starts) if len(starts) else shifted


def _e4m3() -> npt.NDArray[np.float32]:
    """The values of the 256 float8 numbers with 4 bits of exponent, 3 of mantissa and no infinities."""
    codes = np.arange(256)
    exponent, mantissa = codes >> 3 & 15, (codes & 7) / 8
    size = np.where(exponent == 0, mantissa * 2.0**-6, (1 + mantissa) * 2.0 ** (exponent - 7))
    size[codes & 127 == 127] = np.nan
    return np.where(codes < 128, size, -size).astype(np.float32)


E4M3 = _e4m3()
