"""How well a model predicts, and how far a run has come. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

SMOOTHING = 50
"""Updates that a running average looks back on."""


@dataclass(frozen=True)
class Metrics:
    """Prediction quality over some characters.

    Attributes:
        loss: mean cross entropy in nats per character.
        accuracy: share of characters whose most probable prediction was right.
    """

    loss: float
    accuracy: float

    @property
    def bits_per_character(self) -> float:
        """The loss in bits: loss / ln 2."""
        return self.loss / math.log(2)

    def to_dict(self, prefix: str = "") -> dict[str, float]:
        """As JSON values, with the bits per character beside."""
        return {
            f"{prefix}loss": self.loss,
            f"{prefix}accuracy": self.accuracy,
            f"{prefix}bits_per_character": self.bits_per_character,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Metrics:
        """Read what `to_dict` gave."""
        return cls(float(data["loss"]), float(data["accuracy"]))


def running_average(average: Metrics | None, newest: Metrics, step: int) -> Metrics:
    """The average after update `step` (from 1).

    Over the first `SMOOTHING` updates it is their plain mean; from then on it is exponential, the
    newest update weighing 1 / `SMOOTHING`.
    """
    if average is None:
        return newest
    weight = 1 / min(step, SMOOTHING)
    return Metrics(
        average.loss + weight * (newest.loss - average.loss),
        average.accuracy + weight * (newest.accuracy - average.accuracy),
    )


@dataclass(frozen=True)
class Report:
    """Where a run stands after an update: what the display shows and the log keeps.

    Attributes:
        step: updates done.
        steps: updates in all.
        batch: quality on the newest batch.
        running: its running average.
        lr: learning rate of the newest update.
        characters_per_second: training speed over the latest updates.
        seconds: time spent training, that before a resume included.
        seconds_left: estimate of the time to the end.
    """

    step: int
    steps: int
    batch: Metrics
    running: Metrics
    lr: float
    characters_per_second: float
    seconds: float
    seconds_left: float
