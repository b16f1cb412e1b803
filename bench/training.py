"""Training against the loop over nn.LSTM that a person would write, on the same text and shape."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contract.card import Card
from ..contract.codec import Codec, vocabulary_of
from .options import shape_name
from .process import LineProcess, take_stdout

if TYPE_CHECKING:
    import torch

    from ..trainer.options import TrainOptions

UPDATES = 6  # of each in one turn
REST_SECONDS = 0.2

# A turn takes a second or two; before the first one the libraries are loaded.
FIRST_SECONDS, CALL_SECONDS = 300.0, 120.0

Update = Callable[[int], object]
Turn = Callable[[int, int], float]
"""Does the updates from one number up to another and returns the seconds that they took."""


def measure(rounds: int, threads: int | None, updates: int = UPDATES) -> dict[str, Any]:
    """Characters per second of both, in turns, each in a process of its own; medians of the rounds.

    Both use the number format that p2 chooses here (`trainer.device.choose_precision`), so that what is
    compared is the loop. Most of the time is that of the same kernels of PyTorch, so a machine that
    changes its pace within a round would decide: the ratio is the median of those of the rounds.

    Args:
        rounds: turns of each.
        threads: of PyTorch; None leaves its own choice.
        updates: in a turn.

    Raises:
        P2Error: one of the processes ended, or took too long.
    """
    import torch

    from ..trainer import corpus
    from ..trainer.device import choose_precision
    from ..trainer.options import TrainOptions

    options = TrainOptions(device="cpu", val_fraction=0.0)
    precision = choose_precision(options.precision, torch.device("cpu"), options.cell)
    options = dataclasses.replace(options, precision=precision)
    card = options.card(corpus.load([]).vocabulary)
    with contextlib.ExitStack() as stack:
        turns = [stack.enter_context(own_process(which, options, threads)) for which in LOOPS]
        speeds = alternate(turns, rounds, updates, options.batch_size * options.seq_len)
    return {
        "p2_characters_per_second": statistics.median(speeds[0]),
        "hand_written_characters_per_second": statistics.median(speeds[1]),
        "times_hand_written": statistics.median(mine / other for mine, other in zip(*speeds, strict=True)),
        "precision": options.precision,
        "model": shape_name(card),
        "batch_size": options.batch_size,
        "seq_len": options.seq_len,
        "rounds": rounds,
        "updates": updates,
    }


def alternate(
    turns: list[Turn],
    rounds: int,
    updates: int,
    characters: int,
    *,
    pause: Callable[[float], None] = time.sleep,
) -> list[list[float]]:
    """Characters per second of each loop in each round; which begins changes from round to round.

    Args:
        turns: of the loops.
        rounds: turns of each, after one that does not count.
        updates: in a turn.
        characters: in an update.
        pause: between turns.
    """
    speeds: list[list[float]] = [[] for _ in turns]
    for index in range(rounds + 1):
        for turn, seen in list(zip(turns, speeds, strict=True))[:: -1 if index % 2 else 1]:
            pause(REST_SECONDS)
            seconds = turn(index * updates, (index + 1) * updates)
            if index:
                seen.append(updates * characters / seconds)
    return speeds


@contextlib.contextmanager
def own_process(which: str, options: TrainOptions, threads: int | None) -> Iterator[Turn]:
    """A loop in a process of its own: what one sets for its process does not reach the other.

    Args:
        which: of `LOOPS`.
        options: of the training.
        threads: of PyTorch.
    """
    given = json.dumps([options.to_dict(), threads])
    with LineProcess("p2.bench.training", which, given) as process:

        def turn(first: int, end: int) -> float:
            limit = FIRST_SECONDS if first == 0 else CALL_SECONDS
            return float(process.ask(f"{first} {end}", limit, "the process of a training loop"))

        yield turn


def main() -> None:
    """Do the updates that standard input asks for, a line of two numbers each; answer with the seconds."""
    from ..trainer import corpus
    from ..trainer.options import TrainOptions

    with take_stdout() as replies:
        given, threads = json.loads(sys.argv[2])
        options = TrainOptions.from_dict(given, Path(), "the command line")
        text = corpus.load([]).text
        if threads:
            import torch

            torch.set_num_threads(threads)
        update = LOOPS[sys.argv[1]](options.card(vocabulary_of(text)), options, text)
        for line in sys.stdin:
            first, end = map(int, line.split())
            started = time.perf_counter()
            for number in range(first, end):
                update(number)
            print(time.perf_counter() - started, file=replies, flush=True)


def p2_update(card: Card, options: TrainOptions, text: str) -> Update:
    """p2's own update."""
    import torch

    from ..trainer.learner import Learner

    return Learner(card, options, Codec(card.vocabulary).encode(text), torch.device("cpu")).update


def hand_written(card: Card, options: TrainOptions, text: str, device: torch.device | None = None) -> Update:
    """Embedding, nn.LSTM, output layer, Adam, clipping: as in a tutorial, nothing left out or added.

    Args:
        card: the model.
        options: batch, window, learning rate, clipping, precision.
        text: to learn.
        device: where; None is the processor.
    """
    import torch
    from torch import nn

    from ..trainer.device import mixed

    device = device or torch.device("cpu")
    tokens = torch.from_numpy(Codec(card.vocabulary).encode(text))
    embedding = nn.Embedding(card.vocab, card.embedding).to(device)
    rnn = nn.LSTM(card.embedding, card.hidden, card.layers, batch_first=True).to(device)
    output = nn.Linear(card.hidden, card.vocab).to(device)
    parameters = [*embedding.parameters(), *rnn.parameters(), *output.parameters()]
    optimiser = torch.optim.Adam(parameters, lr=options.lr)
    loss_function = nn.CrossEntropyLoss()

    def update(_: int) -> float:
        starts = torch.randint(len(tokens) - options.seq_len - 1, (options.batch_size,))
        windows = torch.stack([tokens[start : start + options.seq_len + 1] for start in starts]).to(device)
        optimiser.zero_grad()
        with mixed(device, options.precision):
            hidden: torch.Tensor = rnn(embedding(windows[:, :-1]))[0]
            logits = output(hidden)
        loss = loss_function(logits.float().flatten(0, 1), windows[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, options.clip)
        optimiser.step()
        return float(loss.item())

    return update


LOOPS: dict[str, Callable[[Card, TrainOptions, str], Update]] = {
    "p2": p2_update,
    "hand-written": hand_written,
}


if __name__ == "__main__":
    main()
