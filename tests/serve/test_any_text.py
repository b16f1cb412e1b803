"""Any Unicode, character for character: training, files, engines, commands, servers, a page."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest

import p2
from p2.cli import main
from p2.contract.codec import Codec
from p2.contract.noise import first_tokens, gumbel
from p2.contract.sampling import Sampling
from p2.runtime.opening import usable_backends
from p2.serve.app import create_app
from p2.serve.settings import Settings
from p2.serve.verbatim import Verbatim
from p2.trainer import checkpoint
from p2.trainer.eager import open_checkpoint
from p2.trainer.record import Record

from ..browsing import until
from .conftest import Running, run_server

# What programs trip over: controls, all that somebody takes for the end of a line, what joins or turns or
# modifies its neighbours, halves of what is one for a reader, beyond 16 bits, no character for ever.
AWKWARD = (
    "\t\n\x0b\x0c\x1c\x1d\x1e\x1f \x7f\x85\xa0\u2028\u2029\ufeff\u0000\r"
    "\u0301\u0308\u0323\u200b\u200c\u200d\u2060\ufe0e\ufe0f\u20e3"
    "\u200e\u200f\u202a\u202e\u2066\u2069\u05e9\u05b8\u05dc\u0627\u0651\u0644"
    "\U0001f469\U0001f3fd\U0001f4bb\U0001f1e6\U0001f1f9\U0001f468\U000e0067\U000e007f\u2764"
    "\uac00\u1100\u1161\u0e33\u0928\u093f\ud7ff\ue000\ufffd\uffff\U00010000\U0010ffff\"\\'<&]\u2019"
)
CHARACTERS = 5000
LENGTH, SEED = 600, 11

# A text with these is refused, or they are line ends and become LF: a model has them in another way.
RENAMED = {"\x01": "\0", "\x0e": "\r"}


@pytest.fixture(scope="module")
def text() -> str:
    """What is trained on: all characters, in all kinds of neighbourhood."""
    rng = np.random.default_rng(0)
    known = sorted({*AWKWARD} - {*RENAMED.values()} | {*RENAMED})
    others = [chr(point) for point in range(0x4E00, 0x4E00 + CHARACTERS - len(known))]
    drawn = rng.choice(known, 6000).tolist() + others
    rng.shuffle(drawn)
    return "a" + "".join(drawn) + "a"


@pytest.fixture(scope="module")
def run(text, tmp_path_factory) -> Path:
    """A checkpoint of a model that was trained on it, and its engine, as ``charlm.onnx`` and for Triton."""
    folder = tmp_path_factory.mktemp("any")
    (folder / "text.txt").write_bytes(text.encode())
    sizes = {"hidden": 8, "embedding": 8, "batch_size": 16, "seq_len": 16, "steps": 30, "lr": 0.05}
    p2.train(folder / "text.txt", out=folder / "trained", **sizes)
    found = checkpoint.load(folder / "trained")
    assert found.card.vocabulary == "".join(sorted(set(text)))
    vocabulary = found.card.vocabulary.translate(str.maketrans(RENAMED))
    card = found.card.with_(vocabulary=vocabulary)
    checkpoint.save(folder / "charlm", card, found.model_state, Record({}, {}, {}))
    p2.export(folder / "charlm", out=folder / "charlm.onnx", engine="none", triton=folder / "models")
    return folder


@pytest.fixture(scope="module")
def wanted(run) -> str:
    """The text of `SEED`, as PyTorch and the definition write it."""
    engine = open_checkpoint(run / "charlm")
    vocabulary = engine.card.vocabulary
    first = first_tokens(SEED, [0], len(vocabulary))
    noise = gumbel(SEED, [0], 1, LENGTH - 1, len(vocabulary))
    rest = engine.decode(engine.zero_state(1), first, noise, Sampling())[0]
    written = "".join(vocabulary[token] for token in [*first, *rest])
    assert len({*written} & {*AWKWARD}) > 60  # it does write them
    return written


@pytest.fixture(scope="module")
def model(run) -> Iterator[p2.Model]:
    with p2.load(run / "charlm.onnx") as opened:
        yield opened


def test_every_engine_and_every_way_to_a_text(run, wanted):
    ways = [(run / "charlm", None), *((run / "charlm.onnx", b) for b in usable_backends(run / "charlm.onnx"))]
    for path, backend in ways:
        with p2.load(path, backend=backend) as model:
            assert model.generate(length=LENGTH, seed=SEED) == wanted
            assert "".join(model.stream(length=LENGTH, seed=SEED)) == wanted
            assert [one.text for one in model.texts(length=LENGTH, seed=SEED)] == [wanted]
            stop = wanted[100:103]
            assert model.generate(length=LENGTH, seed=SEED, stop=[stop]) == wanted[: wanted.index(stop)]
            assert np.isfinite(model.logprobs(AWKWARD)).all()


def test_the_command(run, model, capsys):
    """As bytes, as JSON and as JSON Lines; no argument of a program can hold a NUL."""
    prompt = AWKWARD.replace("\0", "")
    text = model.generate(prompt, length=LENGTH, seed=SEED)
    options = ["--engine", str(run / "charlm.onnx"), "--seed", str(SEED), "--length", str(LENGTH)]
    command = [sys.executable, "-m", "p2.cli", "generate", *options, "--prompt", prompt]
    shown = subprocess.run(command, capture_output=True, check=True).stdout
    assert shown.removesuffix(b"\n") == (prompt + text).encode().removesuffix(b"\n")
    assert main(["generate", *options, "--prompt", prompt, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["prompt"], answer["samples"][0]["text"]) == (prompt, text)
    assert main(["generate", *options, "--prompt", prompt, "--jsonl"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["prompt"], json.loads(line)["text"]) == (prompt, text)


@pytest.fixture(scope="module")
def served(model, text) -> Iterator[Running]:
    app = create_app({"charlm": model.engine}, Settings(), source=Verbatim([text]), log=False)
    with run_server(app) as running:
        yield running


def test_the_server(served, model, wanted):
    """In one piece and in many: no character is cut, no line of the stream ends early."""
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="none", max_retries=0) as client:
        for prompt in ("", AWKWARD):
            text = model.generate(prompt, length=LENGTH, seed=SEED)
            asked = {"model": "charlm", "prompt": prompt, "max_tokens": LENGTH, "seed": SEED}
            assert client.completions.create(**asked).choices[0].text == text
            pieces = [chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)]
            assert "".join(pieces) == text
            assert len(pieces) > 1
            answer = client.completions.create(**asked, echo=True, logprobs=1).choices[0]
            assert answer.text == prompt + text
            assert "".join(answer.logprobs.tokens) == prompt + text
    tokens = Codec(model.card.vocabulary).encode(AWKWARD).tolist()
    assert served.texts(prompt=tokens, max_tokens=LENGTH, seed=SEED) == [text]
    assert served.ask(prompt="", max_tokens=LENGTH, seed=SEED, stop=wanted[50]).content.isascii()


def test_triton(run, wanted, model, monkeypatch):
    pytest.importorskip("tritonclient.grpc", reason="tritonclient[grpc] is not installed")
    from ..export.triton.simulator import BackendRequest, load_model, python_backend

    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", python_backend())
    loaded = load_model(run / "models" / "charlm")
    numbers = {"length": np.array([LENGTH], np.int32), "seed": np.array([SEED], np.uint64)}
    try:
        for prompt in ("", AWKWARD):
            request = BackendRequest({"prompt": np.array([prompt.encode()], object), **numbers})
            loaded.execute([request])
            assert request.sender.text() == model.generate(prompt, length=LENGTH, seed=SEED)
    finally:
        loaded.finalize()


def test_the_page(browser, served, model):
    """A field for a text has no CR, says HTML; a program that is copied has the very prompt."""
    browser.get(served.url)
    until(browser, "document.querySelectorAll('#models input').length === 1")
    prompt = AWKWARD.replace("\r", "")
    for name, value in (("prompt", prompt), ("length", str(LENGTH)), ("seed", str(SEED))):
        browser.execute_script("document.getElementById(arguments[0]).value = arguments[1]", name, value)
    browser.execute_script("calls(); document.getElementById('form').requestSubmit()")
    until(browser, "document.getElementById('said').textContent === 'Done.'")
    shown = browser.execute_script("return document.querySelector('.text').textContent")
    assert shown == prompt + model.generate(prompt, length=LENGTH, seed=SEED)
    code = browser.execute_script("return document.querySelectorAll('#calls pre')[1].textContent")
    given = [one.value for one in ast.walk(ast.parse(code)) if isinstance(one, ast.Constant)]
    assert prompt in given
