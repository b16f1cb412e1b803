"""The options of a training run: their defaults, their ranges, and which of them may change.

No torch here, so a wrong value is answered before anything heavy is loaded.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from ..contract.card import Card
from ..contract.errors import ContractError, UsageError
from ..contract.schema import problem
from ..version import __version__
from .encodings import ENCODING_ERRORS

DEVICES = ("auto", "cpu", "cuda")
TRAIN_PRECISIONS = ("auto", "float32", "bfloat16")
ARCHITECTURE = ("cell", "gru_reset", "layers", "embedding", "hidden")
CHOICES = {
    "device": DEVICES,
    "precision": TRAIN_PRECISIONS,
    "encoding_errors": tuple(ENCODING_ERRORS),
    "on_unknown": ("error", "skip"),
}
CHANGEABLE = ("steps", "device", "threads")
"""What ``--resume`` may change: how far to go and where to compute, never what is computed."""

LATER = ("encoding_errors", "vocab_from", "on_unknown")
"""Options that runs of earlier versions have not recorded: those ran with the defaults."""

_PATHS = ("init_from", "vocab_from")

# Beyond these a run could only fail, and with something worse than a sentence.
LARGEST = {"seq_len": 1 << 16, "batch_size": 1 << 16, "threads": 256}


@dataclass(frozen=True)
class TrainOptions:
    """Everything that decides a training run, besides its text.

    Attributes:
        cell: ``rnn``, ``lstm`` or ``gru``.
        gru_reset: where a GRU's reset gate acts, ``after`` or ``before`` the recurrent product.
        layers: recurrent layers.
        embedding: width of the character embedding.
        hidden: width of each layer's state.
        dropout: share of each layer's outputs dropped on the way to the next layer, in ``[0, 1)``.
        seq_len: characters per window, T.
        batch_size: windows per update, B.
        lr: Adam's learning rate at the first update.
        lr_decay: factor on the learning rate per 1,000 updates, applied smoothly, in ``(0, 1]``.
        steps: updates in all.
        clip: largest gradient norm; 0 does not clip.
        seed: decides the initial weights, the windows and the dropout.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16`` (mixed: the weights stay float32) or ``auto``.
        val_fraction: share of the text's tail held out for validation, in ``[0, 1)``.
        val_every: updates between two validations.
        keep_at_accuracy: running training accuracies at which a checkpoint is kept.
        stateful: carry the state across consecutive windows instead of drawing windows at random.
        encoding: encoding of the text files; None is UTF-8.
        encoding_errors: what becomes of bytes that cannot be read: ``strict`` refuses the file, ``replace``
            puts U+FFFD in their place, ``skip`` leaves them out.
        threads: CPU threads; None leaves it to PyTorch.
        out: the run folder.
        init_from: checkpoint whose weights the run starts from.
        vocab_from: a text (file, folder or pattern, read like the run's own) or a checkpoint: its characters
            join those of the run's text in the model's vocabulary, so that it can be tuned on it later.
        on_unknown: characters of the text that the checkpoint of `init_from` does not know: ``error``
            refuses them, ``skip`` leaves them out.

    Raises:
        UsageError: a value is out of its range.
    """

    cell: str = "lstm"
    gru_reset: str = "after"
    layers: int = 2
    embedding: int = 64
    hidden: int = 256
    dropout: float = 0.0
    seq_len: int = 64
    batch_size: int = 64
    lr: float = 8e-3
    lr_decay: float = 0.1
    steps: int = 1000
    clip: float = 1.0
    seed: int = 0
    device: str = "auto"
    precision: str = "auto"
    val_fraction: float = 0.1
    val_every: int = 200
    keep_at_accuracy: tuple[float, ...] = ()
    stateful: bool = False
    encoding: str | None = None
    encoding_errors: str = "strict"
    threads: int | None = None
    out: Path = Path("artifacts/charlm")
    init_from: Path | None = None
    vocab_from: Path | None = None
    on_unknown: str = "error"

    def __post_init__(self) -> None:
        self.card("\n")  # the card checks the architecture
        for name in ("seq_len", "batch_size", "steps", "val_every", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{flag(name)} must be at least 1, not {value}")
        for name, most in LARGEST.items():
            value = getattr(self, name)
            if value is not None and value > most:
                raise UsageError(f"{flag(name)} must be at most {most:,}, not {value:,}")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"--dropout must be at least 0 (off) and below 1, not {self.dropout}")
        if self.dropout and self.layers == 1:
            raise UsageError("--dropout acts between layers: it needs --layers 2 or more")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UsageError(f"--lr must be positive, not {self.lr}")
        if not 0 < self.lr_decay <= 1:
            raise UsageError(f"--lr-decay must be above 0 and at most 1 (off), not {self.lr_decay}")
        if not (math.isfinite(self.clip) and self.clip >= 0):
            raise UsageError(f"--clip must be positive or 0 (off), not {self.clip}")
        if not 0 <= self.val_fraction < 1:
            raise UsageError(f"--val-fraction must be at least 0 (off) and below 1, not {self.val_fraction}")
        for accuracy in self.keep_at_accuracy:
            if not 0 < accuracy <= 1:
                raise UsageError(f"--keep-at-accuracy takes shares above 0 and at most 1, not {accuracy}")
        if self.init_from and self.vocab_from:
            raise UsageError("give --init-from or --vocab-from, not both: a checkpoint keeps its vocabulary")
        if self.on_unknown != "error" and not self.init_from:
            raise UsageError("--on-unknown is for --init-from: without, the model knows all of its text")
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise UsageError(
                    f"unknown {flag(name)} {getattr(self, name)!r}: choose one of {', '.join(allowed)}"
                )

    def card(self, vocabulary: str, corpus_sha256: str = "") -> Card:
        """The card of a model with these options."""
        return Card(
            cell=self.cell,
            layers=self.layers,
            embedding=self.embedding,
            hidden=self.hidden,
            vocabulary=vocabulary,
            gru_reset=self.gru_reset,
            corpus_sha256=corpus_sha256,
            producer=f"p2 {__version__}",
        )

    def to_dict(self) -> dict[str, Any]:
        """The options as plain JSON values, without `out`: a run folder may be moved."""
        values = dataclasses.asdict(self)
        del values["out"]
        values["keep_at_accuracy"] = list(self.keep_at_accuracy)
        for name in _PATHS:
            values[name] = None if values[name] is None else str(values[name])
        return values

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], out: Path, where: str) -> TrainOptions:
        """Read what `to_dict` gave.

        Raises:
            ContractError: an option is missing, unknown or out of its range.
        """
        defaults = {field.name: field.default for field in dataclasses.fields(cls) if field.name != "out"}
        known = set(defaults)
        values: dict[str, Any] = {name: defaults[name] for name in LATER} | dict(data)
        if set(values) != known:
            names = ", ".join(sorted(set(values) ^ known))
            raise ContractError(f"{where}: the recorded options do not match this p2's: {names}")
        hints = get_type_hints(cls)
        found = next(filter(None, (problem(values[name], hints[name], name) for name in sorted(known))), "")
        if found:
            raise ContractError(f"{where}: the recorded options are damaged: {found}")
        try:
            values["keep_at_accuracy"] = tuple(values["keep_at_accuracy"])
            for name in _PATHS:
                values[name] = None if values[name] is None else Path(values[name])
            return cls(**values, out=out)
        except UsageError as error:
            raise ContractError(f"{where}: the recorded options are damaged: {error}") from error


def flag(name: str) -> str:
    """The command-line spelling of a field: ``seq_len`` -> ``--seq-len``."""
    return "--" + name.replace("_", "-")


def parse_accuracies(text: str) -> tuple[float, ...]:
    """``"0.65,0.75"`` as ascending numbers, each once.

    Raises:
        UsageError: a part is not a number.
    """
    try:
        return tuple(sorted({float(part) for part in text.split(",")}))
    except ValueError:
        raise UsageError(
            f"--keep-at-accuracy takes numbers with commas between, such as 0.65,0.75, not {text!r}"
        ) from None


def named(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a caller names them: paths as texts, accuracies as a text or in a list; None is not named.

    Raises:
        UsageError: there is no such option, or the accuracies cannot be read.
    """
    known = {field.name for field in dataclasses.fields(TrainOptions)}
    for name in options:
        if name not in known:
            raise UsageError(f"there is no option {name!r}: choose from {', '.join(sorted(known))}")
    given = {name: value for name, value in options.items() if value is not None}
    for name in ("out", *_PATHS):
        if name in given:
            given[name] = Path(given[name])
    if "keep_at_accuracy" in given:
        asked = given["keep_at_accuracy"]
        ascending = parse_accuracies(asked) if isinstance(asked, str) else tuple(sorted(set(asked)))
        given["keep_at_accuracy"] = ascending
    return given


def started_from(given: Mapping[str, Any], card: Card) -> TrainOptions:
    """Options of a run that starts from a checkpoint's weights: its architecture, the rest as given.

    Args:
        given: the options that were named, by field; `init_from` among them.
        card: the checkpoint's card.

    Raises:
        UsageError: a named option contradicts the checkpoint.
    """
    values = dict(given)
    for name in ARCHITECTURE:
        theirs = getattr(card, name)
        if values.setdefault(name, theirs) != theirs:
            raise UsageError(
                f"{flag(name)} {values[name]} contradicts the checkpoint of --init-from, which has {theirs}:"
                " leave the option out"
            )
    return TrainOptions(**values)


def resumed(recorded: TrainOptions, given: Mapping[str, Any]) -> TrainOptions:
    """Options of a run that goes on: as recorded, but for `CHANGEABLE` ones that were named.

    Raises:
        UsageError: a named option contradicts the record.
    """
    changes = {name: value for name, value in given.items() if name in CHANGEABLE}
    for name, value in given.items():
        theirs = getattr(recorded, name)
        # `auto` is settled when a run starts; what it settled on is what was recorded.
        settled = name == "precision" and value == "auto"
        if name not in changes and value != theirs and not settled:
            allowed = ", ".join(flag(changeable) for changeable in CHANGEABLE)
            raise UsageError(
                f"{flag(name)} {value} contradicts the run in {recorded.out}, where it is"
                f" {'not set' if theirs is None else theirs}: --resume may only change {allowed}"
            )
    return dataclasses.replace(recorded, **changes)
