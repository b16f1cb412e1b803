"""Which values the options of a training run may have, and which go together."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..contract.errors import UsageError
from ..contract.schema import shown
from .encodings import ENCODING_ERRORS

if TYPE_CHECKING:
    from .options import TrainOptions

DEVICES = ("auto", "cpu", "cuda")
TRAIN_PRECISIONS = ("auto", "float32", "bfloat16")
SCHEDULES = ("exponential", "cosine", "step", "plateau")
CHOICES = {
    "device": DEVICES,
    "precision": TRAIN_PRECISIONS,
    "schedule": SCHEDULES,
    "encoding_errors": tuple(ENCODING_ERRORS),
    "on_unknown": ("error", "skip"),
}

_AT_LEAST_1 = ("seq_len", "batch_size", "accumulate", "steps", "decay_every", "val_every", "threads")
_AT_LEAST_0 = ("warmup", "patience")
_SHARES = ("dropout", "output_dropout", "embedding_dropout", "recurrent_dropout", "weight_drop", "ema")

# Beyond these a run could only fail, and with something worse than a sentence.
_LARGEST = {"seq_len": 1 << 16, "batch_size": 1 << 16, "accumulate": 1 << 16, "threads": 256}


def flag(name: str) -> str:
    """The command-line spelling of a field: ``seq_len`` -> ``--seq-len``."""
    return "--" + name.replace("_", "-")


def check(options: TrainOptions) -> None:
    """Refuse options of which one is out of its range, or two do not go together.

    Raises:
        UsageError: says which.
    """
    options.card("\n")  # the card checks the architecture
    for least, names in ((1, _AT_LEAST_1), (0, _AT_LEAST_0)):
        for name in names:
            value = getattr(options, name)
            if value is not None and value < least:
                raise UsageError(f"{flag(name)} must be at least {least}, not {value}")
    for name, most in _LARGEST.items():
        value = getattr(options, name)
        if value is not None and value > most:
            raise UsageError(f"{flag(name)} must be at most {most:,}, not {value:,}")
    for name, allowed in CHOICES.items():
        if getattr(options, name) not in allowed:
            raise UsageError(
                f"unknown {flag(name)} {shown(getattr(options, name))}: choose one of {', '.join(allowed)}"
            )
    _check_regularisation(options)
    _check_schedule(options)
    if not (math.isfinite(options.clip) and options.clip >= 0):
        raise UsageError(f"--clip must be positive or 0 (off), not {options.clip}")
    if not 0 <= options.val_fraction < 1:
        raise UsageError(f"--val-fraction must be at least 0 (off) and below 1, not {options.val_fraction}")
    for accuracy in options.keep_at_accuracy:
        if not 0 < accuracy <= 1:
            raise UsageError(f"--keep-at-accuracy takes shares above 0 and at most 1, not {accuracy}")
    if options.init_from and options.vocab_from:
        raise UsageError("give --init-from or --vocab-from, not both: a checkpoint keeps its vocabulary")
    if options.on_unknown != "error" and not options.init_from:
        raise UsageError("--on-unknown is for --init-from: without, the model knows all of its text")


def _check_regularisation(options: TrainOptions) -> None:
    for name in _SHARES:
        if not 0 <= getattr(options, name) < 1:
            raise UsageError(
                f"{flag(name)} must be at least 0 (off) and below 1, not {getattr(options, name)}"
            )
    if options.dropout and options.layers == 1:
        raise UsageError("--dropout acts between layers: it needs --layers 2 or more")
    if options.variational and not (options.dropout or options.output_dropout):
        raise UsageError("--variational says how --dropout and --output-dropout drop: give one of them")
    if options.tied and options.embedding != options.hidden:
        raise UsageError(
            "--tied makes one matrix of the embedding and the output layer: it needs --embedding"
            f" {options.hidden}, as wide as --hidden, not {options.embedding}"
        )


def _check_schedule(options: TrainOptions) -> None:
    if not (math.isfinite(options.lr) and options.lr > 0):
        raise UsageError(f"--lr must be positive, not {options.lr}")
    if not 0 < options.lr_decay <= 1:
        raise UsageError(f"--lr-decay must be above 0 and at most 1 (off), not {options.lr_decay}")
    if not 0 <= options.weight_decay * options.lr < 1:
        raise UsageError(
            f"--weight-decay must be at least 0 (off) and below 1 / --lr, {1 / options.lr:g},"
            f" not {options.weight_decay}"
        )
    if options.decay_every != type(options).decay_every and options.schedule not in ("exponential", "step"):
        raise UsageError(f"--decay-every is for --schedule exponential or step, not {options.schedule}")
    if not options.val_fraction and (options.patience or options.schedule == "plateau"):
        name = "--patience" if options.patience else "--schedule plateau"
        raise UsageError(f"{name} goes by the held-out text: it needs a --val-fraction above 0")
