"""The decode loop in C, for x86 processors: no operators, one pass over the weights a character.

In Python:

- ``binding``: the structures and functions of the C side, checked.
- ``packing``: a step's weights in the order in which the decoder reads them.
- ``engine``: the engine that runs on it.
- ``pace``: which of several settings is the fastest now.
- ``huge_pages``: memory for weights on large pages.

In C, where every header says what its ``.c`` file does:

- ``types.h``: all types; first those that ``binding`` mirrors.
- ``decoder.c``: what Python calls, and who does what in a job.
- ``loops``: writing and reading, character by character.
- ``steps``: one character of a layer, and the prediction.
- ``multiply``: which kernels make a product.
- ``kernels``: products with weights in 32, 16, 8 and 4 bits.
- ``compact``, ``compacting.c``, ``opening``: float32 weights in 28 bits: their kernels, how they are made,
  and where they are widened for a whole piece of a text.
- ``cells``: from sums to the next state.
- ``noise``, ``choice``: the noise by address, and the character that is chosen.
- ``team``, ``memory``: threads that wait for one another, and what they work on.
- ``avx512.h``, ``arithmetic.h``: the instructions of the kernels, and functions on vectors.
"""

from __future__ import annotations


def problem() -> str | None:
    """Why the compiled decoder cannot run on this machine; None if it can."""
    from . import binding

    found = binding.library()
    if found is None:
        return binding.absence()
    return None if found.p2_supported() else "it needs a processor with AVX-512 and VNNI"


def available() -> bool:
    """Whether the compiled decoder is here and this processor has its instructions."""
    return problem() is None
