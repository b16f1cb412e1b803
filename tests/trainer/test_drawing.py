"""The one look of all pictures: what is drawn can be told apart, on light and on dark paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from p2.trainer import drawing
from p2.trainer.drawing import BAND, DARK, EDGE, INK, PAPER, SOFT, alone, canvas, element, legend, svg


def test_there_is_one_writer_of_pictures_and_one_place_for_their_colours():
    root = Path(drawing.__file__).parent.parent
    rooms = [path.parent for path in root.glob("*/__init__.py") if path.parent.name != "tests"]
    sources = [path for room in rooms for path in room.rglob("*.py")]
    assert len(sources) > 100
    for path in sources:
        text = path.read_text(encoding="utf-8")
        if path.name != "drawing.py":
            assert "savefig" not in text, path
            assert path.name == "style.py" or not re.search(r"#[0-9a-fA-F]{6}\b", text), path


def luminance(colour: str) -> float:
    """Relative luminance of sRGB (WCAG 2.2)."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(colour: str, other: str) -> float:
    high, low = sorted((luminance(colour), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_its_definition():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("colour", [INK, SOFT])
def test_words_are_legible_on_both_papers(colour):
    assert contrast(colour, PAPER) >= 4.5
    assert contrast(DARK[colour], DARK[PAPER]) >= 4.5
    assert contrast(DARK[colour], DARK[BAND]) >= 4.5


@pytest.mark.parametrize("colour", [*drawing.COLOURS, *drawing.MORE_COLOURS, drawing.GREY, EDGE])
def test_lines_stand_out_on_dark_paper(colour):
    assert contrast(DARK[colour], DARK[PAPER]) >= 3


def test_dark_colours_are_as_many_as_light_ones():
    assert len(set(DARK.values())) == len(DARK)


def drawn() -> str:
    with canvas(3, 2) as figure:
        axes = figure.add_subplot(title="A <title>")
        axes.plot([1, 2], label="line")
        axes.axvspan(0, 1, color=BAND)
        legend(figure)
        return svg(figure, "a name")


def test_a_picture_of_its_own_can_be_taken_into_a_page():
    bare = drawn()
    assert bare == drawn()
    assert bare.startswith("<svg ")
    whole = alone(bare)
    assert whole != bare
    assert "prefers-color-scheme: dark" in whole
    assert f"fill: {PAPER}" in whole
    assert 'width="216pt"' in whole.partition(">")[2].partition(">")[0]  # 3 inches
    assert element(whole) == bare
    assert element(bare + "\n") == bare  # as former versions wrote it


def test_what_several_panels_share_is_named_once():
    with canvas(6, 2) as figure:
        height = figure.get_figheight()
        for axes in figure.subplots(1, 2):
            axes.plot([1, 2], label="shared")
            axes.plot([2, 1], label=f"only {id(axes)}")
        legend(figure)
        assert len(figure.legends[0].get_texts()) == 3
        assert figure.get_figheight() > height
