"""The decode loop in C, for x86 processors: no operators, one pass over the weights a character."""

from __future__ import annotations


def available() -> bool:
    """Whether the compiled decoder is here and this processor has its instructions."""
    from .binding import library

    found = library()
    return found is not None and bool(found.p2_supported())
