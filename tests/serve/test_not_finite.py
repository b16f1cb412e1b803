"""A text for which a model computes NaN ends with a sentence; those beside it are what they are alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import p2
from p2.contract.errors import NotFinite
from p2.runtime import native, step_weights
from p2.serve.app import create_app
from p2.serve.settings import Settings

from ..overflowing import overflowing_step
from .conftest import run_server

PROMPTS = ["a fox", "ozone and more of it", "the quick", "az", "m"]


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "native"])
@pytest.mark.parametrize("logprobs", [None, 1])
def test_the_others_of_a_batch_are_what_they_are_alone(backend, logprobs, tmp_path, monkeypatch):
    """It is met in a prompt, or written."""
    if backend == "native" and native.problem():
        pytest.skip(native.problem())
    monkeypatch.setattr(step_weights, "MOST_WEIGHT", np.inf)
    path = tmp_path / "charlm.onnx"
    path.write_bytes(overflowing_step())
    with (
        p2.load(path, backend=backend, threads=1) as alone,
        p2.load(path, backend=backend, threads=1) as model,
        run_server(create_app({"m": model.engine}, Settings(), log=False)) as running,
    ):

        def ask(prompt: str, seed: int) -> tuple[int, str]:
            answer = running.ask(prompt=prompt, max_tokens=60, seed=seed, logprobs=logprobs)
            found = answer.json()
            return answer.status_code, (
                found["choices"][0]["text"] if "choices" in found else found["error"]["message"]
            )

        asked = [(prompt, seed) for seed in range(6) for prompt in PROMPTS]
        with ThreadPoolExecutor(len(asked)) as clients:
            found = list(clients.map(ask, *zip(*asked, strict=True)))
        for (prompt, seed), (status, said) in zip(asked, found, strict=True):
            try:
                expected = 200, alone.generate(prompt, length=60, seed=seed)
            except NotFinite as error:
                expected = 500, str(error)
            assert (status, said) == expected
        assert {status for status, _ in found} == {200, 500}
