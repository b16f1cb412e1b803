"""Training against the loop over nn.LSTM that a person would write, on the same text and shape."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...spec.card import Card
from ...spec.codec import Codec, vocabulary_of
from .options import shape_name

if TYPE_CHECKING:
    import torch

    from ...trainer.options import TrainOptions

UPDATES = 6  # of each in one turn
REST_SECONDS = 0.2

Update = Callable[[int], object]


def measure(rounds: int, threads: int | None, updates: int = UPDATES) -> dict[str, Any]:
    """Characters per second of both, in turns; medians of the rounds.

    Both use the number format that p2 chooses here (`trainer.device.choose_precision`), so that what is
    compared is the loop.

    Args:
        rounds: turns of each.
        threads: of PyTorch; None leaves its own choice.
        updates: in a turn.
    """
    import torch

    from ...trainer import corpus
    from ...trainer.device import choose_precision
    from ...trainer.learner import Learner, scoped
    from ...trainer.options import TrainOptions

    text = corpus.load([]).text
    device = torch.device("cpu")
    options = TrainOptions(device="cpu", val_fraction=0.0)
    options = dataclasses.replace(
        options, precision=choose_precision(options.precision, device, options.cell)
    )
    card = options.card(vocabulary_of(text))
    with scoped(device, threads):
        loops: list[Update] = [Learner(card, options, text, device).update, hand_written(card, options, text)]
        speeds = alternate(loops, rounds, updates, options.batch_size * options.seq_len)
    return {
        "p2_characters_per_second": statistics.median(speeds[0]),
        "hand_written_characters_per_second": statistics.median(speeds[1]),
        "precision": options.precision,
        "model": shape_name(card),
        "batch_size": options.batch_size,
        "seq_len": options.seq_len,
        "rounds": rounds,
        "updates": updates,
    }


def alternate(
    loops: list[Update],
    rounds: int,
    updates: int,
    characters: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    pause: Callable[[float], None] = time.sleep,
) -> list[list[float]]:
    """Characters per second of each loop in each round.

    Args:
        loops: called with the number of the update, from 0.
        rounds: turns of each, after one that is not timed.
        updates: in a turn.
        characters: in an update.
        clock: seconds.
        pause: between turns.
    """
    speeds: list[list[float]] = [[] for _ in loops]
    for index in range(rounds + 1):
        for update, seen in zip(loops, speeds, strict=True):
            pause(REST_SECONDS)
            started = clock()
            for number in range(index * updates, (index + 1) * updates):
                update(number)
            if index:
                seen.append(updates * characters / (clock() - started))
    return speeds


def hand_written(card: Card, options: TrainOptions, text: str) -> Update:
    """Embedding, nn.LSTM, output layer, Adam, clipping: as in a tutorial, nothing left out or added."""
    import torch
    from torch import nn

    tokens = torch.from_numpy(Codec(card.vocabulary).encode(text))
    embedding = nn.Embedding(card.vocab, card.embedding)
    rnn = nn.LSTM(card.embedding, card.hidden, card.layers, batch_first=True)
    output = nn.Linear(card.hidden, card.vocab)
    parameters = [*embedding.parameters(), *rnn.parameters(), *output.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=options.lr)
    loss_function = nn.CrossEntropyLoss()

    def update(_: int) -> float:
        starts = torch.randint(len(tokens) - options.seq_len - 1, (options.batch_size,))
        windows = torch.stack([tokens[start : start + options.seq_len + 1] for start in starts])
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
            hidden: torch.Tensor = rnn(embedding(windows[:, :-1]))[0]
            logits = output(hidden)
        loss = loss_function(logits.float().flatten(0, 1), windows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, options.clip)
        optimiser.step()
        return float(loss.item())

    return update
