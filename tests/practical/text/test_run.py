"""The whole experiment, tiny, as a person runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from p2.cli import main
from p2.practical import document as documents
from p2.practical.text import writing

BOOK = (
    "CHAPTER I.\n\nYou know about me, said the fox, and I know about you. The river was <wide>, and we"
    " drifted"
    " down it all night long. “Is it far?” said Tom. It was not.\n\n"
) * 12
OPTIONS = (
    "--hidden 12 --embedding 6 --layers 1 --steps 8 --batch-size 8 --accuracies 0.0001 --length 120"
    " --sample-length 100 --samples 2"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(writing, "WINDOWS", 8)
    Path("book.txt").write_text(BOOK)
    Path("short.txt").write_text("Too short.")
    return tmp_path / "artifacts/practical"


def test_from_the_book_to_the_page(folder, capsys, checked):
    assert main(["practical", "text", "book.txt", *OPTIONS.split()]) == 0
    said = capsys.readouterr()
    assert "report: artifacts/practical/text.json, artifacts/practical/report.html" in said.out
    assert re.search(r"claims: .*not measured", said.out)
    document = documents.read(folder / "text.json")
    assert document["mode"] == "full"
    assert document["seconds"]["cpu"] > 0
    assert document["settings"]["prompt"] == "You know about me,"
    results = document["results"]
    assert results["book"]["sources"] == ["book.txt"]
    assert results["book"]["characters"] == results["book"]["whole"] == len(BOOK)
    assert [c["asked"] for c in results["checkpoints"]] == [0.0001]
    assert results["curve"]["step"][-1] == results["training"]["updates"] == 8
    for checkpoint in results["checkpoints"]:
        assert checkpoint["export_error"] < 1e-3
        assert checkpoint["greedy"]["texts"] == len(set(BOOK))
    assert {path.name for path in folder.glob("*.svg")} == {figure["file"] for figure in document["figures"]}
    assert (folder / "text/accuracy-0.0001.onnx").is_file()
    read = checked((folder / "report.html").read_text())
    assert "Generated text" in read.text
    assert "wide" not in {tag.lower() for tag in read.tags}

    # Once it is done, it can be written and analysed again: with another prompt, from the same run.
    assert main(["practical", "text", "--resume", "--prompt", "The river", *OPTIONS.split()[-6:]]) == 0
    again = json.loads((folder / "text.json").read_text())
    assert again["settings"]["prompt"] == "The river"
    assert again["results"]["checkpoints"][0]["prompt"]["excerpt"]["text"].startswith("The river")
    assert again["results"]["curve"] == results["curve"]
    trained = json.loads((folder / "text/seconds.json").read_text())
    assert again["seconds"]["wall"] > trained["wall"] > 0
    assert not list(folder.glob("*.old-*"))

    # Another run keeps what was there: the run, and the document with its pictures.
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".json", ".svg")}
    capsys.readouterr()
    assert main(["practical", "text", "book.txt", *OPTIONS.split(), "--seed", "1"]) == 0
    kept = folder / "text.json.old-1"
    assert (
        f"kept, with its pictures, in {Path('artifacts/practical') / kept.name}\n" in capsys.readouterr().out
    )
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == before
    assert json.loads((folder / "text.json").read_text())["settings"]["seed"] == 1
    assert (folder / "text.old-1/accuracy-0.0001.onnx").is_file()
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["book.txt", "--quick", "--seed-scale"], 2, "not both"),
        (["book.txt", "--accuracies", "high"], 2, "takes numbers with commas between"),
        (["book.txt", "--backend", "abacus"], 2, "unknown backend"),
        (["book.txt", "--backend", "eager"], 2, "--backend eager runs a checkpoint"),
        (["book.txt", "--prompt", "§"], 2, "does not know the character '§'"),
        (["nowhere.txt"], 1, "no such file"),
        ([], 2, "name the BOOK"),
        (["--resume"], 1, "there is no run to go on with"),
        (["short.txt"], 1, "the text is too short"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_input_is_a_sentence(options, code, says, capsys):
    named = [] if "--resume" in options or not options else OPTIONS.split()
    assert main(["practical", "text", *named, *options]) == code
    said = capsys.readouterr().err
    assert says in said.splitlines()[-1]
    assert "Traceback" not in said
    assert not Path("artifacts").exists()  # said before anything is begun
