"""A text for which a model computes NaN ends with a sentence; those beside it are what they are alone."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

import p2
from p2.cli import main
from p2.contract.engine import Draw
from p2.contract.errors import NotFinite, P2Error
from p2.contract.sampling import Sampling
from p2.runtime import native, step_weights
from p2.runtime.decoder import Decoder
from p2.runtime.generate import Request, generate
from p2.runtime.mixed import draw_each
from p2.runtime.streams import write_texts

from ..conftest import VOCABULARY
from ..overflowing import END, overflowing_step

SAID = r"the model computes NaN or infinity \(.*\), so no text follows"
BACKENDS = ["onnxruntime-cpu", "native"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    made = tmp_path_factory.mktemp("model") / "charlm.onnx"
    made.write_bytes(overflowing_step())
    return made


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    if request.param == "native" and native.problem():
        pytest.skip("no compiled decoder here")
    monkeypatch.setattr(step_weights, "MOST_WEIGHT", np.inf)
    return request.param


@pytest.fixture
def model(path, backend):
    with p2.load(path, backend=backend, threads=1) as opened:
        yield opened


def alone(model, request, text):
    """The text, or None and the sentence."""
    try:
        one = replace(request, prompt=text.prompt, first_stream=text.stream, num_samples=1)
        return "".join(generate(model.engine, one)), ""
    except NotFinite as error:
        return None, str(error)


@pytest.mark.parametrize("sampling", [Sampling(0.9), Sampling(1.3, top_k=20)], ids=str)
@pytest.mark.parametrize("prompts", [["a fox"] * 9, ["a fox", "a z", "ozone", "", "the quick", "zebra", "m"]])
def test_the_others_of_a_group_are_what_they_are_alone(prompts, sampling, model):
    """It is met in a prompt, or written."""
    request, found = Request(length=70, seed=3, num_samples=2, sampling=sampling, stop=("qq",)), []
    with pytest.raises(NotFinite, match=rf"^\d+ of {2 * len(prompts)} texts: {SAID}"):
        for text in write_texts(model.engine, request, prompts):
            found.append(text)  # noqa: PERF402 - those that came before the error
    assert len(found) == 2 * len(prompts)
    for text in found:
        expected, problem = alone(model, request, text)
        assert text.error == problem
        assert text.text == expected or problem
        whole = text.prompt + text.text
        assert text.error or whole[0] == END or END not in whole[:-1]
        assert len(text.text) == 70 or text.error or text.stopped
    assert 0 < sum(bool(text.error) for text in found) < len(found)


def test_a_text_alone_ends(model):
    """However it is written: whole, piece by piece, going on from a prompt."""
    with pytest.raises(NotFinite, match=SAID):
        model.generate("the fox", length=2000, seed=1)
    pieces, shown = model.stream("the fox", length=2000, seed=1), ""
    with pytest.raises(NotFinite, match=SAID):
        for piece in pieces:
            shown += piece
    assert END not in shown
    state = model.state("the fox")
    state.read("oz")
    for _ in range(2):
        with pytest.raises(NotFinite, match=SAID):
            state.write(3)
    with pytest.raises(P2Error):
        model.state().restore(state.snapshot())


def tokens(text: str) -> np.ndarray:
    return np.array([VOCABULARY.index(one) for one in text], np.int64)


def test_rows_that_go_on_are_still_named(model):
    decoder = Decoder(model.engine, Sampling(), 0, (0, 1, 2))
    decoder.begin([tokens(text) for text in ("oz", "az", "fox")])
    with pytest.raises(NotFinite) as caught:
        decoder.write(1)
    assert caught.value.rows == (0, 1)
    decoder.keep([2, 0])
    with pytest.raises(NotFinite) as caught:
        decoder.write(4)
    assert caught.value.rows == (1,)
    expected = Decoder(model.engine, Sampling(), 0, (2,))
    expected.begin([tokens("fox")])
    assert caught.value.result.shape == (2, 4)
    assert caught.value.result[0].tolist() == expected.write(5)[0, 1:].tolist()
    decoder.keep([1])
    with pytest.raises(NotFinite):
        decoder.write(1)


@pytest.mark.parametrize("filters", [(0, 0), (0, 5), (5, 7)])
def test_texts_of_several_settings_side_by_side(filters, model):
    """As a server writes them."""
    engine, begun = model.engine, ("of", "oz", "ox", "oz", "om")
    draws = [Draw(row, row, 0, Sampling(1, top_k=filters[row % 2])) for row in range(5)]

    def written(rows):
        state = engine.zero_state(len(rows))
        engine.feed(state, np.stack([tokens(begun[row])[:1] for row in rows]))
        last = np.array([tokens(begun[row])[1] for row in rows])
        try:
            found, after = draw_each(engine, state, last, [draws[row] for row in rows], 2)
        except NotFinite as error:
            found, after = error.result
            lost.append(error.rows)
        return found, engine.snapshot(after)

    lost = []
    found, states = written([*range(5)])
    for row in (0, 2, 4):
        own, state = written([row])
        assert own[0].tolist() == found[row].tolist()
        assert all(np.array_equal(values[0], states[name][row]) for name, values in state.items())
    assert lost == [(1, 3)]


def test_what_p2_generate_says(path, backend, capsys, tmp_path):
    words = ["generate", "--engine", str(path), "--backend", backend, "--threads", "1", "--seed", "1"]
    assert main([*words, "--prompt", "the fox", "--length", "2000"]) == 1
    told = capsys.readouterr()
    assert "p2: the model computes NaN" in told.err
    assert END not in told.out
    few = ["--length", "40", "--num-samples", "8"]
    assert main([*words, "--json", *few]) == 1
    samples = json.loads(capsys.readouterr().out)["samples"]
    assert len(samples) == 8
    assert 0 < sum("error" in sample for sample in samples) < 8
    assert all(len(sample["text"]) == 40 or "NaN" in sample["error"] for sample in samples)
    (tmp_path / "prompts").write_text("fox\noz\ndog\n")
    assert main([*words, "--prompts", str(tmp_path / "prompts"), "--length", "1"]) == 1
    told = capsys.readouterr()
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert ["error" in line for line in lines] == [False, True, False]
    assert "p2: 1 of 3 texts: the model computes NaN" in told.err
