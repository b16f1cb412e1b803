"""A text is the same to the last bit whoever is beside it and however the work is shared."""

from __future__ import annotations

import numpy as np
import pytest

from p2.contract.noise import Address
from p2.contract.sampling import Sampling
from p2.runtime.cuda.geometry import FEW

from .decoding import Decoder, geometry_of
from .test_kernels import Case, decoder_of, label, same, step_of_case

MODELS = [
    Case("float32", "lstm", 2, 40, 31, 1, 1, 12),
    Case("float16", "gru", 2, 40, 31, 1, 1, 12, "before"),
    Case("int8", "gru", 2, 40, 31, 1, 1, 12),
    Case("int4", "lstm", 2, 48, 31, 1, 1, 12),
]
# Texts of a launch, and how many it is compiled for: with scales in blocks no more than 8.
BATCHES = {1: 1, 2: 2, 5: 8, 8: 8, 11: 16, 33: 64}
SAMPLINGS = [Sampling(), Sampling(0.7), Sampling(0), Sampling(1.3, top_k=9), Sampling(top_p=0.8, min_p=0.02)]


def first_text(decoder, batch, count=6, seed=0, at=0):
    """A text that is number `at` of a batch; its state."""
    others = [i for i in range(1, batch + 1) if i != 7][: batch - 1]
    streams = [*others[:at], 7, *others[at:]]
    state, rng = decoder.zero_state(batch), np.random.default_rng(2)
    own = {name: rng.standard_normal(decoder.card.hidden).astype(np.float32) / 2 for name in state}
    for name, array in state.items():
        array[...] = rng.standard_normal(array.shape)
        array[at] = own[name]
    last, samplings = np.arange(batch) % 31, [SAMPLINGS[i % 5] for i in streams]
    last[at] = 3
    address = Address(9, streams, 1000)
    text = decoder.write(state, last, address, count, samplings, seed=seed)
    return text[at], {name: array[at].copy() for name, array in state.items()}


@pytest.mark.parametrize("case", MODELS, ids=label)
def test_of_its_neighbours(case, kernels_of, memory):
    step = step_of_case(case)
    found = []
    for batch, streams in BATCHES.items():
        if case.precision != "int4" or streams <= FEW:
            decoder = decoder_of(case._replace(streams=streams), step, kernels_of, memory)
            found.append(first_text(decoder, batch, 16, at=batch // 2, seed=batch))
    for text, state in found[1:]:
        assert np.array_equal(text, found[0][0])
        assert same(state, found[0][1])


@pytest.mark.parametrize("streams", [2, 16])
@pytest.mark.parametrize("case", MODELS[:3], ids=label)
def test_of_the_order_in_which_threads_run(case, streams, kernels_of, memory):
    decoder = decoder_of(case._replace(streams=streams), step_of_case(case), kernels_of, memory)
    text, state = first_text(decoder, streams)
    for seed in range(1, 10):
        again = first_text(decoder, streams, seed=seed)
        assert np.array_equal(again[0], text)
        assert same(again[1], state)


@pytest.mark.parametrize(
    ("case", "changes"),
    [
        (MODELS[0], {"units": 28, "cluster": 2, "grid": 2}),
        (MODELS[1], {"units": 7, "threads": 128}),
        (MODELS[2], {"units": 8, "cluster": 5, "grid": 5, "threads": 96}),
        (MODELS[3], {"units": 20, "threads": 32}),
    ],
    ids=["float32", "float16", "int8", "int4"],
)
def test_of_blocks_threads_and_clusters(case, changes, kernels_of, memory):
    step = step_of_case(case)
    text, state = first_text(decoder_of(case._replace(streams=2), step, kernels_of, memory), 2)
    geometry = geometry_of(step, 2, **changes)
    again = first_text(Decoder(step, geometry, kernels_of, memory), 2)
    assert np.array_equal(again[0], text)
    assert same(again[1], state)


@pytest.mark.parametrize("streams", [2, 16])
@pytest.mark.parametrize("case", MODELS[:3], ids=label)
def test_of_how_much_lies_in_shared_memory(case, streams, kernels_of, memory):
    """All weights, some rows or tiles of them, or none."""
    step, case = step_of_case(case), case._replace(streams=streams)
    decoder = decoder_of(case, step, kernels_of, memory)
    text, state = first_text(decoder, streams)
    everything = decoder.geometry.shared_bytes
    nothing = decoder.geometry.resident(0, "h")[1]  # the first that is kept, so nothing is before it
    for limit in np.linspace(nothing, everything, 4, dtype=int)[:-1]:
        again = decoder_of(case, step, kernels_of, memory, limit=int(limit))
        assert nothing <= again.geometry.shared_bytes <= limit
        found = first_text(again, streams)
        assert np.array_equal(found[0], text)
        assert same(found[1], state)
