"""What claims are judged by: how results are read and put into sentences, and what counts as most."""

from __future__ import annotations

from typing import Any

from ..judging import NotMeasured, Results, Rule
from . import seed

Checkpoint = dict[str, Any]

NEARLY_ALL, MOST, FEW, HARDLY_ANY = 0.95, 0.5, 0.05, 0.02
"""Shares that claims in words are held to."""


def at(results: Results, accuracy: float) -> Checkpoint:
    """The checkpoint that was kept at an accuracy.

    Raises:
        NotMeasured: there is none: the message says what there is.
    """
    for checkpoint in results["checkpoints"]:
        if checkpoint["asked"] is not None and abs(checkpoint["asked"] - accuracy) < 0.011:
            return dict(checkpoint)
    best = results["training"]["best_accuracy"]
    raise NotMeasured(
        f"No texts at {accuracy:g}: the running training accuracy came to {best:.3f} at best in"
        f" {results['training']['updates']:,} updates."
    )


def three(results: Results) -> tuple[Checkpoint, Checkpoint, Checkpoint]:
    """The checkpoints of the report's three accuracies."""
    return at(results, seed.LOW), at(results, seed.MIDDLE), at(results, seed.HIGH)


def unmeasured(reason: str) -> Rule:
    """A judgement that there is none, and why."""
    return lambda _: (reason, "not measured")


def percent(share: float | None) -> str:
    """A share for a sentence."""
    return "–" if share is None else f"{share:.0%}"


def rate(value: float | None) -> str:
    """A rate for a sentence."""
    return "–" if value is None else f"{value:.1f}"


def whole(value: float | None) -> str:
    """A number for a sentence, without decimals."""
    return "–" if value is None else f"{value:,.0f}"
