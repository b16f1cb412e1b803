"""The state of a batch of texts as tensors, and the way from it to a snapshot and back."""

from __future__ import annotations

import torch

from ..spec.card import Card
from ..spec.engine import Snapshot
from ..spec.errors import ContractError
from .model import State


class TensorState:
    """A state; `tensors` (float32 ``[batch, hidden]`` by name, on one device) is replaced as it advances."""

    def __init__(self, tensors: State) -> None:
        self.tensors = tensors

    def snapshot(self) -> Snapshot:
        """See `Engine.snapshot`."""
        return {name: tensor.cpu().numpy().copy() for name, tensor in self.tensors.items()}


def restored(card: Card, snapshot: Snapshot, device: torch.device) -> TensorState:
    """See `Engine.restore`.

    Raises:
        ContractError: the snapshot is not of a model of this shape.
    """
    names = card.state_names
    batch = len(next(iter(snapshot.values()), ()))
    if {n: a.shape for n, a in snapshot.items()} != dict.fromkeys(names, (batch, card.hidden)):
        raise ContractError(
            f"the snapshot does not fit the model: it needs {', '.join(names)}, each [batch, {card.hidden}]"
        )
    return TensorState(
        {name: torch.tensor(snapshot[name], dtype=torch.float32, device=device) for name in names}
    )
