"""Figures that are read one update late, as on a GPU, here on a CPU: the same run, and nothing waits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from p2.contract.errors import P2Error
from p2.trainer import checkpoint, loop
from p2.trainer.corpus import Corpus
from p2.trainer.display import Silent
from p2.trainer.figures import Figures
from p2.trainer.learner import Learner
from p2.trainer.metrics import Report
from p2.trainer.options import TrainOptions
from p2.trainer.runfolder import read_log

CPU = torch.device("cpu")
Options = Callable[..., TrainOptions]


class Late(Figures):
    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.late = 1


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr("p2.trainer.learner.Figures", Late)


def learner(options: TrainOptions, corpus: Corpus) -> Learner:
    return Learner(options.card(corpus.vocabulary), options, corpus.encode(corpus.vocabulary), CPU)


class Seen(Silent):
    def __init__(self) -> None:
        self.reports: list[tuple[int, float, float, float]] = []

    def update(self, report: Report) -> None:
        self.reports.append((report.step, report.batch.loss, report.running.accuracy, report.lr))


@pytest.mark.usefixtures("without_curve")
@pytest.mark.parametrize("stateful", [False, True])
def test_a_run_is_the_same(
    options: Options, corpus: Corpus, tmp_path: Path, late: Callable[[], None], stateful: bool
) -> None:
    """Each update is shown, logged and counted, and what is kept is of the very update that earned it."""
    changes = {"steps": 23, "val_every": 7, "keep_at_accuracy": (0.08, 0.15), "stateful": stateful}
    seen = []
    for name in ("at once", "late"):
        if name == "late":
            late()
        display = Seen()
        loop.train(options(**changes, out=tmp_path / name), corpus, display)
        seen.append(display.reports)
    assert seen[0] == seen[1]
    assert [report[0] for report in seen[0]] == list(range(1, 24))
    for folder in ("last", "best", "accuracy-0.08", "accuracy-0.15"):
        one, two = (checkpoint.load(tmp_path / name / folder) for name in ("at once", "late"))
        assert one.record.step == two.record.step
        assert all(torch.equal(tensor, two.model_state[name]) for name, tensor in one.model_state.items())
    logs = [
        [{k: v for k, v in entry.items() if "second" not in k} for entry in read_log(folder / "log.jsonl")]
        for folder in (tmp_path / "at once", tmp_path / "late")
    ]
    assert logs[0] == logs[1]


@pytest.mark.usefixtures("without_curve")
def test_what_diverged_is_never_saved(
    options: Options,
    corpus: Corpus,
    tmp_path: Path,
    late: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though the next update has begun when it is known, and a checkpoint is due at every update."""
    late()
    monkeypatch.setattr("p2.trainer.run.Run._save_is_due", lambda self: True)
    with pytest.raises(P2Error, match="training diverged at update 2 "):
        loop.train(options(lr=1e9), corpus, Silent())
    assert checkpoint.load(tmp_path / "run" / "last").record.step == 1


def test_what_diverged_leaves_the_weights_to_later_updates_too(
    options: Options, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = learner(options(), corpus)
    one.enqueue(0)
    before = {name: tensor.clone() for name, tensor in one.state().items()}
    with monkeypatch.context() as patch:
        patch.setattr(functional, "cross_entropy", lambda logits, _: logits.sum() * math.nan)
        one.enqueue(1)
    one.enqueue(2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.state().items())
    with pytest.raises(P2Error, match=r"training diverged at update 2 \(loss nan"):
        one.figures(everything=True)


class Waits(TorchDispatchMode):
    """Operators whose result the program has to know, so that a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in ("_local_scalar_dense", "equal", "is_nonzero", "nonzero"):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the program waited for since."""
    mode = Waits()
    for name in ("tolist", "item", "numpy", "cpu", "__bool__", "__float__", "__int__", "__index__"):
        real = getattr(torch.Tensor, name)

        def noted(self: torch.Tensor, *args: Any, _real: Any = real, _name: str = name, **given: Any) -> Any:
            mode.found.append(_name)
            return _real(self, *args, **given)

        monkeypatch.setattr(torch.Tensor, name, noted)
    with mode:
        yield mode.found


@pytest.mark.parametrize("changes", [{}, {"stateful": True, "dropout": 0.2}, {"cell": "rnn", "clip": 0.0}])
def test_an_update_waits_for_nothing(
    options: Options, corpus: Corpus, late: Callable[[], None], waits: list[str], changes: dict[str, Any]
) -> None:
    late()
    one = learner(options(**changes), corpus)
    waits.clear()
    one.enqueue(0)
    assert one.figures(everything=False) == []
    one.enqueue(1)
    assert waits == []
    assert len(one.figures(everything=False)) == 1
    assert waits == ["tolist"]  # of the update before
    assert len(one.figures(everything=True)) == 1
    assert waits == ["tolist"] * 2


def test_figures_of_a_gpu_are_waited_for_so_that_one_can_give_up() -> None:
    class Event:
        asked = 0

        def query(self) -> bool:
            self.asked += 1
            return self.asked > 2

    figures = Figures(CPU)
    figures._waiting.append((7, torch.ones(2), Event()))
    with pytest.raises(ZeroDivisionError):
        figures.take(True, lambda: 1 / 0)
    assert figures.take(True) == [(7, [1.0, 1.0])]
