"""What the C library does with memory that PyTorch gives back."""

from __future__ import annotations

import ctypes
import platform

# From glibc's malloc.h, and the most that each takes.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_TRIM_BYTES, _MMAP_BYTES = (1 << 31) - 1, 1 << 30


def keep_freed_memory() -> bool:
    """Let this process keep memory that it frees, for the next time it asks for some.

    An update allocates some hundred megabytes and frees them again. glibc takes blocks of that size from
    the system, and gives them back, each time; the system clears every page anew. Kept, training on a CPU
    took little more than half the time (docs/notes/2026-11-25.md). Blocks of more than 1 GiB are still
    given back, and so is the end of the heap beyond 2 GiB.

    Returns:
        whether it could be arranged: glibc only (Linux). Without, everything works the same, slower.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    wanted = ((_MMAP_THRESHOLD, _MMAP_BYTES), (_TRIM_THRESHOLD, _TRIM_BYTES))
    return all(mallopt(name, size) == 1 for name, size in wanted)
