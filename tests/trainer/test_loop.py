"""Whole runs: resumed runs are the same runs, whatever ended them."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from p2.trainer import loop, run
from p2.trainer.corpus import Corpus
from p2.trainer.display import Silent
from p2.trainer.options import TrainOptions
from p2.trainer.runfolder import read_log

from .whole_runs import Notes, last

Options = Callable[..., TrainOptions]

pytestmark = pytest.mark.usefixtures("without_curve")


class Killed(BaseException):
    """Stands for a kill: nothing may catch it and tidy up."""


def die() -> None:
    raise Killed


def assert_same(a: Path, b: Path) -> None:
    """Bit for bit the same weights, moments, carried state, averages and log."""
    (one, one_more), (two, two_more) = last(a), last(b)
    for first, second in ((one.model_state, two.model_state), (one_more, two_more)):
        assert set(first) == set(second)
        assert all(torch.equal(first[name], second[name]) for name in first)
    assert one.record.train == two.record.train
    assert one.record.step == two.record.step
    assert one.record.best_validation_loss == two.record.best_validation_loss
    logs = [
        [{k: v for k, v in entry.items() if "second" not in k} for entry in read_log(folder / "log.jsonl")]
        for folder in (a, b)
    ]
    assert logs[0] == logs[1]


KINDS = {
    "lstm with dropout": {"dropout": 0.3},
    "lstm in bfloat16": {"precision": "bfloat16", "dropout": 0.3},
    "stateful": {"stateful": True, "batch_size": 16},
    "gru, reset before": {"cell": "gru", "gru_reset": "before", "dropout": 0.3},
    "rnn": {"cell": "rnn"},
    "regularised": {
        "dropout": 0.3,
        "variational": True,
        "output_dropout": 0.2,
        "embedding_dropout": 0.2,
        "recurrent_dropout": 0.2,
        "weight_drop": 0.2,
        "weight_decay": 0.1,
        "ema": 0.9,
        "accumulate": 2,
        "warmup": 3,
        "stateful": True,
        "precision": "bfloat16",
        "tied": True,
        "embedding": 8,
    },
    "plateau": {"schedule": "plateau", "val_every": 1, "lr": 0.5, "lr_decay": 0.5},
}


@pytest.mark.parametrize("kind", KINDS)
def test_2n_updates_are_n_and_n_more(kind: str, options: Options, corpus: Corpus, tmp_path: Path) -> None:
    changes = KINDS[kind]
    loop.train(options(**changes, steps=8, out=tmp_path / "whole"), corpus, Silent())
    loop.train(options(**changes, steps=4, out=tmp_path / "half"), corpus, Silent())
    result = loop.resume({"out": tmp_path / "half", "steps": 8}, [], Silent())
    assert result.record.step == 8
    assert not result.interrupted
    # The half run logged its last update, 4, as the whole one did: both validate there.
    assert_same(tmp_path / "whole", tmp_path / "half")


def test_the_plateaus_matter(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    """The half run above has cut its learning rate, or that test could not fail."""
    loop.train(options(**KINDS["plateau"], steps=4), corpus, Silent())
    assert last(tmp_path / "run")[1]["schedule"][2] > 0
    assert read_log(tmp_path / "run" / "log.jsonl")[-1]["lr"] < 0.5


def test_patience_ends_a_run_and_more_of_it_goes_on(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    """With what a run of more patience would have had."""
    bad = {"val_every": 1, "lr": 0.5, "steps": 30}
    loop.train(options(**bad, patience=4, out=tmp_path / "whole"), corpus, Silent())
    shown = Notes()
    result = loop.train(options(**bad, patience=2), corpus, shown)
    losses = [entry["val_loss"] for entry in read_log(tmp_path / "run" / "log.jsonl")]
    assert min(losses[:-2]) <= min(losses[-2:])
    assert not result.interrupted
    assert result.record.step == len(losses) < 30
    assert result.summary()[0].startswith(f"done: {len(losses)} updates")
    assert (
        f"enough after update {len(losses)}: 2 validations in a row were no better than the best"
        in shown.notes
    )
    again = loop.resume({"out": tmp_path / "run"}, [], Silent())
    assert (again.interrupted, again.record.step) == (False, len(losses))
    assert loop.resume({"out": tmp_path / "run", "patience": 4}, [], Silent()).record.step > len(losses)
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_a_finished_cosine_promises_no_more_updates(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    loop.train(options(schedule="cosine"), corpus, Silent())
    shown = Notes()
    loop.resume({"out": tmp_path / "run"}, [], shown)
    assert shown.notes == ["nothing to do: 4 of 4 updates are done"]


def test_the_carried_state_matters(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    """Without it the resumed stateful run would differ: the test above can fail."""
    changes = {"stateful": True, "batch_size": 16}
    loop.train(options(**changes, steps=4), corpus, Silent())
    _, training_state = last(tmp_path / "run")
    assert all(training_state[f"state.{name}"].any() for name in ("h_00", "h_01", "c_00", "c_01"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_saves_and_the_run_goes_on_the_same(
    options: Options,
    corpus: Corpus,
    tmp_path: Path,
    number: signal.Signals,
    request: pytest.FixtureRequest,
) -> None:
    if number == signal.SIGHUP:  # which stays ignored where these tests run under nohup
        request.addfinalizer(partial(signal.signal, number, signal.signal(number, signal.SIG_DFL)))
    loop.train(options(steps=6, dropout=0.3, out=tmp_path / "whole"), corpus, Silent())
    handlers = [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)]
    stopping = Notes(3, lambda: os.kill(os.getpid(), number))
    result = loop.train(options(steps=6, dropout=0.3, out=tmp_path / "a b"), corpus, stopping)
    assert result.interrupted
    assert result.record.step == 3
    assert result.summary()[-1] == f"to go on: p2 train --resume --out '{tmp_path / 'a b'}'"
    assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
    assert not loop.resume({"out": tmp_path / "a b"}, [], Silent()).interrupted
    assert_same(tmp_path / "whole", tmp_path / "a b")


def test_a_run_under_nohup_outlives_its_terminal(options: Options, corpus: Corpus) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        hang_up = Notes(2, lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert not loop.train(options(), corpus, hang_up).interrupted
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_acts_as_usual(options: Options, corpus: Corpus) -> None:
    def twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    # A process that a shell started in the background may have been told to ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.train(options(), corpus, Notes(2, twice))
    finally:
        signal.signal(signal.SIGINT, before)


def test_after_a_kill_the_run_goes_on_from_the_last_save(
    options: Options, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.train(options(steps=8, out=tmp_path / "whole"), corpus, Silent())
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(run, "_SAVE_SHARE", math.inf)
    with pytest.raises(Killed):
        loop.train(options(steps=8), corpus, Notes(5, die))
    assert last(tmp_path / "run")[0].record.step == 4
    loop.resume({"out": tmp_path / "run"}, [], Silent())
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_saving_takes_a_bounded_share_of_the_time(
    options: Options, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(run, "_SAVE_SHARE", 1e-9)  # the first save puts the next one off for hours
    with pytest.raises(Killed):
        loop.train(options(steps=8), corpus, Notes(5, die))
    assert last(tmp_path / "run")[0].record.step == 1


def test_a_run_leaves_pytorch_as_it_was(options: Options, corpus: Corpus) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    loop.train(options(steps=1, dropout=0.5, threads=2), corpus, Silent())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
