"""A recurrent classifier of symbol sequences: embedding, one recurrent layer, the class from its last state.

It runs on the cells of `cells`, whose equations it shares with the character model. Sequences of a
batch that begin alike have the same states as far as they do, so those are computed once (`shared`):
the same numbers and the same gradients, for half of the products where sequences begin with padding.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ...contract.cells import FORMS
from ...contract.errors import UsageError
from ...trainer.cells import Trained

CELLS = {form.name: form for form in FORMS}
"""By name; ``gru`` resets after the product, ``gru-before`` before it."""


class Level(NamedTuple):
    """One step over all sequences of a batch.

    Attributes:
        symbol: int64 ``[rows]``, read in this step.
        parent: int64 ``[rows]``: which row of the level before goes on here; None: each its own.
    """

    symbol: Tensor
    parent: Tensor | None


class Levels(NamedTuple):
    """A batch of sequences, step by step, and the last level's row of each sequence, int64 ``[batch]``."""

    steps: list[Level]
    last: Tensor


def shared(symbols: npt.NDArray[np.uint8]) -> Levels:
    """A batch in which every distinct prefix is one row.

    Args:
        symbols: ``[batch, steps]``.
    """
    order = np.lexsort(symbols.T[::-1])
    rows = symbols[order]
    starts = np.ones(rows.shape, bool)  # where a row's prefix differs from that of the row above
    starts[1:] = np.logical_or.accumulate(rows[1:] != rows[:-1], axis=1)
    number = starts.cumsum(axis=0) - 1
    levels, before = [], 0
    for step in range(rows.shape[1]):
        first = np.flatnonzero(starts[:, step])
        same = step == 0 or len(first) == before
        parent = None if same else torch.from_numpy(number[first, step - 1])
        levels.append(Level(torch.from_numpy(rows[first, step].astype(np.int64)), parent))
        before = len(first)
    last = np.empty(len(rows), np.int64)
    last[order] = number[:, -1]
    return Levels(levels, torch.from_numpy(last))


def apart(symbols: npt.NDArray[np.uint8]) -> Levels:
    """A batch in which every sequence is a row in every step."""
    columns = torch.from_numpy(symbols.astype(np.int64)).unbind(dim=1)
    return Levels([Level(column.contiguous(), None) for column in columns], torch.arange(len(symbols)))


class SequenceClassifier(nn.Module):
    """Embedding, one recurrent layer from a zero state, and logits from the state after the last step.

    There is one bias vector per gate, as in the textbook equations, and none in the GRU's.

    Attributes:
        cell: a key of `CELLS`.
        embedding: ``[symbols, embedding]``.
        w_ih: ``[G * hidden, embedding]``, gates stacked in PyTorch's order.
        w_hh: ``[G * hidden, hidden]``.
        bias: ``[G * hidden]``; of the GRU a constant zero.
        w_ph: ``[classes, hidden]``.
        b_p: ``[classes]``.

    Raises:
        UsageError: no such cell.
    """

    def __init__(self, cell: str, symbols: int, embedding: int, hidden: int, classes: int) -> None:
        super().__init__()
        if cell not in CELLS:
            raise UsageError(f"a cell is one of {', '.join(CELLS)}, not {cell!r}")
        self.cell = cell
        wide = len(CELLS[cell].gates) * hidden
        self.embedding = nn.Parameter(torch.zeros(symbols, embedding))
        self.w_ih = nn.Parameter(torch.zeros(wide, embedding))
        self.w_hh = nn.Parameter(torch.zeros(wide, hidden))
        self.bias = nn.Parameter(torch.zeros(wide), requires_grad=not cell.startswith("gru"))
        self.w_ph = nn.Parameter(torch.zeros(classes, hidden))
        self.b_p = nn.Parameter(torch.zeros(classes))

    @torch.no_grad()
    def initialise(self, seed: int, gain: float, fan: str = "out") -> None:
        """Draw the initial weights.

        Embedding: standard normal. Products: Kaiming normal (He et al., 2015), of standard deviation
        ``gain / sqrt(fan)``. Biases: zero.

        Args:
            seed: of the generator.
            gain: the factor that stands for the non-linearity.
            fan: ``in``, the numbers that a product reads, keeps the size of what goes forward; ``out``, the
                numbers that it makes for one gate, that of the gradient. A weight stored as ``[inputs,
                outputs]`` and handed to ``kaiming_normal_`` as it is gets the latter.
        """
        generator = torch.Generator().manual_seed(seed)
        hidden = self.w_hh.shape[1]
        self.embedding.normal_(generator=generator)
        for weight, outputs in ((self.w_ih, hidden), (self.w_hh, hidden), (self.w_ph, len(self.w_ph))):
            count = outputs if fan == "out" else weight.shape[1]
            weight.normal_(std=gain / math.sqrt(count), generator=generator)
        self.bias.zero_()
        self.b_p.zero_()

    def forward(self, batch: Levels) -> Tensor:
        """Logits float32 ``[batch, classes]``."""
        h, _ = self.states(batch)
        return F.linear(h[-1], self.w_ph, self.b_p)[batch.last]

    def states(self, batch: Levels) -> tuple[list[Tensor], list[Tensor]]:
        """States after every step: h, and c (the LSTM's, else empty), ``[rows, hidden]`` each."""
        table = F.linear(self.embedding, self.w_ih)  # the input product of each symbol
        h = c = table.new_zeros(len(batch.steps[0].symbol), self.w_hh.shape[1])
        hs, cs = [], []
        for level in batch.steps:
            if level.parent is not None:
                h = h[level.parent]
                c = c[level.parent] if self.cell == "lstm" else c
            h, c = self.step(F.embedding(level.symbol, table), h, c)
            hs.append(h)
            if self.cell == "lstm":
                cs.append(c)
        return hs, cs

    def parameter_count(self) -> dict[str, int]:
        """Trained numbers: of the recurrent layer, of the output layer, and of the embedding."""
        groups = {
            "recurrent": [self.w_ih, self.w_hh, self.bias],
            "output": [self.w_ph, self.b_p],
            "embedding": [self.embedding],
        }
        return {name: sum(p.numel() for p in group if p.requires_grad) for name, group in groups.items()}

    def step(self, p: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the cell; c passes through cells that have none.

        Args:
            p: input product ``[rows, G * hidden]``.
            h: state ``[rows, hidden]``.
            c: cell state ``[rows, hidden]``.
        """
        form = CELLS[self.cell]
        states = Trained(form, self.w_hh, self.bias).advance(p, (h, c)[: len(form.states)])
        return states[0], states[1] if len(states) > 1 else c
