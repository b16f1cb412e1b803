"""How much memory measuring a model may take, so that the machine is not driven into swapping."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from ...spec.card import Card, stored_parameters

# What a process holds besides its model, and how often it may hold the weights while it loads.
PROCESS_BYTES = 600 << 20
COPIES = 3
# Folding works in float64 with a copy of everything, and a serialised graph holds its weights twice.
PREPARING_COPIES = 8
SHARE = 0.9  # of what is available

Item = TypeVar("Item")


def needed_bytes(card: Card) -> int:
    """About the most memory that a contender's process takes with this model."""
    return PROCESS_BYTES + COPIES * 4 * stored_parameters(card)


def preparing_bytes(card: Card) -> int:
    """About the most memory that making a model's files takes."""
    return PREPARING_COPIES * 4 * stored_parameters(card)


def fits(need: int, available: int | None) -> bool:
    """Whether there is room; where the system does not tell what is available, it is tried."""
    return available is None or need <= SHARE * available


def too_large(need: int, available: int | None) -> str:
    """Why something was not tried, as a clause."""
    return f"it may need {need / 2**30:.1f} GiB of memory, and {(available or 0) / 2**30:.1f} GiB are free"


def groups(items: Sequence[Item], need: int, available: int | None) -> list[list[Item]]:
    """Cut a list so that every part fits into memory together.

    Args:
        items: in order.
        need: bytes of one item.
        available: bytes; None if the system does not tell, and then all are one part.

    Returns:
        parts of nearly the same size, as few as possible; none if not even one item fits.
    """
    together = len(items) if available is None else int(SHARE * available) // need
    if together < 1 or not items:
        return []
    parts = -(-len(items) // together)
    size = -(-len(items) // parts)
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
