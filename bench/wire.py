"""How the benchmark talks to a contender's process: a JSON object in each line, arrays in base64.

Nothing is ever unpickled. Requests carry a number that the reply repeats, so that a line which
something else wrote into the pipe is told apart from an answer.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..contract.card import Card
from .contender import Model

_DTYPES = ("int64", "float32")


def pack(array: npt.NDArray[Any]) -> dict[str, Any]:
    """An int64 or float32 array as JSON values."""
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "data": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii"),
    }


def unpack(value: dict[str, Any]) -> npt.NDArray[Any]:
    """The array that `pack` was given.

    Raises:
        ValueError: the values do not describe an array.
    """
    if value["dtype"] not in _DTYPES:
        raise ValueError(f"not an array of {' or '.join(_DTYPES)}: {value['dtype']!r}")
    flat = np.frombuffer(base64.b64decode(value["data"]), value["dtype"])
    return flat.reshape(value["shape"]).copy()


def pack_model(model: Model) -> dict[str, Any]:
    """A model's paths and card as JSON values."""
    return {
        "name": model.name,
        "card": model.card.to_dict(),
        "checkpoint": str(model.checkpoint),
        "steps": {precision: str(path) for precision, path in model.steps.items()},
    }


def unpack_model(value: dict[str, Any]) -> Model:
    """What `pack_model` was given."""
    return Model(
        name=value["name"],
        card=Card.from_dict(value["card"], "the benchmark's request"),
        checkpoint=Path(value["checkpoint"]),
        steps={precision: Path(path) for precision, path in value["steps"].items()},
    )


def line(message: dict[str, Any]) -> bytes:
    """A message as one line; ASCII, so that no vocabulary can break it."""
    return json.dumps(message).encode("ascii") + b"\n"


def message(data: bytes, number: int) -> dict[str, Any] | None:
    """The reply with this number that a line holds, or None if the line is something else."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("number") == number else None
