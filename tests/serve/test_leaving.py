"""Clients that leave at the worst moment: no text stays counted."""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
import pytest

from p2.contract.sampling import Sampling
from p2.serve import batcher as module
from p2.serve.batcher import Batcher
from p2.serve.settings import Settings
from p2.serve.text import ENDED, Text

from .test_server import wait_for


class Meanwhile(threading.Condition):
    """A lock after each release of which others may do something."""

    def __exit__(self, *reason: Any) -> None:
        super().__exit__(*reason)
        self.others()

    def others(self) -> None:
        pass


@pytest.fixture
def batcher(engines):
    engine = engines()["lstm"].engine
    found = Batcher(engine, Settings(max_streams=4), lambda _: None)
    found._changed = Meanwhile()
    yield found
    found.close()
    engine.close()


def a_text(prompt: int = 1, scores: int | None = None) -> Text:
    return Text(np.zeros(prompt, np.int64), 1 << 20, 0, 0, Sampling(), (), scores, False, 0, cast(Any, None))


def nobody_is_left(batcher: Batcher) -> None:
    wait_for(lambda: sum(batcher.counts().values()) == 0)


@pytest.mark.parametrize("prompt", [1, 1 << 22], ids=["writing", "reading"])
def test_another_leaves_while_one_is_taken_out(batcher, prompt):
    first, second = a_text(prompt), a_text(prompt)

    def others() -> None:
        if first.place == ENDED and not second.cancelled:
            batcher.cancel([second])

    batcher.submit([first, second], "")
    wait_for(lambda: batcher.counts()["running"] == 2)
    batcher._changed.others = others
    batcher.cancel([first])
    nobody_is_left(batcher)


@pytest.mark.parametrize(
    ("scores", "pieces", "characters"),
    [(None, 3, 1 << 30), (1, 3, 1 << 30), (None, 1 << 30, 1 << 12), (1, 1 << 30, 1 << 10)],
)
def test_a_reader_may_be_so_far_behind(scores, pieces, characters, batcher, monkeypatch):
    """So many pieces, and so many characters; it goes on when half of both have been taken."""
    monkeypatch.setattr(module, "PIECES_BEHIND", pieces)
    monkeypatch.setattr(module, "BEHIND" if scores is None else "BEHIND_SCORED", characters)
    text = a_text(scores=scores)

    def paused() -> bool:
        return batcher.counts()["paused"] == 1

    batcher.submit([text], "")
    wait_for(paused)
    assert text.behind > characters or text.pieces_behind == pieces + 1
    before = text.written
    batcher.took(text, min(1, text.pieces_behind), 1)
    assert paused()
    half = pieces // 2, characters // 2
    batcher.took(text, max(0, text.pieces_behind - half[0]), max(0, text.behind - half[1]))
    wait_for(lambda: text.written > before and paused())
    batcher.cancel([text])
    nobody_is_left(batcher)


def test_a_reader_leaves_before_it_is_found_to_be_slow(batcher):
    text = a_text()

    def others() -> None:
        if module._is_behind(text) and not text.cancelled:
            batcher.cancel([text])

    batcher._changed.others = others
    batcher.submit([text], "")
    wait_for(lambda: text.cancelled)
    nobody_is_left(batcher)
