"""The decode loop in C, for x86 processors: no operators, one pass over the weights a character."""

from __future__ import annotations


def problem() -> str | None:
    """Why the compiled decoder cannot run on this machine; None if it can."""
    from . import binding

    found = binding.library()
    if found is None:
        return "it was not compiled when p2 was installed"
    return None if found.p2_supported() else "it needs a processor with AVX-512 and VNNI"


def available() -> bool:
    """Whether the compiled decoder is here and this processor has its instructions."""
    return problem() is None
