"""Texts of different seeds, positions and settings side by side: each is what it is alone."""

from __future__ import annotations

import numpy as np
import pytest

from p2.contract.engine import Draw, MixedEngine, PromptedEngine
from p2.contract.errors import UsageError
from p2.contract.sampling import Sampling
from p2.runtime import native
from p2.runtime.decoder import Decoder
from p2.runtime.mixed import draw_each
from p2.runtime.onnxruntime.engine import OnnxEngine
from p2.runtime.step_file import open_step

PLAIN = [Sampling(), Sampling(0.5), Sampling(0.0)]
FILTERED = [Sampling(0.7, 3), Sampling(1.0, 0, 0.8), Sampling(2.0, 9, 0.9, 0.01), Sampling(0.7, 3)]


def _native(step, threads):
    if native.problem():
        pytest.skip(native.problem())
    from p2.runtime.native.engine import NativeEngine

    return NativeEngine(step, threads)


class DrawingOnly:
    """The compiled decoder as an engine that draws, and does not mix."""

    def __init__(self, engine):
        self._engine = engine
        self.card, self.name = engine.card, engine.name
        self.zero_state, self.feed, self.decode = engine.zero_state, engine.feed, engine.decode
        self.snapshot, self.restore, self.close, self.draw = (
            engine.snapshot,
            engine.restore,
            engine.close,
            engine.draw,
        )


KINDS = {
    "mixes": _native,
    "draws": lambda step, threads: DrawingOnly(_native(step, threads)),
    "decodes": lambda step, threads: OnnxEngine(step, threads),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("settings", [PLAIN, FILTERED, [*PLAIN, *FILTERED], [Sampling(0.8)]])
@pytest.mark.parametrize("kind", KINDS)
def test_each_text_is_what_it_is_alone(kind, settings, threads, card_of, write_step):
    engine = KINDS[kind](open_step(write_step(card_of("gru"))), threads)
    assert isinstance(engine, MixedEngine) == (kind == "mixes")
    rng = np.random.default_rng(len(settings))
    prompts = rng.integers(0, engine.card.vocab, (len(settings), 5))
    draws = [Draw(int(rng.integers(-9, 9)), 3 * row, 100 * row, one) for row, one in enumerate(settings)]
    state = engine.zero_state(len(draws))
    engine.feed(state, prompts[:, :-1])
    last = prompts[:, -1].copy()
    found = []
    for count in (3, 17, 1):
        tokens, state = draw_each(engine, state, last, draws, count)
        last = np.ascontiguousarray(tokens[:, -1])
        draws = [one._replace(position=one.position + count) for one in draws]
        found.append(tokens)
    for row, one in enumerate(draws):
        alone = Decoder(engine, one.sampling, one.seed, [one.stream])
        alone.begin([prompts[row]])
        alone.position = 100 * row
        assert np.concatenate(found, axis=1)[row].tolist() == alone.write(21)[0].tolist()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("lengths", [[4], [0, 1, 7, 12, 5], [30, 12, 0]])
@pytest.mark.parametrize("settings", [[Sampling()], [*PLAIN, *FILTERED]])
def test_prompts_that_end_in_the_middle_of_a_chunk(settings, lengths, threads, card_of, write_step):
    """A text after tokens that are known is the one that a prompt with these begins."""
    engine = _native(open_step(write_step(card_of("lstm"))), threads)
    assert isinstance(engine, PromptedEngine)
    rng = np.random.default_rng(len(lengths))
    prompts = [rng.integers(0, engine.card.vocab, 1 + length) for length in lengths]
    samplings = [settings[row % len(settings)] for row in range(len(lengths))]
    read, written, found = [0] * len(lengths), [0] * len(lengths), [[] for _ in lengths]
    state, last = engine.zero_state(len(lengths)), np.array([prompt[0] for prompt in prompts])
    for count in (1, 12, 3, 20):
        known = [prompt[1 + at : 1 + at + count] for prompt, at in zip(prompts, read, strict=True)]
        draws = [Draw(5, row, 100 + written[row], one) for row, one in enumerate(samplings)]
        tokens = engine.write_each(state, last, known, draws, count)
        last = np.ascontiguousarray(tokens[:, -1])
        for row, ahead in enumerate(known):
            assert tokens[row, : len(ahead)].tolist() == ahead.tolist()
            read[row] += len(ahead)
            written[row] += count - len(ahead)
            found[row] += tokens[row, len(ahead) :].tolist()
    for row, one in enumerate(samplings):
        alone = Decoder(engine, one, 5, [row])
        alone.begin([prompts[row]])
        alone.position = 100
        assert found[row] == alone.write(written[row])[0].tolist()


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (7, "a sequence of known tokens, not int"),
        ([], "for each of 2 texts, and there are 0"),
        ([np.zeros(2, np.int32)] * 2, "known tokens must be int64"),
        ([np.zeros((1, 2), np.int64)] * 2, "known tokens must be int64"),
        ([np.full(2, 99)] * 2, "outside the vocabulary"),
        ([np.zeros(5, np.int64)] * 2, "of 4 tokens of a text 5 cannot be known"),
    ],
)
def test_known_tokens_that_do_not_fit_are_refused(known, said, card_of, write_step):
    engine = _native(open_step(write_step(card_of())), 1)
    state = engine.zero_state(2)
    with pytest.raises(UsageError, match=said):
        engine.write_each(state, np.zeros(2, np.int64), known, [Draw(1, 0, 0, Sampling())] * 2, 4)
    assert not any(array.any() for array in state.values())


@pytest.mark.parametrize(
    ("draws", "said"),
    [
        ([], "a Draw for each of 2 texts, and there are 0"),
        (7, "a sequence of Draw, not int"),
        ([(1, 0, 0, Sampling())] * 2, "a sequence of Draw, not list"),
        ([Draw(1, -1, 0, Sampling())] * 2, "a stream must be 0 or more"),
        ([Draw(1, 0, 1 << 64, Sampling())] * 2, "position must be 0 to"),
        ([Draw(1, 0, 0, None)] * 2, "sampling must be a Sampling"),
    ],
)
def test_what_does_not_fit_is_refused(draws, said, card_of, write_step):
    engine = _native(open_step(write_step(card_of())), 1)
    state = engine.zero_state(2)
    with pytest.raises(UsageError, match=said):
        engine.draw_each(state, np.zeros(2, np.int64), draws, 4)
    assert not any(array.any() for array in state.values())
