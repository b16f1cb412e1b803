"""The page: whole, alone, escaped, and true to the documents."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from p2.cli import main
from p2.contract.errors import P2Error
from p2.practical import again
from p2.practical import document as documents
from p2.practical import page as pages
from p2.practical.figure_files import drawing
from p2.practical.shown import SHOWN

ROOT = Path(__file__).parent.parent.parent
NASTY = '<script>alert("x")</script>&amp;\'\x00\ud800'


def made_up(experiment: str, **changes) -> dict:
    document = {
        "experiment": experiment,
        "version": documents.VERSION,
        "mode": "quick",
        "seconds": {"wall": 75.2, "cpu": 140.0},
        "machine": {"processor": "Imaginary 9000", "processors": 2},
        "settings": {"hidden": 64},
        "results": {},
        "claims": [
            {
                "where": "1.3",
                "seed": f"{experiment} converges",
                "measured": "It did.",
                "verdict": "confirmed",
            },
            {"where": "1.4", "seed": f"{experiment} is fast", "measured": "No.", "verdict": "not confirmed"},
        ],
        "figures": [],
    }
    return document | changes


@pytest.fixture
def stand_in(monkeypatch):
    """A module of sections for an experiment: it shows the document's experiment."""

    def put(experiment: str) -> None:
        name = f"p2.practical.{documents.ROOMS[experiment]}.section"
        module = types.ModuleType(name)
        module.sections = lambda document, folder: [
            {"title": f"Curves of {experiment}", "html": f"<p>seen in {folder.name}</p>"}
        ]
        monkeypatch.setitem(sys.modules, name, module)

    for experiment in pages.EXPERIMENTS:
        put(experiment)
        monkeypatch.setitem(SHOWN, experiment, Any)


@pytest.mark.usefixtures("stand_in")
def test_it_holds_whatever_is_there(tmp_path, checked):
    for experiment in ("text", "baum-sweet"):
        documents.write(tmp_path, made_up(experiment))
    assert pages.write(tmp_path) == tmp_path / "report.html"
    markup = (tmp_path / "report.html").read_text()
    read = checked(markup)
    assert read.text.index("Curves of baum-sweet") < read.text.index("Curves of text")
    assert "Curves of gradients" not in read.text
    assert read.text.index("baum-sweet converges") < read.text.index("Curves of baum-sweet")
    assert "2 claims confirmed" in read.text
    assert "2 claims not confirmed" in read.text
    assert "1:15 in all, 2:20 of processor time" in read.text
    assert "Imaginary 9000" in read.text
    assert f"seen in {tmp_path.name}" in read.text


@pytest.mark.usefixtures("stand_in")
def test_it_is_one_file_that_needs_nothing_else(tmp_path, checked):
    documents.write(tmp_path, made_up("gradients"))
    markup = pages.write(tmp_path).read_text()
    read = checked(markup)
    assert not {"script", "link", "img", "iframe", "object"} & set(read.tags)
    assert read.links
    assert {link[1:] for link in read.links if link.startswith("#")} <= set(read.ids)
    assert all(link.startswith("#") for link in read.links)
    assert len(read.ids) == len(set(read.ids))
    assert not re.search(r"@import|url\((?!#)", markup)


@pytest.mark.usefixtures("stand_in")
def test_what_comes_from_a_document_is_escaped(tmp_path, checked):
    claim = {"where": NASTY, "seed": NASTY, "measured": NASTY, "verdict": "explained"}
    document = made_up("text", claims=[claim], machine={NASTY: NASTY}, settings={"prompt": NASTY}, mode=NASTY)
    documents.write(tmp_path, document)
    markup = pages.write(tmp_path).read_text()
    assert "<script" not in markup
    assert 'alert("x")</script>&amp;' in checked(markup).text


@pytest.mark.parametrize(
    ("verdict", "looks"),
    [("confirmed", "yes"), ("not confirmed", "no"), ("explained", "told"), ("not measured", "none")],
)
def test_every_verdict_has_a_sign_of_its_own(verdict, looks):
    assert f'class="mark {looks}"' in pages.verdict(verdict)
    assert verdict in pages.verdict(verdict)


@pytest.mark.usefixtures("stand_in")
def test_another_run_stands_in_a_folder_inside(tmp_path, checked):
    documents.write(tmp_path, made_up("text"))
    (tmp_path / "large").mkdir()
    documents.write(tmp_path / "large", made_up("text", machine={"processor": "Colossus"}))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/log.jsonl").write_text("{}")
    read = checked(pages.write(tmp_path).read_text())
    assert "Generated text: large" in read.text
    assert "seen in large" in read.text
    assert "Colossus" in read.text
    assert "1 claims confirmed" in read.text  # of the page's own runs
    assert len(read.ids) == len(set(read.ids))
    assert {link[1:] for link in read.links} <= set(read.ids)


COMMITTED = sorted((ROOT / "artifacts/practical").glob("**/*.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_the_committed_claims_are_made_from_their_results(path):
    document = documents.read(path)
    claims_of, _ = again._makers(document["experiment"])
    assert document["claims"] == claims_of(document["results"])
    for claim in document["claims"]:
        # A value and what it is of do not run into one number.
        assert not re.search(r"\b(?:T|tau) = [\d.]+ [-+]?\d", claim["measured"]), claim["measured"]


def test_the_report_judges_and_draws_finished_documents_again(tmp_path, monkeypatch):
    finished = documents.read(ROOT / "artifacts/practical/gradients.json")

    def draw(results, folder):
        assert results == finished["results"]
        for figure in finished["figures"]:
            with drawing(folder / figure["file"], 2, 2) as canvas:
                canvas.text(0, 0, "anew")
        return finished["figures"]

    monkeypatch.setattr("p2.practical.gradients.plots.draw", draw)
    documents.write(tmp_path, finished | {"claims": [], "figures": []})
    assert main(["practical", "report", "--out", str(tmp_path)]) == 0
    assert documents.read(tmp_path / "gradients.json") == finished
    written = (tmp_path / "gradients.json").stat()
    assert main(["practical", "report", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "gradients.json").stat() == written  # it is as it would be written
    page = (tmp_path / "report.html").read_text()
    assert page.count(">anew</text>") == len(finished["figures"])
    assert "<rect" not in page  # the paper of a picture of its own


def test_results_that_are_none_are_a_sentence(tmp_path, capsys):
    documents.write(tmp_path, made_up("gradients"))
    assert main(["practical", "report", "--out", str(tmp_path)]) == 1
    assert "is damaged" in capsys.readouterr().err


def test_no_document_is_a_sentence(tmp_path, capsys):
    with pytest.raises(P2Error, match="no document"):
        pages.write(tmp_path)
    assert main(["practical", "report", "--out", str(tmp_path / "nowhere")]) == 1
    assert "there is no document of an experiment in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"), [("{", "damaged"), ("{}", "not a document"), ('{"experiment": 1}', "not a document")]
)
def test_a_damaged_document_is_a_sentence(tmp_path, content, says):
    (tmp_path / "text.json").write_text(content)
    with pytest.raises(P2Error, match=says):
        pages.write(tmp_path)


def test_an_older_document_is_a_sentence(tmp_path):
    documents.write(tmp_path, made_up("text", version=0))
    with pytest.raises(P2Error, match="run its experiment again"):
        pages.write(tmp_path)
