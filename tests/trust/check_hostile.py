"""Every reader is handed hostile files: it reads them or says a sentence, soon and within little memory."""

from __future__ import annotations

import random

import h5py  # noqa: F401 - what a child needs is loaded once
import onnxruntime  # noqa: F401
import pytest
import torch  # noqa: F401

from . import readers
from .reading import KINDS, try_batch


@pytest.mark.usefixtures("pictures_aside")
@pytest.mark.parametrize(
    "reader", [pytest.param(one, id=one.name, marks=pytest.mark.weight(one.weight)) for one in readers.ALL]
)
def test_a_hostile_file_is_a_sentence(reader, trust, tmp_path):
    rnd = trust.random()
    for number in range(KINDS):
        reader.good(number)  # made here it is there for all children
    for _ in trust.turns(1):
        own = random.Random(rnd.getrandbits(64))  # what a child draws its parent does not
        told = try_batch(reader, tmp_path / "batch", own, reader.inputs, trust.until)
        trust.count(
            "Hostile files",
            reader.name,
            inputs=told.inputs,
            refused=told.refused,
            read=told.read,
            **{"slowest, seconds": float(told.seconds), "extra memory, MiB": float(told.extra)},
        )
        assert not told.faults, "\n\n".join(told.faults)


@pytest.fixture
def pictures_aside(monkeypatch):
    readers.without_pictures(monkeypatch)
