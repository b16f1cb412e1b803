"""The run on the book: cut, gone on with, refused, and what it leaves for the texts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2.contract.documents import write_sealed
from p2.contract.errors import P2Error, UsageError
from p2.practical.text import clock as clocks
from p2.practical.text import training
from p2.practical.text.clock import Clock
from p2.practical.text.options import parse
from p2.trainer.corpus import load
from p2.trainer.display import Silent
from p2.trainer.runfolder import read_log

TEXT = "the quick brown fox jumps over the lazy dog. " * 40
SMALL = {
    "hidden": 8,
    "embedding": 4,
    "batch_size": 4,
    "precision": "float32",
    "keep_at_accuracy": (0.01, 0.99),
}


@pytest.fixture
def book(tmp_path: Path) -> str:
    path = tmp_path / "book.txt"
    path.write_text("\ufeff" + TEXT, encoding="utf-8")
    return str(path)


def go(folder: Path, texts: list[str], *, steps: int | None = None, **chosen: object) -> training.Trained:
    resume = chosen.get("resume", False)
    given = ({} if resume else SMALL) | ({} if steps is None else {"steps": steps}) | chosen.pop("given", {})
    asked = parse(given, {}, folder=folder, **chosen)
    clock = Clock(asked.run / training.CLOCK, asked.mode, resume=asked.resume)
    return training.train(asked, texts, Silent(), clock)


def test_it_trains_on_the_beginning_of_the_book(tmp_path, book):
    trained = go(tmp_path / "out", [book], steps=3, characters=500)
    assert trained.book.text == TEXT[:500]
    assert trained.whole == len(TEXT)
    assert trained.record.corpus["characters"] == 500
    assert trained.options.val_fraction == 0


def test_it_keeps_what_was_reached_and_the_newest_for_the_rest(tmp_path, book):
    trained = go(tmp_path / "out", [book], steps=3, characters=500)
    assert [(kept.asked, kept.folder.name) for kept in trained.kept] == [
        (0.01, "accuracy-0.01"),
        (None, "last"),
    ]
    assert trained.kept[-1].record.step == 3
    all_reached = go(tmp_path / "all", [book], steps=3, given={"keep_at_accuracy": (0.01,)})
    assert [kept.asked for kept in all_reached.kept] == [0.01]


def test_it_goes_on_as_if_it_had_not_stopped(tmp_path, book):
    go(tmp_path / "whole", [book], steps=20, characters=500)
    go(tmp_path / "parts", [book], steps=10, characters=500)
    trained = go(tmp_path / "parts", [], steps=20, resume=True)
    assert trained.record.step == 20
    logs = [
        [
            (entry["step"], entry["loss"], entry["running_accuracy"])
            for entry in read_log(tmp_path / name / "text/log.jsonl")
        ]
        for name in ("whole", "parts")
    ]
    assert logs[0] == logs[1]
    seconds = json.loads((tmp_path / "parts/text/seconds.json").read_text())
    assert seconds["wall"] > 0


def test_a_new_run_leaves_the_time_of_the_one_before_alone(tmp_path, book, monkeypatch):
    monkeypatch.setattr(clocks, "SAVE_SECONDS", 0.0)
    go(tmp_path / "out", [book], steps=2)
    path = tmp_path / "out/text/seconds.json"
    before = path.read_bytes().replace(b'"wall": ', b'"wall": 1000')  # two short runs may take the same
    path.write_bytes(before)
    go(tmp_path / "out", [book], steps=3)
    assert (tmp_path / "out/text.old-1/seconds.json").read_bytes() == before
    assert (tmp_path / "out/text/seconds.json").read_bytes() != before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["text", "text.old-1"]


def test_a_run_that_is_done_is_taken_as_it_is(tmp_path, book):
    before = go(tmp_path / "out", [book], steps=3, characters=500)
    after = go(tmp_path / "out", [], resume=True)
    assert after.record == before.record
    assert after.book == load([book]).head(500)
    assert (after.whole, [kept.folder for kept in after.kept]) == (
        before.whole,
        [k.folder for k in before.kept],
    )


def test_a_stopped_run_ends_the_command(tmp_path, book, monkeypatch):
    class Stopped:
        interrupted = True
        record = type("Record", (), {"step": 2})

    monkeypatch.setattr(training.loop, "train", lambda *_: Stopped())
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "out", [book], steps=3)


def test_what_cannot_go_on_is_a_sentence(tmp_path, book):
    with pytest.raises(P2Error, match="there is no run to go on with"):
        go(tmp_path / "out", [], resume=True)
    with pytest.raises(UsageError, match="name the BOOK"):
        go(tmp_path / "out", [])
    go(tmp_path / "out", [book], steps=2)
    for steps in (2, 4):  # done, and not
        with pytest.raises(UsageError, match=r"--hidden 9 contradicts the run"):
            go(tmp_path / "out", [], steps=steps, resume=True, given={"hidden": 9})
    Path(book).write_text("another " * 200)
    named = f"name it: `p2 practical text --resume --out {tmp_path / 'out'} NEW/PATH`"
    for problem in ("its text differs", "no such file"):
        with pytest.raises(P2Error, match=problem) as caught:
            go(tmp_path / "out", [], resume=True)
        assert str(caught.value).endswith(named)
        Path(book).unlink(missing_ok=True)


def test_a_book_from_standard_input_is_needed_again(tmp_path, book):
    run = tmp_path / "out/text"
    go(tmp_path / "out", [book], steps=2)
    manifest = json.loads((run / "last/model.json").read_text())
    manifest["training"]["corpus"]["sources"] = ["-"]
    write_sealed(run / "last/model.json", manifest)
    with pytest.raises(UsageError, match="the book came from standard input"):
        go(tmp_path / "out", [], resume=True)
    assert go(tmp_path / "out", [book], resume=True).record.step == 2


def test_the_command_to_go_on_names_the_folder():
    assert training.resume_command(parse({}, {})) == "p2 practical text --resume"
    assert training.resume_command(parse({}, {}, folder=Path("a b"))).endswith("--resume --out 'a b'")


def test_a_stray_byte_is_read_the_same_when_it_goes_on(tmp_path):
    book = tmp_path / "book.txt"
    book.write_bytes(("“Fox”. " * 9 + TEXT).encode() + b"\x93")
    with pytest.raises(P2Error, match="UTF-8 but for 1 byte"):
        go(tmp_path / "a", [str(book)], steps=2)
    trained = go(tmp_path / "a", [str(book)], steps=2, characters=0, given={"encoding_errors": "skip"})
    assert trained.book.text == "“Fox”. " * 9 + TEXT
    assert go(tmp_path / "a", [], steps=3, resume=True).record.step == 3
