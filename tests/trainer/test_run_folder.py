"""A run's folder: what it has in the end, and that it never loses anything silently."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from p2.contract.documents import write_sealed
from p2.contract.errors import P2Error, UsageError
from p2.trainer import checkpoint, loop
from p2.trainer.corpus import Corpus
from p2.trainer.display import Silent
from p2.trainer.options import TrainOptions
from p2.trainer.runfolder import read_log

from .whole_runs import Notes, last

Options = Callable[..., TrainOptions]

pytestmark = pytest.mark.usefixtures("without_curve")


def test_the_run_folder_has_what_it_promises(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    result = loop.train(options(steps=12, val_every=3, lr=0.02), corpus, Silent())
    folder = tmp_path / "run"
    entries = read_log(folder / "log.jsonl")
    assert [entry["step"] for entry in entries] == [1, 3, 6, 9, 10, 12]
    for entry in entries:
        assert entry["bits_per_character"] == pytest.approx(entry["loss"] / math.log(2))
        assert entry["lr"] == pytest.approx(0.02 * 0.1 ** ((entry["step"] - 1) / 1000))
        assert entry["characters_per_second"] > 0
        assert 0 < entry["running_accuracy"] < 1
        assert ("val_loss" in entry) == (entry["step"] % 3 == 0)
    assert entries[-1]["running_loss"] == result.record.train.loss
    best = min((entry for entry in entries if "val_loss" in entry), key=lambda entry: entry["val_loss"])
    assert checkpoint.load(folder).record.step == best["step"]
    assert checkpoint.load(folder).record.best_validation_loss == best["val_loss"]
    card, record = last(folder)[0].card, result.record
    assert card.corpus_sha256 == corpus.sha256 == record.corpus["sha256"]
    assert card.vocabulary == "".join(sorted(set(corpus.text)))
    assert record.corpus["characters"] == len(corpus.text)
    assert result.summary()[1:] == [
        f"the model is in {folder / 'best'}, the log in {folder / 'log.jsonl'}",
        f"next: p2 export --fp16 {folder}",
    ]


def test_without_validation_there_is_no_best(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    result = loop.train(options(val_fraction=0.0), corpus, Silent())
    assert not (tmp_path / "run" / "best").exists()
    assert result.record.validation is None
    assert str(tmp_path / "run" / "last") in result.summary()[1]
    assert checkpoint.load(tmp_path / "run").record.step == 4


def test_accuracies_are_kept_once(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    shown = Notes()
    loop.train(options(steps=60, val_every=60, lr=0.03, keep_at_accuracy=(0.15, 0.2, 1.0)), corpus, shown)
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.glob("accuracy-*")) == ["accuracy-0.15", "accuracy-0.2"]
    for value in (0.15, 0.2):
        found = checkpoint.load(folder / f"accuracy-{value}")
        assert value in found.record.kept_accuracies
        assert found.record.train is not None
        assert found.record.train.accuracy >= value
    assert last(folder)[0].record.kept_accuracies == [0.15, 0.2]
    assert sum("running accuracy 0.2 reached" in note for note in shown.notes) == 1


def test_a_folder_with_other_things_is_left_alone(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.doc").write_text("years of work", encoding="utf-8")
    with pytest.raises(UsageError, match="run is not empty and holds no training run"):
        loop.train(options(), corpus, Silent())
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["thesis.doc"]


def test_the_folder_one_is_in_does_not_move(
    options: Options, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.train(options(), corpus, Silent())
    monkeypatch.chdir(tmp_path / "run" / "last")
    with pytest.raises(UsageError, match="is the folder you are in"):
        loop.train(options(out=Path("..")), corpus, Silent())


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(P2Error, match=r"there is no run to go on with in .*run: start one with"):
        loop.resume({"out": tmp_path / "run"}, [], Silent())


def test_nothing_left_to_do(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    loop.train(options(), corpus, Silent())
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*"))
    shown = Notes()
    result = loop.resume({"out": tmp_path / "run", "steps": 3}, [], shown)
    assert not result.interrupted
    assert shown.notes[0].startswith("nothing to do: 4 of 3 updates are done")
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / "run").rglob("*")) == before


def test_a_resumed_run_that_was_damaged(options: Options, corpus: Corpus, tmp_path: Path) -> None:
    loop.train(options(), corpus, Silent())
    path = tmp_path / "run" / "last" / "model.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["training"]["options"]["hidden"] = 0
    write_sealed(path, manifest)
    with pytest.raises(P2Error, match=r"model\.json: the recorded options are damaged: hidden must be"):
        loop.resume({"out": tmp_path / "run", "steps": 6}, [], Silent())


@pytest.mark.parametrize("validated", [True, False])
def test_a_run_that_diverges_in_its_last_update_keeps_what_was_saved(
    options: Options, corpus: Corpus, validated: bool
) -> None:
    """No later update meets the infinite weights, so only what saves them can."""
    wanted = options(lr=1e39, steps=1, val_fraction=0.1 if validated else 0.0)
    with pytest.raises(P2Error, match="diverged"):
        loop.train(wanted, corpus, Silent())
    assert not list(wanted.out.rglob("*.safetensors"))
