"""Every contender that can run here, held to the same texts as a float64 reference in numpy."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from p2.bench.contender import Model, Running
from p2.bench.contenders import cuda, torch_cell
from p2.bench.contenders.registry import by_key, contenders, prepare
from p2.contract.errors import UsageError
from p2.contract.noise import first_tokens, gumbel
from p2.runtime.processor import processors

from .reference import CELLS, GRAPH, drawn, followed, save_checkpoint

EXACT = [
    "p2-float32",
    "p2-onnxruntime-float32",
    "torch-eager",
    "torch-cell",
    "ort-operator",
    "openvino",
    "openvino-operator",
    GRAPH,
]
# Those that take their noise from `contract.noise`, so that a seed means the same text to all.
SAME_SEED = ["p2-float32", "p2-onnxruntime-float32", "ort-operator", "openvino", "openvino-operator"]


def pairs(keys: list[str]) -> list[object]:
    return [
        pytest.param(key, cell, reset, id=f"{key}-{cell}-{reset}")
        for key in keys
        for cell, reset in CELLS
        if (key, reset) != ("torch-eager", "before")
    ]


@pytest.mark.parametrize(("key", "cell", "reset"), pairs(EXACT))
def test_given_noise_gives_the_reference_text(key, cell, reset, load, card_of, numpy_model):
    card = card_of(cell, reset)
    first, noise = drawn(card, 40)  # more than one captured graph, and a remainder
    running = load(key, card)
    text = running.follow(first, noise)
    assert text.dtype == np.int64
    assert text.tolist() == followed(numpy_model(card), first, noise).tolist()
    assert running.follow(first[:1], noise[:0, :1]).shape == (1, 0)


@pytest.mark.parametrize(("key", "cell", "reset"), pairs(EXACT))
def test_logits_are_those_of_the_reference(key, cell, reset, load, card_of, numpy_model):
    card = card_of(cell, reset)
    tokens = np.random.default_rng(1).integers(card.vocab, size=(2, 12))
    logits = load(key, card).logits(tokens)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, numpy_model(card).run(tokens), rtol=0, atol=1e-4)


@pytest.mark.parametrize("key", EXACT)
@pytest.mark.parametrize("batch", [1, 3])
def test_writing_goes_on_across_calls(key, batch, load, card_of):
    card = card_of("lstm", layers=1)
    running = load(key, card)
    running.start(batch, 5)
    pieces = [running.write(3), running.write(0), running.write(40)]
    assert [piece.shape for piece in pieces] == [(batch, 3), (batch, 0), (batch, 40)]
    text = np.concatenate(pieces, axis=1)
    assert text.dtype == np.int64
    assert (text >= 0).all()
    assert (text < card.vocab).all()
    running.start(batch, 5)
    assert running.write(3).tolist() == pieces[0].tolist()  # the seed decides
    running.start(batch, 6)
    assert np.concatenate([running.write(3), running.write(40)], axis=1).tolist() != text.tolist()


@pytest.mark.parametrize("key", SAME_SEED)
def test_a_seed_gives_the_text_of_the_noise_stream(key, load, card_of, numpy_model):
    card = card_of("gru")
    running = load(key, card)
    running.start(2, 9)
    text = np.concatenate([running.write(3), running.write(4)], axis=1)
    first = first_tokens(9, range(2), card.vocab)
    expected = followed(numpy_model(card), first, gumbel(9, range(2), 1, 7, card.vocab))
    assert text.tolist() == expected.tolist()
    running.start(2, 9)
    assert running.write(7).tolist() == expected.tolist()


@pytest.mark.parametrize("key", EXACT)
def test_reading_leaves_the_text_being_written_alone(key, load, card_of):
    card = card_of("rnn", layers=1)
    running = load(key, card)
    running.start(2, 3)
    expected = running.write(6)
    running.start(2, 3)
    begun = running.write(2)
    running.read(np.random.default_rng(2).integers(card.vocab, size=(1, 50)))
    assert np.concatenate([begun, running.write(4)], axis=1).tolist() == expected.tolist()


@pytest.mark.parametrize("key", ["torch-eager", "torch-cell", GRAPH])
def test_own_random_numbers_draw_from_the_softmax(key, tmp_path, card_of, parameters_of):
    card = card_of("lstm", layers=1)
    weights = np.random.default_rng(0).dirichlet(np.ones(card.vocab))
    parameters = {name: np.zeros_like(array) for name, array in parameters_of(card).items()}
    parameters["output.bias"] = np.log(weights).astype(np.float32)  # whatever was read before
    model = Model("biased", save_checkpoint(tmp_path, card, parameters), tmp_path, {})
    if key == GRAPH:
        advance = torch_cell.folded_cell(model)
        running: Running = cuda.GraphRunning(card, 1, advance, "cpu", lambda body: body)
    else:
        running = by_key(key).load(model, 1)
    running.start(64, 0)
    counts = np.bincount(running.write(150).ravel(), minlength=card.vocab)
    total = counts.sum()
    deviation = np.sqrt(total * weights * (1 - weights))
    assert (abs(counts - total * weights) < 5 * deviation + 1).all()


@pytest.mark.slow
@pytest.mark.parametrize(("cell", "reset"), [("lstm", "after"), ("gru", "after")])
def test_compiled_step(cell, reset, load, card_of, numpy_model):
    card = card_of(cell, reset)
    running = load("torch-compile", card)
    first, noise = drawn(card, 20, batch=1)
    assert running.follow(first, noise).tolist() == followed(numpy_model(card), first, noise).tolist()
    logits = running.logits(first[None])
    np.testing.assert_allclose(logits, numpy_model(card).run(first[None]), rtol=0, atol=1e-4)
    running.start(1, 4)
    text = running.write(5)
    running.start(1, 4)
    assert np.concatenate([running.write(2), running.write(3)], axis=1).tolist() == text.tolist()


@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [("float16", 1e-6, 0.02), ("int8", 1e-4, 0.1), ("int4", 1e-2, 2.0)],
)
def test_p2_loads_the_precision_that_it_is_named_after(precision, least, most, load, card_of, numpy_model):
    card = card_of("lstm")
    tokens = np.random.default_rng(1).integers(card.vocab, size=(2, 12))
    error = abs(load(f"p2-{precision}", card).logits(tokens) - numpy_model(card).run(tokens)).max()
    assert least < error < most


def test_a_precision_that_was_not_exported_is_named(model_of, card_of):
    with pytest.raises(UsageError, match="lstm was not exported in int4"):
        by_key("p2-int4").load(model_of(card_of()), None)


@pytest.mark.parametrize("key", ["p2-float32", "ort-operator", "openvino", "openvino-operator"])
def test_contenders_without_torch_do_not_load_it(key, model_of, card_of):
    model = model_of(card_of())
    if reason := by_key(key).missing(model.card):
        pytest.skip(reason)
    prepare(model)
    card, paths = json.dumps(model.card.to_dict()), [str(model.checkpoint), str(model.steps["float32"])]
    code = (
        "import sys, json\nfrom pathlib import Path\n"
        "from p2.bench.contender import Model\nfrom p2.contract.card import Card\n"
        "from p2.bench.contenders.registry import by_key\n"
        f"checkpoint, step = map(Path, {paths!r})\ncard = Card.from_dict(json.loads({card!r}), '')\n"
        f"running = by_key({key!r}).load(Model('m', card, checkpoint, {{'float32': step}}), 1)\n"
        "running.start(1, 0)\nassert running.write(3).shape == (1, 3)\n"
        "print('torch' in sys.modules, running.threads)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False 1\n"), done.stderr


def test_threads_are_as_asked(load, card_of):
    import torch

    before = torch.get_num_threads()
    try:
        for key in ("torch-eager", "ort-operator", "openvino", "p2-float32"):
            if by_key(key).missing(card_of()) is None:
                assert load(key, card_of(), 1).threads == 1
        assert load("ort-operator", card_of(), None).threads == processors()
        if by_key("openvino").missing(card_of()) is None:
            assert load("openvino", card_of(), None).threads >= 1
    finally:
        torch.set_num_threads(before)


def test_registry_lists_each_once():
    listed = contenders()
    keys = [contender.key for contender in listed]
    assert len(set(keys)) == len(keys)
    assert keys[:6] == [f"p2-{p}" for p in ("float32", "float16", "bfloat16", "float8", "int8", "int4")]
    titles = {(contender.title, contender.device) for contender in listed}
    assert len(titles) == len(listed)
    assert {contender.group for contender in listed} == {"p2", "peer", "variant"}
    assert {contender.device for contender in listed} == {"cpu", "cuda"}
    with pytest.raises(UsageError, match="unknown contender 'fast': choose from p2-float32, "):
        by_key("fast")
