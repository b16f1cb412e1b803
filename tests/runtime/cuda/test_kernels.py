"""The kernels on the processor: in every cell and precision they write what an independent reference says."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

from p2.contract.integers import Definition
from p2.contract.noise import Address, gumbel
from p2.contract.sampling import Sampling, scale_noise

from ...conftest import make_card
from ...quantized import tensors_of
from .decoding import Decoder, geometry_of
from .models import Reference, made

# How far floats may be off: states, logits. Where a state meets weights it is rounded to 11 or 8 bits, and a
# float32's last bit may decide how.
OFF = {"float32": (2e-6, 2e-5), "float16": (2e-3, 2e-2), "bfloat16": (2e-2, 1e-1), "float8": (2e-3, 2e-2)}


class Case(NamedTuple):
    """A model, for how many texts it is compiled, how many there are, and how it is shared among blocks."""

    precision: str
    cell: str
    layers: int
    hidden: int
    vocab: int
    streams: int
    batch: int
    units: int
    reset: str = "after"
    cluster: int = 0
    count: int = 30


# Every cell in every precision; layers, sizes and numbers of texts are spread over them. With more than 8
# texts, or more than 2,048 logits, blocks do not all choose alike.
CASES = [
    Case("float32", "rnn", 2, 300, 31, 16, 9, 100, count=8),
    Case("float32", "lstm", 3, 33, 97, 2, 2, 9),
    Case("float32", "lstm", 1, 300, 5, 1, 1, 100, count=12),
    Case("float32", "gru", 2, 40, 1100, 2, 2, 16, count=10),
    Case("float32", "gru", 2, 8, 97, 16, 11, 3, "before"),
    Case("float16", "rnn", 3, 72, 97, 8, 5, 16),
    Case("float16", "lstm", 1, 8, 2, 1, 1, 4),
    Case("float16", "gru", 2, 33, 97, 32, 19, 16, count=12),
    Case("float16", "gru", 1, 72, 1100, 4, 4, 24, "before", count=10),
    Case("bfloat16", "rnn", 2, 33, 1100, 8, 7, 16, count=10),
    Case("bfloat16", "lstm", 2, 72, 31, 16, 16, 20, count=12),
    Case("bfloat16", "gru", 1, 20, 5, 2, 1, 4),
    Case("bfloat16", "gru", 3, 40, 31, 1, 1, 8, "before", 5),
    Case("float8", "rnn", 1, 300, 31, 1, 1, 160),
    Case("float8", "lstm", 2, 40, 97, 4, 4, 12),
    Case("float8", "gru", 3, 20, 31, 8, 8, 8),
    Case("float8", "gru", 2, 72, 2, 16, 12, 16, "before"),
    Case("int8", "rnn", 2, 72, 97, 16, 9, 32),
    Case("int8", "lstm", 3, 300, 31, 2, 2, 100, count=12),
    Case("int8", "gru", 2, 40, 1100, 8, 8, 16, count=10),
    Case("int8", "gru", 1, 20, 5, 1, 1, 4, "before"),
    Case("int4", "rnn", 1, 300, 31, 2, 2, 160),
    Case("int4", "lstm", 2, 33, 31, 16, 10, 12),
    Case("int4", "gru", 3, 64, 31, 8, 6, 16),
    Case("int4", "gru", 2, 48, 1100, 1, 1, 16, "before", count=10),
]


def label(case: Case) -> str:
    return f"{case.precision}-{case.cell}-{case.reset}-{case.hidden}-{case.vocab}-{case.streams}"


def step_of_case(case: Case, seed: int = 0):
    vocabulary = "".join(map(chr, range(0x100, 0x100 + case.vocab)))
    card = make_card(case.cell, case.reset, case.layers, case.hidden, precision=case.precision)
    return made(card.with_(vocabulary=vocabulary), seed)


def decoder_of(case: Case, step, kernels_of, memory, **changes):
    sizes: dict[str, int] = {"cluster": case.cluster, "grid": case.cluster} if case.cluster else {}
    geometry = geometry_of(step, case.streams, case.units, **sizes, **changes)
    return Decoder(step, geometry, kernels_of, memory)


def reference_of(step):
    if step.card.format.integers:
        return Definition(step.card, tensors_of(step.card))
    return Reference(step)


def near(found, wanted, limit):
    return all(np.abs(found[key] - wanted[key]).max() <= limit for key in wanted)


def same(one, other):
    return all(np.array_equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("case", CASES, ids=label)
def test_text_and_states_are_those_of_the_reference(case, kernels_of, memory):
    """Written, resumed, with noise drawn on the device, and read again."""
    step = step_of_case(case)
    decoder, reference = decoder_of(case, step, kernels_of, memory), reference_of(step)
    limits = (0, 0) if step.card.format.integers else OFF[case.precision]
    address, sampling = Address(5, [3 * i + 1 for i in range(case.batch)], 100), Sampling(0.8)
    noise = scale_noise(gumbel(5, address.streams, 100, case.count, case.vocab), sampling)
    last = np.arange(case.batch) % case.vocab

    state = decoder.zero_state(case.batch)
    text = decoder.write(state, last, noise, case.count, sampling)
    fed = np.column_stack([last, text[:, :-1]])
    wanted = reference.zero_state(case.batch)
    logits = np.stack([reference.step(wanted, column) for column in fed.T], axis=1)
    scores = logits + noise.swapaxes(0, 1)
    chosen = np.take_along_axis(scores, text[..., None], axis=2)[..., 0]
    assert (scores.max(axis=2) - chosen).max() <= limits[1]
    assert near(state, wanted, limits[0])
    assert len(np.unique(text)) > 1

    pieces, resumed = [], decoder.zero_state(case.batch)
    for start, stop in ((0, 1), (1, 4), (4, case.count)):
        from_here = address._replace(position=100 + start)
        before = pieces[-1][:, -1] if pieces else last
        pieces.append(decoder.write(resumed, before, from_here, stop - start, sampling, seed=start))
    assert np.array_equal(np.concatenate(pieces, axis=1), text)
    assert same(resumed, state)

    read = decoder.zero_state(case.batch)
    predicted = [decoder.read(read, part, logits=True, seed=7) for part in (fed[:, :3], fed[:, 3:4])]
    decoder.read(read, fed[:, 4:], seed=8)
    assert same(read, state)
    assert np.abs(np.concatenate(predicted, axis=1) - logits[:, :4]).max() <= limits[1]


@pytest.mark.parametrize("case", [case for case in CASES if case.precision == "int8"][2:], ids=label)
def test_any_state_may_be_given(case, kernels_of, memory):
    """Of another engine, or of nobody: what lies outside the grid of integers is brought to its ends."""
    step, rng = step_of_case(case), np.random.default_rng(4)
    decoder, reference = decoder_of(case, step, kernels_of, memory), reference_of(step)
    state = decoder.zero_state(case.batch)
    for array in state.values():
        array[...] = 10.0 ** rng.uniform(-9, 6, array.shape) * rng.choice([-1, 1], array.shape)
    wanted = {key: array.copy() for key, array in state.items()}
    tokens = rng.integers(0, case.vocab, (case.batch, 3))
    logits = decoder.read(state, tokens, logits=True)
    assert np.array_equal(logits, reference.run(wanted, tokens))
    assert same(state, wanted)
