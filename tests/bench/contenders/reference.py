"""A model's random weights as a checkpoint, and what numpy writes with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from p2.contract.card import Card

CELLS = [("rnn", "after"), ("lstm", "after"), ("gru", "after"), ("gru", "before")]

# A captured graph without a GPU: the function itself, called again.
GRAPH = "cuda-graph on the processor"


def save_checkpoint(folder: Path, card: Card, parameters: dict[str, npt.NDArray[np.float32]]) -> Card:
    import torch

    from p2.trainer import checkpoint
    from p2.trainer.record import Record

    state = {name: torch.from_numpy(array) for name, array in parameters.items()}
    return checkpoint.save(folder, card, state, Record(options={}, corpus={}, software={}))


def followed(model, first, noise) -> npt.NDArray[np.int64]:
    state, token, written = model.zero(len(first)), first, []
    for row in noise:
        token = np.argmax(model.step(state, token) + row, axis=1)
        written.append(token)
    return np.stack(written, axis=1)


def drawn(card: Card, count: int, batch: int = 3) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    rng = np.random.default_rng(7)
    first = rng.integers(card.vocab, size=batch)
    return first, rng.gumbel(size=(count, batch, card.vocab)).astype(np.float32)
