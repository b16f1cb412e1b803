"""A run that was there is never lost, whenever the one that follows is refused, diverges or is killed."""

from __future__ import annotations

import builtins
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from p2.contract.errors import P2Error
from p2.contract.files import write_bytes
from p2.trainer import checkpoint, curve, loop
from p2.trainer.corpus import Corpus
from p2.trainer.display import Silent
from p2.trainer.metrics import Report
from p2.trainer.options import TrainOptions

Options = Callable[..., TrainOptions]
Tree = dict[str, bytes]


class Killed(BaseException):
    """Stands for a kill: nothing may catch it and tidy up."""


class Kill:
    """Counts what is done to files, and lets nothing more be done from one of these operations on."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.calls: list[str] = []

    def __call__(self, real: Callable[..., Any], counts: Callable[..., bool]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if counts(*arguments, **named):
                self.calls.append(real.__name__)
                if self.at is not None and len(self.calls) > self.at:
                    raise Killed
            return real(*arguments, **named)

        return call

    def points(self) -> list[int]:
        """Where to kill: before everything that moves folders or removes, and every third of the others."""
        folders = ("rename", "mkdir", "rmdir", "unlink")
        return [at for at, name in enumerate(self.calls) if at % 3 == 0 or name in folders]


def writes(file: object, mode: str = "r", *_: object, **__: object) -> bool:
    return not isinstance(file, int) and not set(mode) <= set("rbt")


def opens_to_write(_path: object, flags: int, *_: object, **__: object) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR))


@contextmanager
def killing(at: int | None = None) -> Iterator[Kill]:
    """Let the process die before the file operation after `at` ones; None only counts."""
    kill = Kill(at)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)  # a kill is no power cut
        for name in ("replace", "rename", "unlink", "mkdir", "rmdir", "fsync", "write", "truncate"):
            patch.setattr(os, name, kill(getattr(os, name), lambda *_, **__: True))
        patch.setattr(os, "open", kill(os.open, opens_to_write))
        for module in (io, builtins):
            patch.setattr(module, "open", kill(io.open, writes))
        yield kill


@pytest.fixture(autouse=True)
def quick_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than these runs: a file in its place."""

    def draw(_log: Path, target: Path) -> bool:
        write_bytes(target, b"<svg/>")
        return True

    monkeypatch.setattr(curve, "draw", draw)


@pytest.fixture
def tiny(options: Options) -> Options:
    return lambda **changes: options(**({"layers": 1, "hidden": 4, "steps": 3, "val_every": 3} | changes))


def tree(folder: Path) -> Tree:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def earlier_runs(out: Path) -> list[Tree]:
    return [tree(path) for path in out.parent.glob(f"{out.name}*") if path.is_dir()]


def assert_no_leftovers(out: Path) -> None:
    assert not list(out.parent.rglob(".*"))
    for folder in (path for path in out.parent.rglob("*") if (path / "model.json").exists()):
        assert len(list(folder.iterdir())) == (3 if folder.name == "last" else 2), folder


def finished(out: Path, corpus: Corpus, make: Options) -> Tree:
    """A run that is done, with an engine exported from it."""
    with killing():
        loop.train(make(seed=1, out=out), corpus, Silent())
    (out / "charlm.onnx").write_bytes(b"an engine")
    return tree(out)


def test_a_kill_at_any_moment_of_a_new_run_loses_nothing(
    tiny: Options, corpus: Corpus, tmp_path: Path
) -> None:
    good = finished(tmp_path / "good", corpus, tiny)

    def start(name: str, at: int | None) -> tuple[Path, Kill]:
        out = shutil.copytree(tmp_path / "good", tmp_path / name / "run")
        with killing(at) as kill:
            loop.train(tiny(seed=2, out=out), corpus, Silent())
        return out, kill

    points = start("whole", None)[1].points()
    assert len(points) > 30
    went_on = 0
    for at in points:
        with pytest.raises(Killed):
            start(str(at), at)
        out = tmp_path / str(at) / "run"
        assert good in earlier_runs(out), at
        if at % 4 == 0:
            loop.train(tiny(seed=3, out=out), corpus, Silent())
        else:
            loop.resume({"out": out}, [], Silent())
        found = checkpoint.load(out / "last").record
        went_on += found.options["seed"] == 2
        assert found.step == 3
        assert (out / "best").is_dir()
        assert (out / "curve.svg").exists()
        assert good in earlier_runs(out), at
        assert_no_leftovers(out)
    assert len(points) > went_on > 10  # both before and after the checkpoint that decides


def test_a_kill_at_any_moment_of_a_resumed_run_costs_nothing(
    tiny: Options, corpus: Corpus, tmp_path: Path
) -> None:
    half = tmp_path / "half" / "run"
    loop.train(tiny(out=half, steps=2, keep_at_accuracy=(1e-9,)), corpus, Silent())
    (half / "curve.svg").unlink()

    def resume(name: str, at: int | None) -> tuple[Path, Kill]:
        out = shutil.copytree(half, tmp_path / name / "run")
        with killing(at) as kill:
            loop.resume({"out": out, "steps": 3}, [], Silent())
        return out, kill

    whole, kill = resume("whole", None)
    assert len(kill.points()) > 20
    expected = comparable(whole)
    for at in kill.points():
        with pytest.raises(Killed):
            resume(str(at), at)
        out = tmp_path / str(at) / "run"
        loop.resume({"out": out, "steps": 3}, [], Silent())
        assert comparable(out) == expected, at
        assert_no_leftovers(out)


def comparable(out: Path) -> Tree:
    """A run's files, but for what tells the time and for the numbers in the names of tensor files."""
    return {
        re.sub(r"(model|optimizer)-[\d-]+\.", r"\1.", name): data if name.endswith("tensors") else b""
        for name, data in tree(out).items()
    }


@pytest.mark.parametrize("there", ["an empty folder", "hidden files"])
def test_a_kill_in_a_folder_without_a_run(tiny: Options, corpus: Corpus, tmp_path: Path, there: str) -> None:
    def start(name: str, at: int | None) -> tuple[Path, Kill]:
        out = tmp_path / name / "run"
        out.mkdir(parents=True)
        if there == "hidden files":
            (out / ".gitignore").write_bytes(b"*")
        with killing(at) as kill:
            loop.train(tiny(seed=2, steps=1, out=out), corpus, Silent())
        return out, kill

    whole, kill = start("whole", None)
    expected = comparable(whole)
    for at in kill.points()[:: 2 if there == "hidden files" else 7]:
        with pytest.raises(Killed):
            start(str(at), at)
        out = tmp_path / str(at) / "run"
        try:
            loop.resume({"out": out}, [], Silent())
        except P2Error:  # it was killed before its first checkpoint
            loop.train(tiny(seed=2, steps=1, out=out), corpus, Silent())
        assert comparable(out) == expected
        assert not [path for path in out.parent.rglob(".*") if path.name != ".gitignore"]


def test_three_failed_trainings_leave_the_model_where_it_is(
    tiny: Options, corpus: Corpus, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    good = finished(out, corpus, tiny)
    for changes, problem in (
        ({"lr": 1e30, "steps": 50}, "diverged"),
        ({"lr": 1e30, "steps": 50, "val_every": 1}, "diverged"),
        ({"seq_len": 5000}, "the text is too short"),
    ):
        with pytest.raises(P2Error, match=problem):
            loop.train(tiny(**changes), corpus, Silent())
        assert tree(out) == good
    with pytest.raises(KeyboardInterrupt):
        loop.train(tiny(), corpus, Acting(1, interrupt))
    assert tree(out) == good
    assert earlier_runs(out) == [good]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "text.txt"]


class Acting(Silent):
    """Does something at one update."""

    def __init__(self, at: int, act: Callable[[], object]) -> None:
        self._at, self._act = at, act

    def update(self, report: Report) -> None:
        if report.step == self._at:
            self._act()


def interrupt() -> None:
    raise KeyboardInterrupt


def test_every_earlier_run_is_kept(tiny: Options, corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (tmp_path / "run.old").mkdir()  # by an earlier version, or a person
    (tmp_path / "run.old-2").write_text("not p2's")
    trees, said = [], Silent()
    said.note = (notes := []).append  # type: ignore[method-assign]
    for seed in (1, 2, 3):
        loop.train(tiny(seed=seed), corpus, said)
        trees.append(tree(out))
    assert [tree(tmp_path / f"run.old-{number}") for number in (1, 3)] == trees[:2]
    assert tree(out) == trees[2]
    moves = [note for note in notes if "is now in" in note]
    assert moves == [f"the run that was in {out} is now in {tmp_path / f'run.old-{n}'}" for n in (1, 3)]
    assert (tmp_path / "run.old-2").read_text() == "not p2's"


def test_an_earlier_run_that_may_go_is_replaced(tiny: Options, corpus: Corpus, tmp_path: Path) -> None:
    asked: list[Path] = []
    for _ in range(2):
        loop.train(tiny(), corpus, Silent(), lambda folder: asked.append(folder) is None)
    assert asked == [tmp_path / "run"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "text.txt"]
    with pytest.raises(Killed), killing_at_removal():
        loop.train(tiny(), corpus, Silent(), lambda _: True)
    assert (tmp_path / ".run.replaced").is_dir()
    loop.resume({"out": tmp_path / "run"}, [], Silent())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "text.txt"]


@contextmanager
def killing_at_removal() -> Iterator[None]:
    def die(*_: object, **__: object) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", die)
        yield


def test_a_run_begins_from_the_one_whose_folder_it_takes(
    tiny: Options, corpus: Corpus, text_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    loop.train(tiny(seed=1), corpus, Silent())
    before = checkpoint.load(out).model_state
    given = {"out": out, "init_from": out, "steps": 1, "lr": 1e-12, "batch_size": 4, "seq_len": 8}
    loop.begin(given, [str(text_file)], Silent())
    after = checkpoint.load(out / "last").model_state
    assert all(torch.allclose(after[name], before[name], atol=1e-9) for name in before)
    assert (tmp_path / "run.old-1").is_dir()


@pytest.mark.parametrize("begin", ["train", "resume"])
def test_the_second_in_a_folder_is_refused(tiny: Options, corpus: Corpus, tmp_path: Path, begin: str) -> None:
    out = tmp_path / "run"
    loop.train(tiny(seed=1), corpus, Silent())
    refused: list[str] = []

    def second() -> None:
        before = {path: tree(path) for path in tmp_path.glob("*run*")}
        with pytest.raises(P2Error) as caught:
            if begin == "train":
                loop.train(tiny(seed=3), corpus, Silent())
            else:
                loop.resume({"out": out, "steps": 9}, [], Silent())
        refused.append(str(caught.value))
        assert {path: tree(path) for path in tmp_path.glob("*run*")} == before

    for at in (1, 3):  # before and after the first has taken the folder
        loop.train(tiny(seed=2, val_every=2), corpus, Acting(at, second))
    loop.resume({"out": out, "steps": 4}, [], Acting(4, second))
    assert len(refused) == 3
    assert all(f"{out} is being written by another p2 (process {os.getpid()} on " in text for text in refused)
    loop.train(tiny(out=tmp_path / "other"), corpus, Acting(1, lambda: loop.train(tiny(), corpus, Silent())))


def test_a_link_to_a_run_folder_leads_to_the_new_run(tiny: Options, corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "disk" / "model"
    loop.train(tiny(seed=1, out=out), corpus, Silent())
    (tmp_path / "link").symlink_to(out)
    loop.train(tiny(seed=2, out=tmp_path / "link"), corpus, Silent())
    assert checkpoint.load(tmp_path / "link" / "last").record.options["seed"] == 2
    assert checkpoint.load(tmp_path / "disk/model.old-1/last").record.options["seed"] == 1


def test_what_cannot_move_is_refused_before_the_training(
    tiny: Options, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    finished(out, corpus, tiny)
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "ismount", lambda _: True)
        with pytest.raises(P2Error, match="cannot move aside, it is a mount point"):
            loop.train(tiny(), corpus, Acting(1, pytest.fail))
    monkeypatch.setattr(os, "access", lambda path, _: path != tmp_path)
    with pytest.raises(P2Error, match=f"cannot move aside, {tmp_path} cannot be written to"):
        loop.train(tiny(), corpus, Acting(1, pytest.fail))
    loop.resume({"out": out, "steps": 4}, [], Silent())  # its lock is inside
    assert not list(out.glob(".*"))
    empty = tmp_path / "empty"
    empty.mkdir()
    loop.train(tiny(out=empty), corpus, Silent())
    assert_no_leftovers(empty)


def test_a_log_that_cannot_be_written_costs_no_weights(tiny: Options, corpus: Corpus, tmp_path: Path) -> None:
    def spoil() -> None:
        log = tmp_path / ".run.starting" / "log.jsonl"
        log.unlink()
        log.mkdir()

    acting = Acting(1, spoil)
    acting.note = (notes := []).append  # type: ignore[method-assign]
    result = loop.train(tiny(), corpus, acting)
    assert result.record.step == checkpoint.load(tmp_path / "run" / "last").record.step == 3
    assert sum("the run goes on without a log" in note for note in notes) == 1


def test_a_checkpoint_that_is_replaced_while_it_is_read(
    tiny: Options, corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop.train(tiny(), corpus, Silent())
    manifest = checkpoint._manifest
    grown: list[int] = []

    def meanwhile(folder: Path) -> dict[str, Any]:
        found = manifest(folder)
        if not grown:
            grown.append(1)
            loop.resume({"out": tmp_path / "run", "steps": 5}, [], Silent())
        return found

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_manifest", meanwhile)
        assert checkpoint.load(tmp_path / "run" / "last").record.step == 5
