"""Clients that leave at the worst moment: no text stays counted."""

from __future__ import annotations

import threading
from typing import Any, cast

import numpy as np
import pytest

from p2.contract.sampling import Sampling
from p2.serve.batcher import BEHIND, BEHIND_SCORED, Batcher
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


@pytest.mark.parametrize(("scores", "most"), [(None, BEHIND), (1, BEHIND_SCORED)])
def test_a_reader_may_be_so_far_behind(batcher, scores, most):
    text = a_text(scores=scores)
    batcher.submit([text], "")
    wait_for(lambda: batcher.counts()["paused"] == 1)
    assert most < text.behind < 2 * most
    batcher.took(text, text.behind - most)
    assert batcher.counts()["paused"] == 1
    before = text.sent
    batcher.took(text, text.behind - most // 2)
    wait_for(lambda: text.sent > before and batcher.counts()["paused"] == 1)
    assert most < text.behind < 2 * most
    batcher.cancel([text])
    nobody_is_left(batcher)


def test_a_reader_leaves_before_it_is_found_to_be_slow(batcher):
    text = a_text()

    def others() -> None:
        if text.sent > BEHIND and not text.cancelled:
            batcher.cancel([text])

    batcher._changed.others = others
    batcher.submit([text], "")
    wait_for(lambda: text.cancelled)
    nobody_is_left(batcher)
