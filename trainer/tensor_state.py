"""The state of a batch of texts as tensors, and the way from it to a snapshot and back."""

from __future__ import annotations

import torch

from ..contract.arguments import check_snapshot, check_state_shapes
from ..contract.card import Card
from ..contract.engine import Snapshot
from ..contract.errors import UsageError
from .model import State


class TensorState:
    """A state; `tensors` (float32 ``[batch, hidden]`` by name, on one device) is replaced as it advances."""

    def __init__(self, tensors: State) -> None:
        self.tensors = tensors


class TensorStates:
    """The part of `contract.engine.Engine` that takes such states out of a model and puts them back."""

    card: Card
    _device: torch.device

    def snapshot(self, state: TensorState) -> Snapshot:
        """See `Engine.snapshot`."""
        batch_of(self.card, state)
        return {name: tensor.cpu().numpy().copy() for name, tensor in state.tensors.items()}

    def restore(self, snapshot: Snapshot) -> TensorState:
        """See `Engine.restore`.

        Raises:
            ContractError: the snapshot is not of a model of this shape.
        """
        check_snapshot(self.card, snapshot)
        names = self.card.state_names
        return TensorState(
            {n: torch.tensor(snapshot[n], dtype=torch.float32, device=self._device) for n in names}
        )


def batch_of(card: Card, state: object) -> int:
    """The batch of a state.

    Raises:
        UsageError: it is not one of a model of this shape.
    """
    if not isinstance(state, TensorState):
        raise UsageError(f"the state must be one that this engine made, not {type(state).__name__}")
    return check_state_shapes(card, {name: tuple(tensor.shape) for name, tensor in state.tensors.items()})
