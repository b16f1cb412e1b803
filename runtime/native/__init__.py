"""The decode loop in C: no operators, one pass over the weights a character.

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
- ``compact.h``, ``compacting.c``, ``opening``: float32 weights in 28 bits: how they are made, and where they
  are widened for a whole piece of a text.
- ``noise``, ``choice``: the noise by address, and the character that is chosen.
- ``team``, ``memory``: threads that wait for one another, and what they work on.
- ``instructions``: which level runs, of those that are compiled.

A level is what is compiled for one kind of processor, in a folder of its kind: ``avx512`` has two, ``avx2``
and ``neon`` three, whose ``plain.c``, ``vnni.c``, ``dotprod.c`` and ``i8mm.c`` multiply integers.

- ``vectors.h``: its instructions and vectors.
- ``floats.c``, ``integers.c``: products with weights in 32 and 16, and in 8 and 4 bits; ``avx512`` has
  ``compact.c`` for 28, and ``tiles.c``, AMX's for many texts in 8.
- ``level.c``: the level as ``instructions`` knows it, with what all have in common: ``lanes``, where
  ``arithmetic.h`` and ``cells.h`` go from sums to the next state, and ``noise.h`` makes noise, nearly.
"""

from __future__ import annotations

import os

from ...contract.errors import UsageError

CPU = "P2_CPU"  # the variable that names a level


def level() -> str | None:
    """The name of the level that the decoder runs on, `CPU` or the fastest one; None where it runs on none.

    Raises:
        UsageError: `CPU` names none, or one whose instructions this processor lacks.
    """
    from . import binding

    if binding.library() is None:
        return None
    levels, asked = binding.levels(), os.environ.get(CPU)
    if not asked:
        return next((name for name, there in levels.items() if there), None)
    if asked not in levels:
        *first, last = levels
        raise UsageError(f"{CPU} must be {', '.join(first)} or {last} on this kind of machine, not {asked!r}")
    if not levels[asked]:
        raise UsageError(f"{CPU}={asked} asks for instructions that this processor does not have")
    return asked


def problem() -> str | None:
    """Why the compiled decoder cannot run on this machine; None if it can."""
    from . import binding

    try:
        if (chosen := level()) is None:
            return binding.absence() or "it needs a processor with AVX2, FMA and F16C"
    except UsageError as error:
        return str(error)
    binding.use(chosen)
    return None


def available() -> bool:
    """Whether the compiled decoder is here and this processor has its instructions."""
    return problem() is None
