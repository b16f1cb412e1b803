"""The compiled decoder, as Python sees it: the structures of decoder.h and two functions."""

from __future__ import annotations

import ctypes
import functools
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...spec.errors import P2Error

LAYOUT = 6  # of the structures; the compiled side says the same, or it is of another version
FLOATS, INT8, INT4, HALVES, BRAIN, COMPACT = range(6)
CELLS = {("rnn", ""): 0, ("lstm", ""): 1, ("gru", "after"): 2, ("gru", "before"): 3}

# Where weights stay: in the caches of single processors, in the one that they share, in the memory.
OWN, SHARED, MEMORY = range(3)

# What the threads of a job divide: the panels of every matrix; the texts; the layers.
PANELS, TEXTS, LAYERS = range(3)

PIECE = 256  # rows of a panel that every text of a batch meets before the next ones
OUTLIER = np.dtype([("row", np.int32), ("column", np.int32), ("weight", np.float32)])

_Address = ctypes.c_void_p


class Product(ctypes.Structure):
    """A matrix in panels."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("vectors", ctypes.c_int32),
        ("rows", ctypes.c_int32),
        ("block", ctypes.c_int32),
        ("place", ctypes.c_int32),
        ("weights", _Address),
        ("scales", _Address),
        ("start", _Address),
        ("places", _Address),
        ("exponents", _Address),
        ("outliers", _Address),
        ("outlier_ends", _Address),
        ("ahead", ctypes.c_int32),
    )


class Layer(ctypes.Structure):
    """The products and biases of a layer."""

    _fields_ = (
        ("x", Product),
        ("h", Product),
        ("candidate_x", Product),
        ("candidate_h", Product),
        ("bias", _Address),
        ("candidate_bias", _Address),
    )


class Model(ctypes.Structure):
    """A whole model."""

    _fields_ = (
        ("cell", ctypes.c_int32),
        ("layers", ctypes.c_int32),
        ("width", ctypes.c_int32),
        ("vocab", ctypes.c_int32),
        ("vocab_width", ctypes.c_int32),
        ("layer", ctypes.POINTER(Layer)),
        ("out", Product),
        ("out_bias", _Address),
    )


class Filters(ctypes.Structure):
    """Settings of `spec.sampling`'s filters."""

    _fields_ = (
        ("on", ctypes.c_int32),
        ("top_k", ctypes.c_int32),
        ("tau", ctypes.c_float),
        ("top_p", ctypes.c_float),
        ("min_p", ctypes.c_float),
    )


class Job(ctypes.Structure):
    """A call."""

    _fields_ = (
        ("batch", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("division", ctypes.c_int32),
        ("count", ctypes.c_int64),
        ("states", _Address),
        ("cells", _Address),
        ("tokens", _Address),
        ("noise", _Address),
        ("streams", _Address),
        ("seed", ctypes.c_uint64),
        ("position", ctypes.c_uint64),
        ("temperature", ctypes.c_float),
        ("settings", ctypes.POINTER(Filters)),
        ("written", _Address),
        ("logits", _Address),
        ("waits", ctypes.c_int64),
    )


@functools.cache
def library() -> ctypes.CDLL | None:
    """The compiled decoder, or None where it was not built: it needs a C compiler when p2 is installed."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).parent / f"_decoder{suffix}"
        if path.exists():
            try:
                found = ctypes.CDLL(str(path))
                return found if found.p2_layout() == LAYOUT else None
            except (OSError, AttributeError):  # built for another machine, or from another version
                return None
    return None


def compact(
    panels: npt.NDArray[np.float32],
    made: npt.NDArray[np.uint8],
    places: npt.NDArray[np.uint8],
    exponents: npt.NDArray[np.uint8],
    outliers: npt.NDArray[np.void],
    ends: npt.NDArray[np.int32],
) -> int | None:
    """Put float32 weights into 28 bits (compact.h).

    Args:
        panels: float32 ``[panels, rows, vectors, 16]``.
        made: receives three bytes of each number.
        places: receives half a byte of each.
        exponents: uint8 ``[panels, 16]``, likewise.
        outliers: of `OUTLIER`, the numbers that do not fit; at most so many.
        ends: int32 ``[panels, pieces of PIECE rows]``, how many there are up to the end of each.

    Returns:
        the number of outliers; None where there are more, or a weight is not finite.
    """
    found = library()
    assert found is not None
    found.p2_compact.restype = ctypes.c_int64
    addresses = [_Address(array.ctypes.data) for array in (made, places, exponents, outliers, ends)]
    fitting = found.p2_compact(
        _Address(panels.ctypes.data), *panels.shape[:3], *addresses, ctypes.c_int64(len(outliers))
    )
    return None if fitting < 0 else int(fitting)


def approximate_noise(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    """What the decoder takes for the noise of some words until it has to know better, float32 ``[count]``.

    Args:
        words: uint32 ``[count]``, a multiple of 16 of them.
    """
    found = library()
    assert found is not None
    made = np.empty(len(words), np.float32)
    found.p2_approximate_noise(_Address(words.ctypes.data), len(words), _Address(made.ctypes.data))
    return made


def run(name: str, model: Model, job: Job) -> None:
    """Call ``p2_decode`` or ``p2_feed``; other Python threads go on meanwhile.

    Raises:
        P2Error: there is no memory for the job, or no thread to be had.
    """
    found = library()
    assert found is not None
    if getattr(found, name)(ctypes.byref(model), ctypes.byref(job)):
        raise P2Error(
            f"there is no memory or there are no threads for {job.batch} texts on {job.threads} threads"
        )
