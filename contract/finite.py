"""NaN and infinity, in weights and in what is computed: they spread through a step, and mean no text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .card import Card
from .errors import NotFinite

# With this for the largest weight of an exported step no sum leaves float32, of any width and at any tau: no
# state and no logit is ever NaN or infinite.
MOST_WEIGHT = 1e24

Named = Mapping[str, npt.NDArray[Any]] | Iterable[tuple[str, npt.NDArray[Any]]]


def first_not_finite(arrays: Named, most: float = sys.float_info.max) -> str | None:
    """The name of the first array that holds NaN or an infinity, or None if all numbers are finite.

    Args:
        arrays: arrays of any type and shape by name, or pairs of the two, read one at a time. Integers are
            always finite; bfloat16 and float8 come widened, for numpy has no such types.
        most: numbers beyond are found, too.
    """
    for name, array in arrays.items() if isinstance(arrays, Mapping) else arrays:
        # NaN is the least and the largest of whatever it is among, so two passes do without a copy.
        if array.size and array.dtype.kind == "f" and not float(max(array.max(), -array.min())) <= most:
            return name
    return None


def top_state(card: Card) -> str:
    """The name of the state that the logits are computed from.

    It tells whether any number of a step was NaN: that goes through every gate, from a state to the next one
    and from a layer to the one above.
    """
    return card.state_names[card.layers - 1]


def check_computed(card: Card, top: npt.NDArray[np.floating[Any]], who: str, result: Any = None) -> None:
    """Make sure that what an engine has just computed are numbers; else what it wrote is no text.

    Args:
        card: the model.
        top: `top_state` after the call, or the logits; a row a text.
        who: the engine's name.
        result: what the call is about to return.

    Raises:
        NotFinite: there is NaN or an infinity among them. Once there it stays, so an engine on a device looks
            when it waits for something anyway. The state has been advanced.
    """
    finite = np.isfinite(top)
    if not finite.all():
        roomier = card.format.roomier
        raise NotFinite(
            f"the model computes NaN or infinity ({who}), so no text follows: its weights are too large"
            + (f" for {card.precision}: export it with --precision {roomier}" if roomier else ""),
            np.flatnonzero(~finite.reshape(len(top), -1).all(axis=1)).tolist(),
            result,
        )
