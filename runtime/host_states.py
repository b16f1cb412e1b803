"""States of engines on the processor: plain arrays, which are their own snapshots."""

from __future__ import annotations

import numpy as np

from ..contract.arguments import check_batch, check_snapshot, check_state
from ..contract.card import Card
from ..contract.engine import Snapshot
from ..contract.sampling import Floats

State = dict[str, Floats]


class HostStates:
    """The part of `contract.engine.Engine` that makes states, float32 ``[batch, hidden]`` by name."""

    card: Card

    def zero_state(self, batch: int) -> State:
        """Zeros for `batch` streams."""
        batch = check_batch(batch)
        return {name: np.zeros((batch, self.card.hidden), np.float32) for name in self.card.state_names}

    def snapshot(self, state: State) -> Snapshot:
        """A copy of the state."""
        check_state(self.card, state)
        return {name: array.copy() for name, array in state.items()}

    def restore(self, snapshot: Snapshot) -> State:
        """A state equal to the snapshot."""
        check_snapshot(self.card, snapshot)
        return {name: np.array(snapshot[name], np.float32) for name in self.card.state_names}
