"""Batches of windows: at random offsets, or along lanes that carry the state.

Both kinds compute the batch of any step directly from (seed, step), so a resumed run sees exactly
the batches that an uninterrupted one would have seen. The text stays in the memory of the host, in whatever
integers it came in, or in its file; only a batch is widened to int64 and moved to where it is computed on.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..contract.errors import P2Error
from ..contract.noise import words
from .token_file import Stored

Tokens = npt.NDArray[np.integer[Any]] | Stored

_WINDOW_STREAM = 1
_LANE_STREAM = 2
CPU = torch.device("cpu")


class Batches(Protocol):
    """Where the windows of an update come from."""

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of update `step` (from 0): int64 ``[batch, seq_len]`` each."""
        ...

    def starts_fresh(self, step: int) -> bool:
        """Whether the windows of update `step` begin with a zero state."""
        ...


def split(tokens: Tokens, val_fraction: float, seq_len: int) -> tuple[Tokens, Tokens]:
    """Cut the held-out tail off.

    Args:
        tokens: any integers ``[characters]``, in memory or stored.
        val_fraction: share of the tail; 0 holds nothing out.
        seq_len: window length; each part must hold a window and the character after it.

    Returns:
        The training part and the held-out part, views of `tokens`.

    Raises:
        P2Error: a part is shorter than a window.
    """
    held_out = int(len(tokens) * val_fraction)
    train, validation = tokens[: len(tokens) - held_out], tokens[len(tokens) - held_out :]
    if len(train) <= seq_len:
        raise P2Error(
            f"the text is too short: {len(train):,} characters to train on, a window needs"
            f" {seq_len + 1:,} (--seq-len {seq_len} and the one after): give more text or a smaller --seq-len"
        )
    if val_fraction and len(validation) <= seq_len:
        raise P2Error(
            f"the held-out part of the text is too short: {len(validation):,} characters, a window needs"
            f" {seq_len + 1:,}: give more text, a smaller --seq-len or a larger --val-fraction"
            " (0 holds nothing out)"
        )
    return train, validation


class RandomWindows:
    """Windows at uniformly random offsets, each starting from a zero state."""

    def __init__(
        self, tokens: Tokens, seq_len: int, batch_size: int, seed: int, device: torch.device = CPU
    ) -> None:
        self._tokens = tokens
        self._batch_size = batch_size
        self._seed = seed
        self._device = device
        self._positions = np.arange(seq_len + 1)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """See `Batches.batch`."""
        choices = len(self._tokens) - len(self._positions) + 1
        offsets = uniform_integers(self._seed, _WINDOW_STREAM, step, self._batch_size, choices)
        window = widened(self._tokens.take(np.array(offsets)[:, None] + self._positions), self._device)
        return window[:, :-1], window[:, 1:]

    def starts_fresh(self, step: int) -> bool:  # noqa: ARG002 - the protocol's signature
        """See `Batches.starts_fresh`."""
        return True


class Lanes:
    """The text cut into as many lanes as a batch has rows; each update reads on in every lane.

    All lanes have the same whole number of windows. When they end, a new pass begins at a random
    shift (so that the characters a whole number of windows leaves over have their turn) and with a
    zero state.

    Raises:
        P2Error: the text is too short for one window in every lane.
    """

    def __init__(
        self, tokens: Tokens, seq_len: int, batch_size: int, seed: int, device: torch.device = CPU
    ) -> None:
        self._tokens = tokens
        self._seq_len = seq_len
        self._seed = seed
        self._device = device
        self.windows = (len(tokens) - 1) // (batch_size * seq_len)
        """Windows per lane."""
        if self.windows < 1:
            raise P2Error(
                f"the text is too short for --stateful: {len(tokens):,} characters to train on,"
                f" {batch_size} lanes of a window of {seq_len} need {batch_size * seq_len + 1:,}:"
                " give more text, or a smaller --batch-size or --seq-len"
            )
        lane = self.windows * seq_len
        self._slack = len(tokens) - 1 - batch_size * lane
        self._positions = np.arange(batch_size)[:, None] * lane + np.arange(seq_len + 1)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """See `Batches.batch`."""
        lap, window = divmod(step, self.windows)
        (shift,) = uniform_integers(self._seed, _LANE_STREAM, lap, 1, self._slack + 1)
        rows = widened(self._tokens.take(self._positions + (shift + window * self._seq_len)), self._device)
        return rows[:, :-1], rows[:, 1:]

    def starts_fresh(self, step: int) -> bool:
        """See `Batches.starts_fresh`."""
        return step % self.windows == 0


def widened(tokens: Tokens, device: torch.device) -> Tensor:
    """Tokens as PyTorch takes them: int64 of the same shape, on a device."""
    wide = torch.from_numpy(np.array(tokens, np.int64))
    if device.type == "cuda" and wide.numel():  # pinned, so that nobody waits for the copy
        return wide.pin_memory().to(device, non_blocking=True)
    return wide.to(device)


def uniform_integers(seed: int, stream: int, position: int, count: int, high: int) -> list[int]:
    """`count` integers uniform in ``[0, high)``, a function of their address alone.

    Each takes 53 random bits, so the bias is below ``high / 2**53``.
    """
    raw = words(seed, stream, position, 1, 2 * count)[0].tolist()
    bits = ((upper << 21) | (lower >> 11) for upper, lower in zip(raw[::2], raw[1::2], strict=True))
    return [(value * high) >> 53 for value in bits]
