"""NaN and infinity in weights: they spread through a step and end as text that means nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Named = Mapping[str, npt.NDArray[Any]] | Iterable[tuple[str, npt.NDArray[Any]]]


def first_not_finite(arrays: Named) -> str | None:
    """The name of the first array that holds NaN or an infinity, or None if all numbers are finite.

    Args:
        arrays: arrays of any type and shape by name, or pairs of the two, read one at a time. Integers are
            always finite; bfloat16 and float8 come widened, for numpy has no such types.
    """
    for name, array in arrays.items() if isinstance(arrays, Mapping) else arrays:
        # NaN is the least and the largest of whatever it is among, so two passes do without a copy.
        if array.size and array.dtype.kind == "f" and not np.isfinite([array.min(), array.max()]).all():
            return name
    return None
