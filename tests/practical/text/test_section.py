"""The part of the page about texts, from a document alone."""

from __future__ import annotations

import copy
import shutil

import pytest

from p2.contract.errors import P2Error
from p2.practical.text import plots
from p2.practical.text import section as text_section

from .conftest import RESULTS

NASTY = "<i>&amp;\n\"'"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The pictures of the results as they are, and what is said of them."""
    folder = tmp_path_factory.mktemp("drawn")
    return folder, plots.draw(RESULTS, folder)


@pytest.fixture
def document(results, drawn, tmp_path):
    folder, figures = drawn
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    return {"results": results, "settings": {"prompt": NASTY}, "figures": copy.deepcopy(figures)}


def test_it_shows_tables_and_pictures(document, tmp_path, checked):
    shown = text_section.sections(document, tmp_path)
    for number in (1, 2, 3):
        assert sum(f"table {number}" in section["title"] for section in shown) == 1
    read = checked("".join(section["html"] for section in shown))
    assert read.tags.count("svg") == len(document["figures"]) == 4
    assert "the first 512,000 of the 600,000 characters of road.txt" in read.text
    assert "10,000 updates took 39:05" in read.text
    assert "stands in" not in read.text
    assert NASTY.replace("\n", "") in read.text.replace("� ", "").replace("�", "")
    assert "<i>" not in "".join(section["html"] for section in shown)


def test_an_accuracy_that_was_not_reached_is_said(document, tmp_path, checked):
    document["results"]["checkpoints"][-1]["asked"] = None
    read = checked(text_section.sections(document, tmp_path)[0]["html"])
    assert (
        "Not every accuracy asked for was reached: the newest checkpoint, at 0.840, stands in." in read.text
    )


@pytest.mark.usefixtures("turnip")
def test_texts_with_a_slur_are_not_shown_and_counted(document, tmp_path, put):
    before = text_section.sections(document, tmp_path)
    assert not any("not shown" in section["html"] for section in before)
    bad = {"text": "Turnips all", "given": 1, "spans": [], "loop": None}
    results = document["results"]
    results["checkpoints"][0]["greedy"]["excerpts"].append(bad)
    put(results, "checkpoints.1.greedy.left_out", 2)  # by the choice
    put(results, "checkpoints.0.sampled.1.excerpts", [bad])
    put(results, "checkpoints.2.prompt.excerpt", bad)
    put(results, "checkpoints.2.completions.excerpts", [bad])
    after = text_section.sections(document, tmp_path)
    _, greedy, sampled, completed, figures_of = (section["html"] for section in after)
    why = "not shown, for a slur would be seen; the figures count all texts."
    assert f" 3 texts are {why}" in greedy
    assert f" 1 text is {why}" in sampled
    assert f" 2 texts are {why}" in completed
    assert "Turnip" not in greedy + sampled + completed
    assert figures_of == before[-1]["html"]


def test_a_missing_picture_is_a_sentence(document, tmp_path):
    (tmp_path / "text-loops.svg").unlink()
    with pytest.raises(P2Error, match=r"text-loops\.svg is missing"):
        text_section.sections(document, tmp_path)


@pytest.mark.parametrize(
    ("shown", "markup"),
    [
        (
            {"text": "a<b\ncd", "given": 1, "spans": [], "loop": None},
            "<b>a</b>&lt;b\ncd",
        ),
        (
            {"text": "0123456789", "given": 0, "spans": [(1, 4), (4, 6)], "loop": None},
            '0<mark class="a">123</mark><mark class="b">45</mark>6789',
        ),
        (  # overlapping pieces meet where the first ends, and what was given is not marked
            {"text": "0123456789", "given": 2, "spans": [(0, 5), (3, 8), (4, 5)], "loop": None},
            '<b>01</b><mark class="a">234</mark><mark class="b">567</mark>89',
        ),
        (
            {"text": "abab", "given": 0, "spans": [], "loop": 2},
            'abab <span class="under">(ends in a loop of 2)</span>',
        ),
    ],
)
def test_copied_pieces_are_marked_in_turn(shown, markup):
    assert text_section.excerpt(shown) == f'<p class="excerpt">{markup}</p>'
