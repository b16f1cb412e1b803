"""Whatever an engine is handed that does not fit is one sentence, from every engine, and changes no state."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from p2.contract import arguments
from p2.contract.engine import DrawingEngine
from p2.contract.errors import ContractError, P2Error, UsageError
from p2.contract.noise import Address
from p2.contract.sampling import Sampling
from p2.runtime import native, step_weights
from p2.runtime.cuda import geometry
from p2.runtime.onnxruntime.engine import OnnxEngine
from p2.runtime.onnxruntime.gpu import OnnxGpuEngine
from p2.runtime.onnxruntime.providers import STAND_IN
from p2.runtime.step_file import open_step

from ..conftest import random_parameters
from .cuda.conftest import kernels_of  # noqa: F401
from .cuda.emulated import EmulatedCuda

VOCAB, HIDDEN, BATCH = 30, 32, 2


def _native(card_of, write_step, **_):
    if native.problem():
        pytest.skip(native.problem())
    from p2.runtime.native.engine import NativeEngine

    return NativeEngine(open_step(write_step(card_of())))


def _eager(card_of, parameters_of, **_):
    import torch

    from p2.trainer.eager import EagerEngine
    from p2.trainer.model import CharModel

    model = CharModel(card_of())
    model.load_state_dict({n: torch.from_numpy(a) for n, a in parameters_of(card_of()).items()})
    return EagerEngine(model)


def _cuda_graph(card_of, parameters_of, **_):
    import torch

    from p2.export.cuda_graph import CudaGraphEngine
    from p2.export.fold import fold
    from p2.export.step import Step

    card = card_of()
    weights = fold(card, {n: torch.from_numpy(a) for n, a in parameters_of(card).items()})
    return CudaGraphEngine(card, Step(card, weights).eval(), "test", lambda body: body)


def _cuda(card_of, write_step, **given):
    return EmulatedCuda(given["kernels_of"]).open(open_step(write_step(card_of())))


ENGINES = {
    "cuda": _cuda,
    "native": _native,
    "onnxruntime": lambda card_of, write_step, **_: OnnxEngine(open_step(write_step(card_of()))),
    "onnxruntime on a device": lambda card_of, write_step, **_: OnnxGpuEngine(
        open_step(write_step(card_of())), STAND_IN
    ),
    "plan": lambda bench, **_: bench().engine,
    "plan, step by step": lambda bench, **_: bench(step_by_step=True).engine,
    "eager": _eager,
    "cuda-graph": _cuda_graph,
}


@pytest.fixture(params=ENGINES)
def engine(request, monkeypatch, card_of, write_step, parameters_of, bench):
    given = {"card_of": card_of, "write_step": write_step, "parameters_of": parameters_of, "bench": bench}
    if request.param == "cuda":
        monkeypatch.setattr(geometry, "STREAMS", (4,))  # one compilation, which other tests have as well
        given["kernels_of"] = request.getfixturevalue("kernels_of")
    return ENGINES[request.param](**given)


def tokens(*shape, kind=np.int64):
    return np.zeros(shape, kind)


def noise(*shape, kind=np.float32):
    return np.zeros(shape, kind)


def with_nan():
    array = noise(3, BATCH, VOCAB)
    array[1, 1, 7] = np.nan
    return array


TEXTS = {
    "a list": [[0, 1], [0, 1]],
    "one dimension": tokens(2),
    "three dimensions": tokens(BATCH, 2, 1),
    "another batch": tokens(BATCH + 1, 4),
    "one text for all": tokens(1, 4),
    "32 bits": tokens(BATCH, 2, kind=np.int32),
    "floats": tokens(BATCH, 2, kind=float),
    "objects": tokens(BATCH, 2, kind=object),
    "a number": 3,
    "None": None,
    "negative": tokens(BATCH, 2) - 1,
    "beyond the vocabulary": tokens(BATCH, 2) + VOCAB,
    "huge": tokens(BATCH, 2) + 2**62,
}
LAST = {
    "a list": [0, 1],
    "two dimensions": tokens(BATCH, 1),
    "another batch": tokens(BATCH + 1),
    "one for all": tokens(1),
    "32 bits": tokens(BATCH, kind=np.int32),
    "unsigned": tokens(BATCH, kind=np.uint64),
    "negative": tokens(BATCH) - 1,
    "beyond the vocabulary": tokens(BATCH) + VOCAB,
}
NOISE = {
    "a list": [[[0.0] * VOCAB] * BATCH],
    "one dimension": noise(VOCAB),
    "another width": noise(3, BATCH, VOCAB - 1),
    "one width for all": noise(3, BATCH, 1),
    "another batch": noise(3, BATCH - 1, VOCAB),
    "64 bits": noise(3, BATCH, VOCAB, kind=np.float64),
    "objects": noise(3, BATCH, VOCAB, kind=object),
    "NaN": with_nan(),
    "None": None,
}
ADDRESSES = {
    "no address": ((1, (0, 1), 0), 3),
    "a stream too few": (Address(1, (0,), 0), 3),
    "a negative stream": (Address(1, (0, -1), 0), 3),
    "half a stream": (Address(1, (0, 0.5), 0), 3),
    "streams that are a number": (Address(1, 2, 0), 3),
    "half a seed": (Address(0.5, (0, 1), 0), 3),
    "a negative position": (Address(1, (0, 1), -1), 3),
    "a position beyond 64 bits": (Address(1, (0, 1), 2**64), 3),
    "an end beyond 64 bits": (Address(1, (0, 1), 2**64 - 2), 3),
    "a negative count": (Address(1, (0, 1), 0), -1),
    "half a count": (Address(1, (0, 1), 0), 1.5),
    "a count that fits nowhere": (Address(1, (0, 1), 0), 10**18),
}


def kept(engine, state):
    return {name: values.copy() for name, values in engine.snapshot(state).items()}


def refuses(engine, call, kind=UsageError):
    """It says what is wrong in a sentence, and leaves the state as it was."""
    state = engine.zero_state(BATCH)
    engine.feed(state, tokens(BATCH, 1))
    before = kept(engine, state)
    with pytest.raises(kind) as caught:
        call(state)
    assert isinstance(caught.value, P2Error)
    assert 10 < len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)
    after = kept(engine, state)
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_known_text(engine):
    for text in TEXTS.values():
        for logits in (False, True):
            refuses(engine, lambda state, text=text, logits=logits: engine.feed(state, text, logits=logits))


def test_the_last_tokens_and_the_noise(engine):
    good, random = tokens(BATCH), noise(3, BATCH, VOCAB)
    for sampling in (Sampling(), Sampling(top_k=3), Sampling(0)):
        for last in LAST.values():
            refuses(engine, lambda s, last=last, how=sampling: engine.decode(s, last, random, how))
        for given in NOISE.values():
            refuses(engine, lambda s, given=given, how=sampling: engine.decode(s, good, given, how))
    refuses(engine, lambda state: engine.decode(state, good, random, 1.0))


def test_addresses(engine):
    if not isinstance(engine, DrawingEngine):
        pytest.skip("it does not draw")
    for address, count in ADDRESSES.values():
        for sampling in (Sampling(), Sampling(0)):
            refuses(
                engine,
                lambda s, a=address, c=count, how=sampling: engine.draw(s, tokens(BATCH), a, c, how),
            )
    address = Address(1, (0, 1), 0)
    for last in LAST.values():
        refuses(engine, lambda s, last=last: engine.draw(s, last, address, 3, Sampling()))


def test_top_k_beyond_the_vocabulary_is_the_vocabulary(engine):
    """In 32 bits 2**32 + 1 is 1, which is greedy; in a float32 10**400 is nothing at all."""
    random = np.random.default_rng(3).gumbel(size=(20, BATCH, VOCAB)).astype(np.float32)
    texts = [
        engine.decode(engine.zero_state(BATCH), tokens(BATCH), random, Sampling(top_p=0.99, top_k=top_k))
        for top_k in (0, VOCAB, 2**31, 2**32, 2**32 + 1, 2**64 + 1, 10**400)
    ]
    assert all(np.array_equal(text, texts[0]) for text in texts)
    greedy = engine.decode(engine.zero_state(BATCH), tokens(BATCH), random, Sampling(top_p=0.99, top_k=1))
    assert not np.array_equal(texts[0], greedy)


def test_batches(engine):
    for batch in (0, -1, 1.5, True, "2", None, 2**31, 2**32 + 1, 10**18):
        refuses(engine, lambda _, batch=batch: engine.zero_state(batch))


def test_states_of_another_kind(engine):
    states = [
        None,
        [],
        {},
        {"h_00": noise(BATCH, HIDDEN)},
        dict.fromkeys(engine.card.state_names, noise(BATCH, HIDDEN - 1)),
        dict.fromkeys(engine.card.state_names, noise(HIDDEN)),
        dict.fromkeys(engine.card.state_names, noise(BATCH, HIDDEN, kind=np.float64)),
        dict.fromkeys(engine.card.state_names, noise(BATCH, HIDDEN).tolist()),
        dict.fromkeys(engine.card.state_names, noise(BATCH, HIDDEN)) | {"h_01": noise(1, HIDDEN)},
    ]
    for wrong in states:
        refuses(engine, lambda _, wrong=wrong: engine.feed(wrong, tokens(BATCH, 2)))
        refuses(
            engine,
            lambda _, wrong=wrong: engine.decode(wrong, tokens(BATCH), noise(3, BATCH, VOCAB), Sampling()),
        )
        refuses(engine, lambda _, wrong=wrong: engine.snapshot(wrong))


def test_snapshots_of_another_model(engine):
    good = engine.snapshot(engine.zero_state(BATCH))
    snapshots = [
        None,
        [],
        {},
        good | {"x": good["h_00"]},
        {name: values for name, values in good.items() if name != "c_01"},
        good | {"h_00": good["h_00"][:, 1:]},
        good | {"h_00": good["h_00"][:1]},
        good | {"h_00": good["h_00"][0]},
        good | {"h_00": good["h_00"].tolist()},
        good | {"h_00": good["h_00"].astype(object)},
        good | {"h_00": good["h_00"].astype(np.int64)},
        {name: values[:0] for name, values in good.items()},
        *(good | {"h_00": good["h_00"] + value} for value in (np.nan, np.inf, 1.01, -2, 1e30)),
        *(good | {"c_01": good["c_01"] + value} for value in (np.nan, -np.inf, 2**25, -1e30)),
    ]
    for wrong in snapshots:
        refuses(engine, lambda _, wrong=wrong: engine.restore(wrong), ContractError)


def test_the_states_that_a_cell_can_reach_are_taken(engine):
    good = engine.snapshot(engine.zero_state(BATCH))
    reached = {name: values + (1 if name[0] == "h" else 40_000) for name, values in good.items()}
    engine.feed(engine.restore(reached), tokens(BATCH, 3))


def overflowing(card):
    """Weights that are numbers, and make none: infinity less infinity in the second layer.

    A GRU has the two in sums of their own, from the second character on; an LSTM adds them up in one, which
    some engines do in an order that never leaves the numbers.
    """
    arrays = random_parameters(card)
    rows = slice(2 * card.hidden, None) if card.cell == "gru" else slice(None)
    arrays["embedding.weight"] = np.zeros_like(arrays["embedding.weight"])
    for name, array in arrays.items():
        if name.startswith("rnn.bias"):
            arrays[name] = np.ones_like(array)
    for name, value in (("rnn.weight_ih_l1", 3e38), ("rnn.weight_hh_l1", -3e38), ("rnn.weight_hh_l0", 0)):
        arrays[name] = arrays[name].copy()
        arrays[name][rows] = value
    return arrays


@pytest.mark.parametrize("make", ENGINES)
def test_nan_ends_a_text_with_a_sentence(make, request, monkeypatch, card_of, tmp_path, bench):
    """Reading, writing with noise that is given, and with noise that is drawn.

    Of a file it takes float16 or a tool's own nodes, since weights that large are refused.
    """
    import torch

    from p2.export import graph
    from p2.export.fold import fold

    for module in (step_weights, graph):
        monkeypatch.setattr(module, "MOST_WEIGHT", np.inf)

    def write_step(card):
        weights = {name: torch.from_numpy(array) for name, array in overflowing(card).items()}
        path = tmp_path / "charlm.onnx"
        path.write_bytes(graph.step_graph(card, fold(card, weights), 21).SerializeToString())
        return path

    def broken(**how):
        made = bench(**how)
        made.trt.model.p["rnn.weight_hh_l1"][...] = np.nan
        return made

    given = {"card_of": card_of, "write_step": write_step, "parameters_of": overflowing, "bench": broken}
    if make == "cuda":
        monkeypatch.setattr(geometry, "STREAMS", (4,))  # and the LSTM, for one compilation that others have
        given["kernels_of"] = request.getfixturevalue("kernels_of")
    elif "plan" not in make:
        given["card_of"] = lambda: card_of("gru")
    engine = ENGINES[make](**given)
    last, address = tokens(BATCH), Address(1, (0, 1), 0)

    def ends(call):
        with pytest.raises(P2Error, match=r"computes NaN or infinity .* no text follows"):
            call(engine.zero_state(BATCH))

    for length in (5, 70):  # whoever reads in another order of sums may find numbers
        with contextlib.suppress(P2Error):
            found = engine.feed(engine.zero_state(BATCH), tokens(BATCH, length), logits=True)
            assert np.isfinite(found).all()
    for sampling in (Sampling(), Sampling(0), Sampling(top_k=3)):
        ends(lambda state, how=sampling: engine.decode(state, last, noise(5, BATCH, VOCAB), how))
        if isinstance(engine, DrawingEngine):
            ends(lambda state, how=sampling: engine.draw(state, last, address, 70, how))


def test_a_device_takes_back_its_own_states_only(bench, card_of, write_step):
    for make in (lambda: bench().engine, lambda: OnnxGpuEngine(open_step(write_step(card_of())), STAND_IN)):
        one, other = make(), make()
        with pytest.raises(UsageError, match="one that this engine made"):
            one.feed(other.zero_state(BATCH), tokens(BATCH, 2))


@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", 2**32, 2**32 + 1])
def test_threads(threads, card_of, write_step):
    step = open_step(write_step(card_of()))
    with pytest.raises(UsageError, match="threads must be"):
        OnnxEngine(step, threads)
    if not native.problem():
        from p2.runtime.native.engine import NativeEngine

        with pytest.raises(UsageError, match="threads must be"):
            NativeEngine(step, threads)


@pytest.mark.parametrize("number", [np.int64(3), np.uint8(3), 3])
def test_numbers_of_numpy_are_numbers(number):
    assert arguments.check_batch(number) == 3
