"""Named sets of defaults for a training run. An option that is named itself wins."""

from __future__ import annotations

from typing import Any

from ..contract.errors import UsageError
from .ranges import flag

_LONG = {
    "stateful": True,
    "seq_len": 128,
    "schedule": "cosine",
    "lr_decay": 0.01,
    "warmup": 100,
    "val_every": 250,
}

PURPOSES = {
    "demo": "the defaults",
    "small": "minutes",
    "book": "a novel in half an hour on two cores",
    "best": "a million characters in half an hour on a fast core",
}

PRESETS: dict[str, dict[str, Any]] = {
    "demo": {},
    "small": {
        "embedding": 32,
        "hidden": 128,
        "batch_size": 32,
        "steps": 3000,
        "lr": 6e-3,
        "schedule": "cosine",
        "lr_decay": 0.01,
        "warmup": 100,
    },
    "book": {
        **_LONG,
        "embedding": 128,
        "hidden": 384,
        "dropout": 0.5,
        "output_dropout": 0.4,
        "weight_drop": 0.3,
        "batch_size": 32,
        "steps": 5000,
        "lr": 3e-3,
        "patience": 8,
    },
    "best": {
        **_LONG,
        "embedding": 128,
        "hidden": 512,
        "dropout": 0.3,
        "output_dropout": 0.2,
        "weight_decay": 0.5,
        "batch_size": 32,
        "seq_len": 64,
        "steps": 13200,
        "lr": 3e-3,
        "warmup": 50,
        "val_every": 150,
    },
}


def about() -> str:
    """What each is for and sets, as options."""
    return ". ".join(f"{name}, {PURPOSES[name]}{_flags(values)}" for name, values in PRESETS.items()) + "."


def _flags(values: dict[str, Any]) -> str:
    words = [flag(name) + ("" if value is True else f" {value}") for name, value in values.items()]
    return ": " + " ".join(words) if words else ""


def preset(name: str) -> dict[str, Any]:
    """What a preset sets, by field of `TrainOptions`; ``demo`` leaves all defaults as they are.

    Raises:
        UsageError: there is none of this name.
    """
    if name not in PRESETS:
        raise UsageError(f"unknown --preset {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]
