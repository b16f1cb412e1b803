"""The pictures hold what the results say."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from p2.practical.text import plots


def words(path) -> str:
    root = ElementTree.parse(path).getroot()
    assert root.tag.endswith("svg")
    return " | ".join(text for text in root.itertext() if text.strip())


def test_every_picture_is_drawn_with_its_words(results, tmp_path):
    made = plots.draw(results, tmp_path)
    assert [figure["file"] for figure in made] == sorted(
        (path.name for path in tmp_path.iterdir()), key=[f["file"] for f in made].index
    )
    for figure in made:
        assert figure["title"]
        assert figure["caption"]
    training = words(tmp_path / "text-training.svg")
    assert "the report" in training
    assert "best possible" in training
    for name in ("text-positions.svg", "text-words-copies.svg", "text-loops.svg"):
        for accuracy in ("0.65", "0.75", "0.84"):
            assert f"accuracy {accuracy}" in words(tmp_path / name)


def test_the_same_results_give_the_same_files(results, tmp_path):
    plots.draw(results, tmp_path / "a")
    plots.draw(results, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_checkpoint_that_stands_in_says_its_accuracy(results):
    assert plots.label(results["checkpoints"][0]) == "accuracy 0.65"
    assert plots.label({"asked": None, "running_accuracy": 0.7131}) == "newest, 0.713"
