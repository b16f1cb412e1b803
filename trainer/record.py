"""What a checkpoint tells about the run that made it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Any, TypedDict

from ..contract.errors import ContractError
from ..contract.schema import Count, Within, problem
from .corpus import Corpus
from .metrics import Metrics


@dataclass
class Record:
    """A run's progress and its circumstances: the readable part of ``model.json`` beside the card.

    Attributes:
        step: updates done.
        seconds: time spent training.
        train: running average over the latest updates (`metrics.running_average`), None before the first.
        validation: the newest validation, None before the first.
        validation_step: the update after which that was.
        best_validation_loss: the lowest validation loss so far, in nats per character.
        kept_accuracies: the members of ``keep_at_accuracy`` that have been reached.
        options: the training options, `TrainOptions.to_dict`.
        corpus: ``sources``, ``sha256`` and ``characters`` of the training text.
        software: versions and device, for the reader.
        imported: where an imported model came from, and the proof (`importing`); None for one trained here.
    """

    options: dict[str, Any]
    corpus: dict[str, Any]
    software: dict[str, str]
    step: int = 0
    seconds: float = 0.0
    train: Metrics | None = None
    validation: Metrics | None = None
    validation_step: int = 0
    best_validation_loss: float | None = None
    kept_accuracies: list[float] = field(default_factory=list)
    imported: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values, what a reader looks for first in front."""
        values = {item.name: getattr(self, item.name) for item in dataclasses.fields(self)}
        for name in ("train", "validation"):
            values[name] = None if values[name] is None else values[name].to_dict()
        if self.imported is None:
            del values["imported"]
        late = ("options", "corpus", "software")
        return {key: values[key] for key in (*(k for k in values if k not in late), *late)}

    @classmethod
    def from_dict(cls, data: Any, where: str) -> Record:
        """Read what `to_dict` gave.

        Raises:
            ContractError: something is missing or of the wrong kind.
        """
        found = problem(data, _Written)
        if found:
            raise ContractError(f"{where}: the training record is damaged ({found})")
        train, validation = (
            None if data[name] is None else Metrics.from_dict(data[name]) for name in ("train", "validation")
        )
        return cls(**data | {"train": train, "validation": validation})

    @property
    def sources(self) -> list[str]:
        """Where the training text came from, as in `Corpus.sources`."""
        return [str(source) for source in self.corpus.get("sources", [])]


def describe_corpus(corpus: Corpus) -> dict[str, Any]:
    """A corpus for the record: everything but the text."""
    return {"sources": list(corpus.sources), "sha256": corpus.sha256, "characters": len(corpus)}


class _Metrics(TypedDict):
    loss: float
    accuracy: float


class _Corpus(TypedDict, total=False):
    sources: list[str]
    sha256: str
    characters: Count


class _Imported(TypedDict):
    source: str
    sha256: str


@dataclass(frozen=True)
class _Written:
    """What `Record.to_dict` gives."""

    step: Count
    seconds: Annotated[float, Within(0)]
    train: _Metrics | None
    validation: _Metrics | None
    validation_step: Count
    best_validation_loss: float | None
    kept_accuracies: list[float]
    options: dict[str, Any]
    corpus: _Corpus
    software: dict[str, Any]
    imported: _Imported | None = None
