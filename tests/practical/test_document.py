"""Documents of experiments: an earlier one is not lost to the next."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from p2.contract.errors import P2Error
from p2.contract.files import reading
from p2.practical import document as documents
from p2.practical import page
from p2.practical.document import Document, alone, make_room


def written(folder: Path, results: dict[str, object]) -> None:
    """A document with one picture."""
    (folder / "gradients-along.svg").write_text(f"<svg>{results}</svg>")
    documents.write(
        folder,
        Document(
            experiment="gradients",
            version=documents.VERSION,
            mode="full",
            seconds={"wall": 1.0, "cpu": 1.0},
            machine={},
            settings={},
            results=results,
            claims=[],
            figures=[{"file": "gradients-along.svg", "title": "t", "caption": "c"}],
        ),
    )


def test_another_runs_document_is_kept_with_its_pictures(tmp_path):
    assert make_room(tmp_path, "gradients") == ""
    for number in (1, 2):
        written(tmp_path, {"a": [number]})
        assert make_room(tmp_path, "gradients", {"a": (number,)}) == ""  # the same results: the same run
        said = make_room(tmp_path, "gradients", {"a": (9,)})
        kept = tmp_path / f"gradients.json.old-{number}"
        assert (
            said == f"the {tmp_path}/gradients.json of an earlier run is kept, with its pictures, in {kept}"
        )
        assert documents.read(kept / "gradients.json")["results"] == {"a": [number]}
        assert page.documents_in(tmp_path) == [tmp_path / "gradients.json"]
        assert (kept / "gradients-along.svg").read_text() == f"<svg>{{'a': [{number}]}}</svg>"


def test_what_cannot_be_read_is_kept_too(tmp_path):
    (tmp_path / "text.json").write_text("{")
    assert "text.json.old-1" in make_room(tmp_path, "text", {})
    assert (tmp_path / "text.json.old-1" / "text.json").read_text() == "{"


def test_the_second_at_an_experiment_is_refused(tmp_path):
    refused = pytest.raises(P2Error, match=r"text\.json is being written by another p2")
    with alone(tmp_path, "text"), alone(tmp_path, "gradients"), refused, alone(tmp_path, "text"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_document_that_the_disk_does_not_give_makes_no_room(tmp_path, monkeypatch):
    """Its figures, which only it names, would be written over."""
    (tmp_path / "text.json").write_text("{}")

    def fails(path):
        with reading(path):
            raise OSError(errno.EIO, "dead")

    monkeypatch.setattr(documents, "read_document", fails)
    with pytest.raises(P2Error, match=r"cannot read .*text\.json: dead"):
        make_room(tmp_path, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["text.json"]
