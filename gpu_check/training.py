"""Training on the device: how fast, and that an update of p2's waits for nothing and survives nccl."""

from __future__ import annotations

from typing import Any

import torch

from ..bench import gpu_targets, training_rates
from ..bench.models import random_state
from ..bench.options import VOCABULARY, shape_name
from ..bench.training_rates import Shape
from ..contract.card import Card
from ..contract.codec import Codec
from ..trainer.device import choose_precision
from ..trainer.learner import Learner
from ..trainer.metrics import Metrics
from ..trainer.options import TrainOptions
from ..trainer.ranks import ALONE, Ranks, Torchrun
from .engine_checks import verdict

BATCH, WINDOW = 128, 30  # of the seed, and of the experiments with books
ROUNDS, UPDATES = 3, 40

_KINDS: dict[str, dict[str, Any]] = {
    "windows": {},
    "carried states": {"stateful": True},
    "dropout": {"dropout": 0.2},
    "another cell": {"cell": "rnn"},
    "averaged, tied, accumulated": {"ema": 0.9, "tied": True, "accumulate": 2, "embedding": 64, "hidden": 64},
}
_FOLLOWED = 6  # updates


def rates(hidden: int, device: str) -> dict[str, Any]:
    """Every loop of `bench.training_rates` at one width.

    Args:
        hidden: width of two LSTM layers; the embedding has half of it, as the seed's.
        device: ``cuda``, or ``cpu`` for a rehearsal, which only shows that it goes through.
    """
    card = Card("lstm", 2, max(1, hidden // 2), hidden, VOCABULARY)
    where, quick = torch.device(device), device == "cpu"
    precision = choose_precision("auto", where, card.cell)
    options = TrainOptions(
        hidden=hidden, embedding=card.embedding, batch_size=4 if quick else BATCH, seq_len=WINDOW, lr=1e-3,
        val_fraction=0.0, precision=precision, device=device,
    )  # fmt: skip
    loops = training_rates.measure(
        Shape(card, options, where), 1 if quick else ROUNDS, 1 if quick else UPDATES
    )
    mine = next(loop for loop in loops if loop["title"] == training_rates.P2)
    return {
        "model": shape_name(card),
        "batch_size": options.batch_size,
        "seq_len": options.seq_len,
        "precision": precision,
        "loops": loops,
        "targets": gpu_targets.training(hidden, mine["tflops"], mine["problem"] or ""),
    }


def updates(device: str) -> dict[str, Any]:
    """That updates need no answer of the GPU, that figures read late are those read at once, and nccl.

    Raises:
        CheckFailed: something of that is not so.
    """
    where, wrong = torch.device(device), {}
    for name, changes in _KINDS.items():
        one = _learner(where, changes)
        expected = [one.update(step) for step in range(_FOLLOWED)]
        try:
            found = _followed(_learner(where, changes), where)
        except RuntimeError as error:
            found, reason = [], str(error).strip().splitlines()[0]
            wrong[f"{name}: an update waits for the GPU ({reason})"] = True
        else:
            wrong[f"{name}: figures that are read late are other ones"] = not _near(found, expected)
    expected = _followed(_learner(where, {}), where)
    found = _through_group(where)
    wrong["with one process in a group the figures are other ones"] = not _near(found, expected)
    return verdict(wrong, {"kinds": list(_KINDS), "updates": _FOLLOWED, "losses": [m.loss for m in found]})


def _learner(device: torch.device, changes: dict[str, Any], ranks: Ranks = ALONE) -> Learner:
    shape = {"hidden": 64, "embedding": 32, "batch_size": 16, "seq_len": 20, "val_fraction": 0.0}
    options = TrainOptions(**shape | {"precision": "float32", "device": device.type} | changes)
    card = options.card(VOCABULARY)
    text = Shape(card, options, device).text()
    weights = random_state(card)
    if options.tied:
        weights["output.weight"] = weights["embedding.weight"]
    return Learner(card, options, Codec(VOCABULARY).encode(text), device, weights, ranks)


def _followed(learner: Learner, device: torch.device) -> list[Metrics]:
    """Some updates with their figures read late; from the second on PyTorch raises where one waits."""
    found = []
    for step in range(_FOLLOWED):
        if device.type == "cuda" and step == 1:  # the first one makes Adam's moments
            torch.cuda.set_sync_debug_mode("error")
        try:
            learner.enqueue(step)
            found += learner.figures(everything=False)
        finally:
            if device.type == "cuda" and step == _FOLLOWED - 1:
                torch.cuda.set_sync_debug_mode("default")
    return found + learner.figures(everything=True)


def _through_group(device: torch.device) -> list[Metrics]:
    """The same with every exchange that several processes have: nccl's on a GPU."""
    from torch import distributed
    from torch._C._distributed_c10d import HashStore

    store = HashStore()
    distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        ranks = Torchrun(store, 0, 1, (0, 1))
        ranks.compute_on(torch.device(device.type, 0) if device.type == "cuda" else device)
        learner = _learner(device, {}, ranks)
        found = _followed(learner, device)
        ranks.agree(False)
        return found
    finally:
        distributed.destroy_process_group()


def _near(found: list[Metrics], expected: list[Metrics]) -> bool:
    """Whether the losses are the same; a GPU adds up in an order of its own."""
    return len(found) == len(expected) and all(
        abs(a.loss - b.loss) <= 1e-4 * abs(b.loss) for a, b in zip(found, expected, strict=True)
    )
