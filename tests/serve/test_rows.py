"""Rows of a batch: whoever comes, goes and comes back has the state that was its own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from p2.contract.sampling import Sampling
from p2.runtime.host_states import HostStates
from p2.serve.rows import Rows
from p2.serve.text import ENDED, IN_BATCH, PAUSED, Text

from ..conftest import make_card


class Held(HostStates):
    """States alone."""

    card = make_card("lstm", layers=1, hidden=2)


def text(number: int) -> Text:
    return Text(np.zeros(0, np.int64), 9, 0, number, Sampling(), (), None, False, number, None)


@given(
    st.lists(st.tuples(st.sets(st.integers(0, 7)), st.sets(st.integers(0, 7)), st.booleans()), max_size=12)
)
def test_every_text_keeps_its_own_state(borders):
    """At each border some leave, for ever or for a while, and others come, new ones or those that wait."""
    rows, texts = Rows(Held()), [text(number) for number in range(8)]
    steps = dict.fromkeys(range(8), 0)  # that the state of a text has seen
    for leave, come, for_ever in borders:
        here = {one.index for one in rows.texts}
        leaving = [one for one in rows.texts if one.index in leave]
        for one in leaving:
            one.place = ENDED if for_ever else PAUSED
        joining = [texts[number] for number in sorted(come - here) if texts[number].place != ENDED]
        for one in joining:
            one.place = IN_BATCH
        rows.change(leaving, joining)
        if rows.texts:
            state = rows.state
            for array in state.values():  # a step of each: it counts in its own units, never as far as 1
                array += np.array([[(1 + one.index) / 256] for one in rows.texts], np.float32)
            rows.state = state
        for one in rows.texts:
            steps[one.index] += 1
        for row, one in enumerate(rows.texts):
            found = rows.copy_of([row])
            assert all((array == steps[one.index] * (1 + one.index) / 256).all() for array in found.values())
