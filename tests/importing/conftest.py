"""Sources written without p2 in mind, and what they write by themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import p2
from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling, scale_noise, write

CHARACTERS = "zyx wvutsrq\nponmlkjihgfedcba.,é"  # in no order
V = len(CHARACTERS)


@pytest.fixture
def vocab(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.json"
    path.write_text(json.dumps(list(CHARACTERS)))
    return path


@pytest.fixture
def writes_the_same(tmp_path: Path, vocab: Path) -> Callable[..., object]:
    """Import, export if asked for, and write beside the source: greedily and with noise.

    ``logits`` gives a source's logits ``[time, V]`` for all of its tokens so far, as its own framework does.
    """

    def check(source: Path, logits: Callable, export: bool = False, **options: object) -> object:
        made = p2.import_model(source, vocab=vocab, out=tmp_path / "out", **options)
        assert made.difference < 1e-4
        engine = made.folder
        if export:
            engine = p2.export(made.folder, engine="none").onnx
        order = np.argsort([ord(c) for c in CHARACTERS])
        with p2.load(engine) as model:
            assert model.card.vocabulary == "".join(sorted(CHARACTERS))
            for temperature in (0.0, 0.7):
                sampling = Sampling(temperature=temperature)
                noise = scale_noise(gumbel(5, [0], 0, 40, V), sampling)
                read: list[int] = []

                def predict(tokens, read=read):
                    read.append(int(order[tokens[0]]))
                    return np.asarray(logits(np.array(read))[-1:, order], np.float32)

                theirs = write(predict, np.array([3]), noise, sampling)
                ours = model.engine.decode(model.engine.zero_state(1), np.array([3]), noise, sampling)
                assert theirs.tolist() == ours.tolist()
        return made

    return check
