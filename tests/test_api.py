"""The Python API: what the documentation promises, on a tiny model, beside the commands and numpy."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import p2
from p2.cli import main

from .conftest import NumpyModel, make_card, random_parameters, step_bytes

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 8
SETTINGS = {"length": 60, "tau": 2.0, "seed": 7}


@pytest.fixture(scope="module")
def card():
    return make_card(hidden=16)


@pytest.fixture(scope="module")
def onnx(tmp_path_factory, card) -> Path:
    path = tmp_path_factory.mktemp("api") / "tiny.onnx"
    path.write_bytes(step_bytes(card))
    return path


@pytest.fixture(scope="module")
def model(onnx):
    with p2.load(onnx) as opened:
        yield opened


def test_the_promise_is_kept():
    for name in p2.__all__:
        assert getattr(p2, name) is not None
        assert name in dir(p2)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = p2.nothing_like_it


def test_generate_is_what_the_command_writes(model, onnx, capsys):
    written = model.generate("the ", **SETTINGS)
    assert (
        main(
            [
                "generate",
                "--engine",
                str(onnx),
                "--prompt",
                "the ",
                "--length",
                "60",
                *["--tau", "2", "--seed", "7"],
            ]
        )
        == 0
    )
    assert capsys.readouterr().out.removesuffix("\n") == "the " + written.removesuffix("\n")
    assert "".join(model.stream("the ", **SETTINGS)) == written
    assert len(written) == 60


def test_many_texts_are_what_the_command_writes(model, onnx, capsys, tmp_path):
    prompts = ["the ", "", "fox"]
    (tmp_path / "prompts.txt").write_text("".join(line + "\n" for line in prompts))
    argv = [
        "generate",
        "--engine",
        str(onnx),
        "--prompts",
        str(tmp_path / "prompts.txt"),
        "--num-samples",
        "2",
    ]
    assert main([*argv, "--length", "20", "--seed", "3"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    texts = list(model.texts(prompts, num_samples=2, length=20, seed=3))
    assert [(t.prompt_index, t.sample, t.stream, t.text) for t in texts] == [
        (line["prompt_index"], line["sample"], line["stream"], line["text"]) for line in lines
    ]


def test_logprobs_are_those_of_the_equations(model, card):
    text = "the lazy dog jumps"
    logits = NumpyModel(card, random_parameters(card)).run(
        np.array([[card.vocabulary.index(character) for character in text]])
    )[0]
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    targets = [card.vocabulary.index(character) for character in text[1:]]
    by_hand = expected[np.arange(len(targets)), targets]
    found = model.logprobs(text)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand, atol=1e-4)
    assert model.bits_per_character(text) == pytest.approx(-by_hand.mean() / np.log(2), abs=1e-4)
    state = model.state(text)
    np.testing.assert_allclose(state.logprobs(), expected[-1], atol=1e-4)


def test_a_state_goes_on_from_a_snapshot(model, onnx):
    whole = model.generate("the ", **SETTINGS)
    state = model.state("the ", seed=7, tau=2.0)
    first = state.write(25)
    kept = state.snapshot()
    rest = state.write(35)
    assert first + rest == whole
    with p2.load(onnx, backend="onnxruntime-cpu") as other:
        assert other.state(seed=7, tau=2.0).restore(kept).write(35) == rest


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda m: m.generate("é"), "does not know the character"),
        (lambda m: m.generate(tau=2, temperature=1), "give one of"),
        (lambda m: m.generate(num_samples=2), "texts"),
        (lambda m: m.texts("one"), "list of prompts"),
        (lambda m: m.bits_per_character("a"), "two characters"),
        (lambda m: m.state().logprobs(), "nothing to predict from"),
        (lambda m: m.state().restore({}), "has the keys state, last and position"),
        (lambda m: m.state().restore(m.state("the ").snapshot() | {"last": np.array([99])}), "token"),
        (lambda m: m.state().restore(m.state("the ").snapshot() | {"position": -1}), "position"),
    ],
)
def test_bad_values_get_a_sentence(model, call, sentence):
    with pytest.raises(p2.UsageError, match=sentence):
        call(model)


def test_train_export_parity_and_load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("fox.txt").write_text(TEXT)
    result = p2.train(
        "fox.txt", hidden=8, embedding=4, layers=1, seq_len=8, batch_size=4, steps=3, out="artifacts/fox"
    )
    assert result.record.step == 3
    made = p2.export("artifacts/fox", precision="float16", engine="none")
    assert made.onnx == Path("artifacts/fox/fox.onnx")
    outcome = p2.parity(checkpoint="artifacts/fox", steps=20, characters=20)
    assert outcome.results
    assert not any(engine.failures for engine in outcome.results)
    with p2.load("fox.onnx") as model, p2.load("artifacts/fox") as eager:
        assert model.card.precision == "float16"
        assert len(model.generate(length=10, seed=1)) == len(eager.generate(length=10, seed=1)) == 10
    with pytest.raises(p2.UsageError, match="no option 'hiden'"):
        p2.train("fox.txt", hiden=8)
    from p2.export.exporter import export_checkpoint  # the room behind the function is still there

    assert callable(export_checkpoint)


def test_export_takes_options_as_the_command_and_as_python(tmp_path):
    from p2.export.exporter import named

    as_text = named({"batch": "1,8,64", "target": "sm89,sm120", "out": "a.onnx", "engine": None})
    as_python = named({"batch": (1, 8, 64), "target": ["sm89", "sm120"], "out": Path("a.onnx")})
    assert as_text == as_python
    assert as_text == {"batch": (1, 8, 64), "targets": ("sm89", "sm120"), "out": Path("a.onnx")}
    assert named({"batch": 4, "version_compatible": False}) == {"batch": (4, 4, 4)}


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: p2.export(precison="int8"), "no option 'precison': choose from batch, "),
        (lambda: p2.export(say=print), "no option 'say'"),
        (lambda: p2.export(precision="int3"), "unknown precision 'int3'"),
        (lambda: p2.export(batch=(4, 2, 1)), "1 <= min <= opt <= max"),
        (lambda: p2.export(batch=(1, 8, 64), engine="none"), "--batch: for a .plan"),
        (lambda: p2.train(keep_at_accuracy="0.5,x"), "takes numbers with commas"),
        (lambda: p2.load("absent.onnx", threads=257), "threads must be 1 to 256, not 257"),
    ],
)
def test_bad_options_get_a_sentence_before_any_work(call, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(p2.UsageError, match=sentence):
        call()
    assert not list(tmp_path.iterdir())


def test_quiet_shows_nothing_and_loud_what_the_command_shows(tiny_run, tmp_path, capsys):
    out = tmp_path / "new.onnx"
    p2.export(tiny_run, out=out, engine="none")
    assert capsys.readouterr() == ("", "")
    p2.export(tiny_run, out=out, engine="none", quiet=False)
    said = capsys.readouterr()
    assert main(["export", str(tiny_run), "--out", str(out), "--engine", "none"]) == 0
    command = capsys.readouterr()
    assert said.err == command.err
    assert said.out
    assert command.out.startswith(said.out)


def test_loading_and_writing_need_no_torch(onnx):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "import p2; before = set(sys.modules)\n"
        "assert not {'numpy', 'rich', 'typer'} & before\n"
        "model = p2.load(sys.argv[1]); print(model.generate('the ', length=5, seed=1))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(onnx)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
