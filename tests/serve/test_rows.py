"""Rows of a batch: whoever comes and goes, each text keeps its own state."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.engine import Engine, Snapshot
from p2.contract.sampling import Sampling
from p2.serve.rows import Rows
from p2.serve.text import ENDED, IN_BATCH, Text

ACTIONS = st.lists(
    st.tuples(st.sampled_from(["join", "end", "pause", "resume", "write", "look"]), st.integers(0, 7)),
    max_size=40,
)


class Sums:
    """An engine whose state is the sum of what a row has been told, changed in place as engines do."""

    def zero_state(self, batch: int) -> Snapshot:
        return {"h0": np.zeros((batch, 2), np.float32)}

    def snapshot(self, state: Snapshot) -> Snapshot:
        return {name: values.copy() for name, values in state.items()}

    restore = snapshot

    def tell(self, state: Snapshot, numbers: list[int]) -> None:
        state["h0"] += np.array(numbers, np.float32)[:, None]


def a_text() -> Text:
    text = Text(np.array([0]), 1, 0, 0, Sampling(), (), None, False, 0, cast(Any, None))
    text.place = IN_BATCH
    return text


@given(ACTIONS)
def test_each_keeps_its_own(actions: list[tuple[str, int]]) -> None:
    engine = Sums()
    rows = Rows(cast(Engine, engine))
    told: dict[int, int] = {}
    paused: list[Text] = []
    everybody: list[Text] = []
    for count, (action, number) in enumerate(actions, 1):
        if action == "join":
            fresh = [a_text() for _ in range(1 + number % 3)]
            everybody += fresh
            told |= {id(text): 0 for text in fresh}
            rows.change([], fresh)
        elif action == "resume" and paused:
            rows.change([], [paused.pop(number % len(paused))])
        elif action in ("end", "pause") and rows:
            text = rows.texts[number % len(rows)]
            if action == "end":
                text.place = ENDED
            else:
                paused.append(text)
            rows.change([text])
        elif action == "write" and rows:
            state, numbers = rows.state, [count * (1 + row) for row in range(len(rows))]
            engine.tell(state, numbers)
            rows.state = state
            for text, each in zip(rows.texts, numbers, strict=True):
                told[id(text)] += each
        elif action == "look" and rows:
            copy = rows.copy_of([len(rows) - 1])
            assert copy["h0"].tolist() == [[told[id(rows.texts[-1])]] * 2]
            engine.tell(copy, [1])  # is nothing to the batch
    rows.change([], paused)
    found = rows.state["h0"].tolist() if rows else []
    assert found == [[told[id(text)]] * 2 for text in rows.texts]
    assert rows or rows.state is None
