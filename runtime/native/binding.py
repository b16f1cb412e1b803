"""The compiled decoder, as Python sees it: the structures of types.h and its functions.

Nothing else hands it a number or an address, and none that its field cannot hold: ctypes would keep the low
bits without a word.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import math
import operator
import platform
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ...contract.arguments import MAX_THREADS
from ...contract.cells import FORMS
from ...contract.errors import P2Error, UsageError

_used: str | None = None  # the level that runs

LAYOUT = 11  # of the structures; the compiled side says the same, or it is of another version
FLOATS, INT8, INT4, HALVES, BRAIN, COMPACT = range(6)
CELLS = {form.name: number for number, form in enumerate(FORMS)}

# Where weights stay: in the caches of single processors, in the one that they share, in the memory.
OWN, SHARED, MEMORY = range(3)

# What the threads of a job divide: the panels of every matrix; the texts; the layers.
PANELS, TEXTS, LAYERS = range(3)

LANES, PANEL = 16, 64  # outputs of a vector; outputs side by side; widths are multiples of it

PIECE = 256  # rows of a panel that every text of a batch meets before the next ones
OUTLIER = np.dtype([("row", np.int32), ("column", np.int32), ("weight", np.float32)])

# How the characters of one text are chosen. numpy refuses what a field cannot hold.
CHOOSING = np.dtype(
    [
        ("seed", np.uint64),
        ("stream", np.uint64),
        ("position", np.uint64),
        ("temperature", np.float32),
        ("filters", np.int32),
        ("top_k", np.int32),
        ("tau", np.float32),
        ("top_p", np.float32),
        ("min_p", np.float32),
    ],
    align=True,
)

_Address = ctypes.c_void_p

_COUNTS = (ctypes.c_int32, ctypes.c_int64)  # nothing that is counted is negative
_FLOAT_MAX = float(np.finfo(np.float32).max)


class _Checked(ctypes.Structure):
    """A structure that refuses what its fields cannot hold.

    Raises (on construction and on assignment):
        UsageError: a number is out of its range.
    """

    _ranges: ClassVar[dict[str, tuple[int, int]]] = {}  # inclusive; else whatever is not negative

    def __setattr__(self, name: str, value: Any) -> None:
        kind: Any = next(field[1] for field in self._fields_ if field[0] == name)
        if kind is ctypes.c_float:
            value = float(value)
            if not math.fabs(value) <= _FLOAT_MAX:
                raise UsageError(f"{name} must be a float32 number, not {value}")
        elif kind is _Address or kind is ctypes.c_uint64 or kind in _COUNTS:
            value = None if value is None else operator.index(value)
            bits = 8 * ctypes.sizeof(kind) - (kind in _COUNTS)
            low, high = self._ranges.get(name, (0, (1 << bits) - 1))
            if value is not None and not low <= value <= high:
                raise UsageError(f"{name} must be {low} to {high}, not {value}")
        super().__setattr__(name, value)


class Product(_Checked):
    """A matrix in panels."""

    _ranges: ClassVar = {
        "kind": (FLOATS, COMPACT),
        "vectors": (0, 4),  # 0: there is no such matrix
        "place": (OWN, MEMORY),
        "ahead": (0, 1),
    }

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


class Layer(_Checked):
    """The products and biases of a layer."""

    _fields_ = (
        ("x", Product),
        ("h", Product),
        ("candidate_x", Product),
        ("candidate_h", Product),
        ("bias", _Address),
        ("candidate_bias", _Address),
    )


class Model(_Checked):
    """A whole model."""

    _ranges: ClassVar = {"cell": (0, 3), "layers": (1, 64), "width": (PANEL, 1 << 17), "vocab": (1, 1 << 21)}

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


class Job(_Checked):
    """A call."""

    _ranges: ClassVar = {"batch": (1, 1 << 30), "threads": (1, MAX_THREADS), "division": (PANELS, LAYERS)}

    _fields_ = (
        ("batch", ctypes.c_int32),
        ("threads", ctypes.c_int32),
        ("division", ctypes.c_int32),
        ("count", ctypes.c_int64),
        ("states", _Address),
        ("cells", _Address),
        ("tokens", _Address),
        ("noise", _Address),
        ("choosing", _Address),
        ("known", _Address),
        ("written", _Address),
        ("logits", _Address),
        ("waits", ctypes.c_int64),
    )


FILE = Path(__file__).with_name("_decoder.so")

# Processors, by their numbers in ELF files.
_PROCESSORS = {62: "x86_64", 183: "aarch64"}


def library() -> ctypes.CDLL | None:
    """The compiled decoder; None where `absence` says why there is none."""
    found = _loaded(FILE)
    return None if isinstance(found, str) else found


def absence() -> str | None:
    """Why there is no compiled decoder; None if there is one."""
    found = _loaded(FILE)
    return found if isinstance(found, str) else None


@functools.cache
def _loaded(path: Path) -> ctypes.CDLL | str:
    if not path.exists():
        return "it was not compiled when p2 was installed"
    try:
        found = ctypes.CDLL(str(path))
        if found.p2_layout() == LAYOUT:
            return _declared(found)
    except AttributeError:
        pass
    except OSError as error:
        made, here = _processor(path), platform.machine()
        if made not in (None, here):
            return f"it was compiled for {made}, and this processor is {here}"
        return f"it does not load: {' '.join(str(error).split())}"
    return "it was compiled from another version of p2"


def _processor(path: Path) -> str | None:
    """What an ELF file was compiled for; None where that is not to be seen."""
    with path.open("rb") as file:
        head = file.read(20)
    return _PROCESSORS.get(int.from_bytes(head[18:], "little")) if head.startswith(b"\x7fELF") else None


def _declared(found: ctypes.CDLL) -> ctypes.CDLL:
    """The same with the types of every function's arguments and answer, as the C files have them."""
    whole, job = ctypes.c_int, (ctypes.POINTER(Model), ctypes.POINTER(Job))

    def array(kind: npt.DTypeLike) -> Any:
        return np.ctypeslib.ndpointer(kind, flags="C_CONTIGUOUS")

    types: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "p2_layout": (whole, ()),
        "p2_level": (ctypes.c_char_p, (whole,)),
        "p2_there": (whole, (whole,)),
        "p2_use": (None, (whole,)),
        "p2_decode": (whole, job),
        "p2_feed": (whole, job),
        "p2_approximate_noise": (None, (array(np.uint32), whole, array(np.float32))),
        "p2_compact": (
            ctypes.c_int64,
            (
                array(np.float32),
                *(whole, whole, whole),
                *([array(np.uint8)] * 3),
                array(OUTLIER),
                array(np.int32),
                ctypes.c_int64,
            ),
        ),
    }
    for name, (answer, arguments) in types.items():
        function = getattr(found, name)
        function.restype, function.argtypes = answer, arguments
    return found


def levels() -> dict[str, bool]:
    """The levels of this build, the fastest first, and whether this processor has their instructions."""
    numbered = _numbered()
    return {name: (name, True) in numbered for name, _ in numbered}


def use(name: str) -> None:
    """Let this process run on a level that is there, from the next call on."""
    global _used
    found = library()
    assert found is not None
    found.p2_use(_numbered().index((name, True)))
    _used = name


def used() -> str | None:
    """The level that `use` was called with last."""
    return _used


def _numbered() -> list[tuple[str, bool]]:
    """By their numbers, the names of the levels, and whether they are there."""
    found = library()
    assert found is not None
    names = itertools.takewhile(bool, map(found.p2_level, itertools.count()))
    return [(name.decode(), bool(found.p2_there(number))) for number, name in enumerate(names)]


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
    count, rows, vectors, _ = panels.shape
    pieces = -(-rows // PIECE)
    sizes = (3 * panels.size, panels.size // 2, count * LANES, count * pieces)
    assert tuple(array.size for array in (made, places, exponents, ends)) == sizes
    fitting = found.p2_compact(
        panels, count, rows, vectors, made, places, exponents, outliers, ends, len(outliers)
    )
    return None if fitting < 0 else int(fitting)


def approximate_noise(words: npt.NDArray[np.uint32]) -> npt.NDArray[np.float32]:
    """What the decoder takes for the noise of some words until it has to know better, float32 ``[count]``.

    Args:
        words: uint32 ``[count]``, a multiple of 16 of them.
    """
    found = library()
    assert found is not None
    assert len(words) % LANES == 0
    made = np.empty(len(words), np.float32)
    found.p2_approximate_noise(words, len(words), made)
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
