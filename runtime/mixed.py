"""Texts of different seeds, positions and settings in one batch, with any engine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..contract.codec import Tokens
from ..contract.engine import Draw, DrawingEngine, Engine, MixedEngine, State
from ..contract.errors import NotFinite
from ..contract.noise import Address, Noise, gumbel
from ..contract.sampling import Sampling, scale_noise

# An argmax of logits plus noise that is scaled already: of every temperature, 0 included.
_NO_FILTERS = Sampling()


def draw_each(
    engine: Engine, state: State, last: Tokens, draws: Sequence[Draw], count: int
) -> tuple[Tokens, State]:
    """Write `count` characters of every text; see `contract.engine.MixedEngine.draw_each`.

    An engine that cannot mix is handed the noise. The filters are one setting of a call, so texts whose
    filters differ are written one group after the other.

    Returns:
        the new tokens, int64 ``[batch, count]``; the state after them, in place of the one given.

    Raises:
        NotFinite: some texts have no more characters; `result` is the tokens of all and the state.
    """
    try:
        return _draw_each(engine, state, last, draws, count)
    except NotFinite as error:
        if not isinstance(error.result, tuple):
            error.result = error.result, state
        raise


def _draw_each(
    engine: Engine, state: State, last: Tokens, draws: Sequence[Draw], count: int
) -> tuple[Tokens, State]:
    if isinstance(engine, MixedEngine):
        return engine.draw_each(state, last, draws, count), state
    first = draws[0]
    if isinstance(engine, DrawingEngine) and all(
        one[::2] == first[::2] and one[3] == first[3] for one in draws
    ):
        address = Address(first.seed, [one.stream for one in draws], first.position)
        return engine.draw(state, last, address, count, first.sampling), state
    groups: dict[Sampling, list[int]] = {}
    for row, one in enumerate(draws):
        groups.setdefault(one.sampling if one.sampling.filters else _NO_FILTERS, []).append(row)
    if len(groups) == 1:
        return engine.decode(state, last, _noise(engine, draws, count), *groups), state
    written = np.empty((len(draws), count), np.int64)
    lost, problem = [], None
    before = engine.snapshot(state)
    after = {name: np.empty_like(values) for name, values in before.items()}
    for sampling, rows in groups.items():
        part = engine.restore({name: values[rows] for name, values in before.items()})
        noise = _noise(engine, [draws[row] for row in rows], count)
        try:
            written[rows] = engine.decode(part, last[rows], noise, sampling)
        except NotFinite as error:
            written[rows], problem = error.result, error
            lost += [rows[row] for row in error.rows]
        for name, values in engine.snapshot(part).items():
            after[name][rows] = values
    if problem is not None:
        for values in after.values():
            values[lost] = 0  # no state is made of others
        raise NotFinite(str(problem), sorted(lost), (written, engine.restore(after)))
    return written, engine.restore(after)


def _noise(engine: Engine, draws: Sequence[Draw], count: int) -> Noise:
    """Scaled noise, float32 ``[count, batch, vocab]``; zeros for a greedy text."""
    vocab = engine.card.vocab
    noise = np.zeros((count, len(draws), vocab), np.float32)
    for row, (seed, stream, position, sampling) in enumerate(draws):
        if not sampling.greedy:
            noise[:, row] = scale_noise(gumbel(seed, [stream], position, count, vocab), sampling)[:, 0]
    return noise
