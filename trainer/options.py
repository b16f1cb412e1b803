"""The options of a training run: their defaults, their ranges, and which of them may change.

No torch here, so a wrong value is answered before anything heavy is loaded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from ..contract.card import Card
from ..contract.errors import ContractError, UsageError
from ..contract.schema import problem, shown
from ..version import __version__
from .presets import preset
from .ranges import check, flag

ARCHITECTURE = ("cell", "gru_reset", "layers", "embedding", "hidden")
CHANGEABLE = ("steps", "patience", "device", "threads")
"""What ``--resume`` may change: how far to go and where to compute, never what is computed."""

LATER = (
    "column",
    *("encoding_errors", "vocab_from", "on_unknown", "tied", "output_dropout", "embedding_dropout"),
    *("recurrent_dropout", "weight_drop", "variational", "weight_decay", "ema", "schedule"),
    *("decay_every", "warmup", "accumulate", "patience"),
)
"""Options that runs of earlier versions have not recorded: those ran with the defaults."""

_PATHS = ("init_from", "vocab_from")


@dataclass(frozen=True)
class TrainOptions:
    """Everything that decides a training run, besides its text.

    Attributes:
        cell: ``rnn``, ``lstm`` or ``gru``.
        gru_reset: where a GRU's reset gate acts, ``after`` or ``before`` the recurrent product.
        layers: recurrent layers.
        embedding: width of the character embedding.
        hidden: width of each layer's state.
        tied: whether the output layer's matrix is the embedding.
        dropout: share of each layer's outputs dropped on the way to the next layer, in ``[0, 1)``.
        output_dropout: share of the last layer's outputs dropped on the way to the output layer.
        embedding_dropout: share of the characters whose embedding is dropped, others in every window.
        recurrent_dropout: share of the state hidden from a layer's products, the same in a whole window.
        weight_drop: share of the recurrent matrices dropped, others in every batch.
        variational: whether `dropout` and `output_dropout` drop the same units in a whole window.
        weight_decay: AdamW's, of the matrices but the embedding; 0 is Adam.
        ema: decay of the moving average of the weights that is validated and kept; 0 keeps them themselves.
        seq_len: characters per window, T.
        batch_size: windows computed at once, B.
        accumulate: batches per update, whose gradients add up as if they were one.
        lr: Adam's learning rate at the first update, or where `warmup` ends.
        schedule: ``exponential``, ``cosine``, ``step`` or ``plateau``.
        lr_decay: factor on the learning rate, in ``(0, 1]``: per `decay_every` updates, smoothly
            (exponential) or at once (step); over the whole run (cosine); for each validation that is not the
            best (plateau).
        decay_every: updates for `lr_decay`, exponential and step.
        warmup: updates in which the learning rate rises to `lr` linearly; the schedule follows.
        steps: updates in all.
        patience: validations in a row without a better one after which a run ends; 0 is never.
        clip: largest gradient norm; 0 does not clip.
        seed: decides the initial weights, the windows and what is dropped.
        device: ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16`` (mixed: the weights stay float32) or ``auto``.
        val_fraction: share of the text's tail held out for validation, in ``[0, 1)``.
        val_every: updates between two validations.
        keep_at_accuracy: running training accuracies at which a checkpoint is kept.
        stateful: carry the state across consecutive windows instead of drawing windows at random.
        encoding: encoding of the text files; None is UTF-8.
        encoding_errors: what becomes of bytes that cannot be read: ``strict`` refuses the file, ``replace``
            puts U+FFFD in their place, ``skip`` leaves them out.
        column: the text files are tables, and this column of theirs holds the text; None: they are texts.
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
    tied: bool = False
    dropout: float = 0.0
    output_dropout: float = 0.0
    embedding_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    weight_drop: float = 0.0
    variational: bool = False
    weight_decay: float = 0.0
    ema: float = 0.0
    seq_len: int = 64
    batch_size: int = 64
    accumulate: int = 1
    lr: float = 8e-3
    schedule: str = "exponential"
    lr_decay: float = 0.1
    decay_every: int = 1000
    warmup: int = 0
    steps: int = 1000
    patience: int = 0
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
    column: str | None = None
    threads: int | None = None
    out: Path = Path("artifacts/charlm")
    init_from: Path | None = None
    vocab_from: Path | None = None
    on_unknown: str = "error"

    def __post_init__(self) -> None:
        check(self)

    @property
    def windows(self) -> int:
        """Windows per update."""
        return self.batch_size * self.accumulate

    @property
    def is_bound(self) -> bool:
        """Whether `steps` decides the learning rate of every update, so that no run can go on beyond it."""
        return self.schedule == "cosine"

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
            names = ", ".join(shown(name)[1:-1] for name in sorted(set(values) ^ known))
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

    What ``preset`` sets counts as named, but for what is named itself, and for the architecture where
    ``init_from`` gives it.

    Raises:
        UsageError: there is no such option or preset, or the accuracies cannot be read.
    """
    known = {"preset", *(field.name for field in dataclasses.fields(TrainOptions))}
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
    chosen = preset(given.pop("preset", "demo"))
    if "init_from" in given:
        chosen = {name: value for name, value in chosen.items() if name not in ARCHITECTURE}
    return chosen | given


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
    if recorded.is_bound and changes.get("steps", recorded.steps) != recorded.steps:
        raise UsageError(
            f"--steps {changes['steps']} contradicts the run in {recorded.out}: its cosine ends after"
            f" {recorded.steps} updates; --init-from starts a new run from its weights"
        )
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
