"""The loop in Python that contenders without one of their own share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from p2.bench.contenders.host_loop import HostLoop, Stepper
from p2.contract.card import Card
from p2.contract.noise import first_tokens, gumbel


class Chain(Stepper):
    """A step whose prediction depends on the token and on how many came before it."""

    def __init__(self, batch: int) -> None:
        self.token = np.zeros(batch, np.int64)
        self.steps = 0

    def step(self) -> npt.NDArray[np.float32]:
        self.steps += 1
        return np.stack([chain_row(token, self.steps) for token in self.token.tolist()])


def chain_row(token: int, position: int) -> npt.NDArray[np.float32]:
    return np.cos(np.arange(31, dtype=np.float32) * (token + 1) + position)


class Chains(HostLoop):
    def open(self, batch: int) -> Stepper:
        return Chain(batch)


@given(cuts=st.lists(st.integers(0, 9), max_size=5), batch=st.integers(1, 4), seed=st.integers(0, 2**64))
@settings(max_examples=30, deadline=None)
def test_the_loop_in_python_writes_the_same_text_however_it_is_cut(cuts, batch, seed):
    from p2.bench.contenders import host_loop

    card = Card("lstm", 1, 8, 16, "".join(map(chr, range(97, 128))))
    running = Chains(card, 1)
    running.start(batch, seed)
    before, host_loop.NOISE_NUMBERS = host_loop.NOISE_NUMBERS, 2 * batch * card.vocab  # two rows at a time
    try:
        text = np.concatenate([running.write(0), *(running.write(count) for count in cuts)], axis=1)
    finally:
        host_loop.NOISE_NUMBERS = before
    token, count = first_tokens(seed, range(batch), card.vocab), sum(cuts)
    for index, row in enumerate(gumbel(seed, range(batch), 1, count, card.vocab)):
        token = np.array(
            [np.argmax(chain_row(int(one), index + 1) + noise) for one, noise in zip(token, row, strict=True)]
        )
        assert text[:, index].tolist() == token.tolist()
