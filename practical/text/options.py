"""What `p2 practical text` is asked for: sizes by preset, each changed by an option."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...contract.errors import UsageError
from ...runtime.opening import kind_for
from ...trainer.options import TrainOptions
from ..document import FOLDER

WINDOW = 30
"""Characters of a training window, as in the report that is reproduced."""

TRAINING: Mapping[str, Any] = {
    "seq_len": WINDOW,
    "batch_size": 128,
    "layers": 2,
    "val_fraction": 0.0,
    "keep_at_accuracy": (0.65, 0.75, 0.84),
}
"""What every size has in common; nothing is held out, for the model is meant to over-fit."""

SIZES: Mapping[str, Mapping[str, Any]] = {
    "full": {"hidden": 384, "embedding": 192, "lr": 8e-3, "lr_decay": 0.62, "steps": 6500},
    "quick": {"hidden": 192, "embedding": 96, "lr": 1e-2, "lr_decay": 0.1, "steps": 1500},
    "seed": {"hidden": 4096, "embedding": 2048, "lr": 1e-3, "lr_decay": 1.0, "steps": 10_000},
}
"""Model and schedule: for two cores and a book, for a few minutes, and of the report."""

CHARACTERS = {"full": 160_000, "quick": 40_000, "seed": 0}
"""How much of the book, from its beginning, each is trained on; 0 is all of it."""


@dataclass(frozen=True)
class TextOptions:
    """Everything that decides the experiment, besides the book.

    Attributes:
        training: the run; `keep_at_accuracy` are the accuracies that texts are written at.
        characters: train on so many characters from the book's beginning; 0 is all of it.
        mode: ``full`` or ``quick``.
        prompt: what the greedy completions begin with; None takes the book's first words.
        length: characters of a greedy text.
        samples: texts for each tau, and prompts from the book.
        sample_length: characters of a sampled or completed text.
        backend: what runs the exported engines, see `runtime.backends`; None is the usual one.
        folder: where the document goes; the run is in its subfolder ``text``.
        resume: go on with the run that is there, or only write and analyse again if it is done.
        given: the fields of `training` that were named: what a resumed run must agree with.

    Raises:
        UsageError: a value is out of its range.
    """

    training: TrainOptions
    characters: int = CHARACTERS["full"]
    mode: str = "full"
    prompt: str | None = None
    length: int = 2000
    samples: int = 64
    sample_length: int = 1000
    backend: str | None = None
    folder: Path = FOLDER
    resume: bool = False
    given: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, least in (("length", 100), ("sample_length", 100), ("samples", 1)):
            if getattr(self, name) < least:
                flag = "--" + name.replace("_", "-")
                raise UsageError(f"{flag} must be at least {least}, not {getattr(self, name)}")
        if kind_for(self.backend) == "checkpoint":
            raise UsageError(
                f"--backend {self.backend} runs a checkpoint: the texts are written by the exported .onnx"
            )
        if self.characters and self.characters <= WINDOW:
            raise UsageError(
                f"--characters must be more than a window of {WINDOW}, or 0 for all, not {self.characters}"
            )

    @property
    def run(self) -> Path:
        """The run folder."""
        return run_folder(self.folder)

    def writing(self) -> dict[str, Any]:
        """The options that concern the texts, as JSON values."""
        return {
            name: getattr(self, name) for name in ("prompt", "length", "samples", "sample_length", "backend")
        }


def run_folder(folder: Path) -> Path:
    """Where the training run is, of a document in `folder`."""
    return folder / "text"


def parse(
    training: Mapping[str, Any],
    writing: Mapping[str, Any],
    *,
    quick: bool = False,
    seed_scale: bool = False,
    characters: int | None = None,
    folder: Path = FOLDER,
    resume: bool = False,
) -> TextOptions:
    """Options as a person names them.

    Args:
        training: fields of `TrainOptions` that were named.
        writing: fields of `TextOptions` about the texts that were named.
        quick, seed_scale: which of `SIZES`.
        characters, folder, resume: see `TextOptions`.

    Raises:
        UsageError: a value is out of its range, or two options contradict each other.
    """
    if quick and seed_scale:
        raise UsageError("give --quick or --seed-scale, not both: one is small, the other large")
    if resume and (quick or seed_scale or characters is not None):
        raise UsageError("--resume goes on with the run as it began: leave its sizes out")
    size = "quick" if quick else "seed" if seed_scale else "full"
    values = {**TRAINING, **SIZES[size], **training}
    options = TrainOptions(**values, out=run_folder(folder))
    return TextOptions(
        training=options,
        characters=CHARACTERS[size] if characters is None else characters,
        mode="quick" if quick else "full",
        folder=folder,
        resume=resume,
        given=dict(training),
        **writing,
    )
