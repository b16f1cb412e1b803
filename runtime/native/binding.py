"""The compiled decoder, as Python sees it: the structures of decoder.h and two functions."""

from __future__ import annotations

import ctypes
import functools
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from ...spec.errors import P2Error

LAYOUT = 2  # of the structures; the compiled side says the same, or it is of another version
FLOATS, INT8, INT4, HALVES, BRAIN = range(5)
CELLS = {("rnn", ""): 0, ("lstm", ""): 1, ("gru", "after"): 2, ("gru", "before"): 3}

_Address = ctypes.c_void_p


class Product(ctypes.Structure):
    """A matrix in panels."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("vectors", ctypes.c_int32),
        ("rows", ctypes.c_int32),
        ("block", ctypes.c_int32),
        ("weights", _Address),
        ("scales", _Address),
        ("start", _Address),
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
        ("count", ctypes.c_int64),
        ("states", _Address),
        ("cells", _Address),
        ("tokens", _Address),
        ("noise", _Address),
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
