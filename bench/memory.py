"""How much memory measuring a model may take, so that the machine is not driven into swapping."""

from __future__ import annotations

from ..contract.card import Card, stored_parameters

# What a process holds besides its model.
PROCESS_BYTES = 600 << 20
# Folding works in float64 with a copy of everything, and a serialised graph holds its weights twice.
COPIES = 8
SHARE = 0.9  # of what is available


def needed_bytes(card: Card) -> int:
    """About the most memory that a contender's process takes with this model, while it loads."""
    return PROCESS_BYTES + preparing_bytes(card)


def preparing_bytes(card: Card) -> int:
    """About the most memory that making a model's files takes."""
    return COPIES * 4 * stored_parameters(card)


def fits(need: int, available: int | None) -> bool:
    """Whether there is room; where the system does not tell what is available, it is tried."""
    return available is None or need <= SHARE * available


def too_large(need: int, available: int | None) -> str:
    """Why something was not tried, as a clause."""
    return f"it may need {need / 2**30:.1f} GiB of memory, and {(available or 0) / 2**30:.1f} GiB are free"
