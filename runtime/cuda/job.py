"""The structures of kernels/types.cuh, as Python fills them in."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

_Address = ctypes.c_uint64  # of device memory


class Product(ctypes.Structure):
    """The product with one matrix."""

    _fields_ = (
        ("weights", _Address),
        ("scales", _Address),
        ("block", ctypes.c_int32),
        ("resident", ctypes.c_int32),
        ("place", ctypes.c_int32),
        ("unused", ctypes.c_int32),
    )


class Text(ctypes.Structure):
    """How the characters of a text are chosen, and where its noise begins."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("seed", "stream", "position")),
        *((name, ctypes.c_float) for name in ("temperature", "tau", "top_p", "min_p")),
        *((name, ctypes.c_int32) for name in ("top_k", "filtered", "drawn", "unused")),
    )


class Layer(ctypes.Structure):
    """The products and biases of a layer."""

    _fields_ = (("x", Product), ("h", Product), ("candidate", Product), ("bias", _Address))


_NUMBERS: tuple[tuple[str, Any], ...] = (
    ("streams", ctypes.c_int32),
    ("count", ctypes.c_int32),
    ("fixed", ctypes.c_float),
    ("unused", ctypes.c_int32),
    ("unfixed", ctypes.c_double),
    ("patience", ctypes.c_uint64),
    *((f"{name}_stride", ctypes.c_int64) for name in ("state", "noise", "written", "predicted")),
)
_ADDRESSES = (
    "h", "c", "exchange", "sums", "made", "logits", "barrier", "noise", "texts", "tokens", "written", "top",
    "predicted", "out", "out_scale", "out_bias",
)  # fmt: skip


@functools.cache
def job_type(layers: int) -> type[ctypes.Structure]:
    """A launch of a model with so many layers."""

    class Job(ctypes.Structure):
        _fields_ = (*_NUMBERS, *((name, _Address) for name in _ADDRESSES), ("layer", Layer * layers))

    return Job
