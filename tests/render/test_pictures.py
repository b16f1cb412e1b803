"""Pictures and pages: nothing lies on anything else, nothing is cut, and all follow the reader's theme."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from p2.bench import html, plots
from p2.bench.reading import load
from p2.cli import main
from p2.commands import demonstration as demo
from p2.parity import report as parity_report
from p2.practical import page as practical_page
from p2.practical.gradients import plots as gradients_plots
from p2.practical.text import plots as text_plots
from p2.practical.toy import plots as toy_plots
from p2.render.html.style import CSS
from p2.trainer import curve
from p2.trainer.drawing import DARK

ARTIFACTS = Path(__file__).parent.parent.parent / "artifacts"
SPACE = 4  # pixels, of 100 in an inch, that are the least between words in a line
LONG = "a-model-with-quite-a-long-name-{}.onnx"


def results(experiment: str) -> dict:
    return json.loads((ARTIFACTS / f"practical/{experiment}.json").read_text())["results"]


def bench(_: Path) -> None:
    document = load(ARTIFACTS / "bench/zen4-2-cores.json")
    plots.latency_by_size(document)
    plots.of_model(document["models"][2], plots.styles(document))


def parity(_: Path) -> None:
    errors = np.logspace(-7, -2, 50)
    engines = [(LONG.format(n), "ONNX Runtime int8 (CPU), beside others") for n in range(9)]
    parity_report._picture([SimpleNamespace(path=p, engine=e, drift=lambda: (errors, 1)) for p, e in engines])


def training(folder: Path) -> None:
    lines = [
        {"step": step, "bits_per_character": 5.0, "accuracy": 0.2}
        | ({"val_bits_per_character": 4.9, "val_accuracy": 0.3} if step % 2000 == 0 else {})
        for step in range(0, 120_000, 1000)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert curve.draw(folder / "log.jsonl", folder / "curve.svg")


DRAWN = {
    "demo": lambda _: demo._picture(json.loads((ARTIFACTS / "evidence/demo.json").read_text())),
    "parity": parity,
    "curve": training,
    "bench": bench,
    "gradients": lambda folder: gradients_plots.draw(results("gradients"), folder),
    "toy": lambda folder: toy_plots._convergence(results("baum-sweet"), folder),
    "text": lambda folder: text_plots.draw(results("text"), folder),
}


@pytest.mark.parametrize("name", DRAWN)
def test_nothing_lies_on_anything_else(name, tmp_path, monkeypatch):
    seen = []

    def look(figure, target, **_):
        seen.append(figure)
        renderer = laid_out(figure)
        faults = [*collisions(figure, renderer), *covered(figure, renderer)]
        assert not faults, faults
        target.write("<svg></svg>")

    monkeypatch.setattr(Figure, "savefig", look)
    DRAWN[name](tmp_path)
    assert seen


def words_of(figure: Figure) -> list[Text]:
    """The words that are drawn; those of ticks beyond the axes are not."""
    hidden = set()
    for axes in figure.axes:
        for axis, low, high, place in (
            (axes.xaxis, axes.bbox.x0, axes.bbox.x1, 0),
            (axes.yaxis, axes.bbox.y0, axes.bbox.y1, 1),
        ):
            for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
                at = axes.transData.transform([tick.get_loc()] * 2)[place]
                if not low - 1 <= at <= high + 1:
                    hidden |= {tick.label1, tick.label2}
    found = (text for text in figure.findobj(Text) if text not in hidden)
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def laid_out(figure: Figure):
    """The renderer that knows where everything is."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    return canvas.get_renderer()


def collisions(figure: Figure, renderer) -> list[str]:
    """Words that run into others, or out of the picture."""
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in words_of(figure)]
    whole = figure.bbox.padded(1)
    cut = [words for words, box in boxes if not (whole.contains(*box.min) and whole.contains(*box.max))]
    pairs = [
        (words, others)
        for (words, a), (others, b) in itertools.combinations(boxes, 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > -SPACE and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]
    return [f"{words!r} is cut" for words in cut] + [f"{a!r} lies on {b!r}" for a, b in pairs]


def covered(figure: Figure, renderer) -> list[str]:
    """Legends on data: anywhere within axes, whatever lies there this time."""
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    boxes = [legend.get_window_extent(renderer) for legend in legends]
    return [
        "a legend covers data"
        for box, axes in itertools.product(boxes, figure.axes)
        if box.overlaps(axes.get_window_extent(renderer))
    ]


def test_what_is_looked_for_is_found():
    figure = Figure(figsize=(2, 2))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 350_000], label="a line")
    axes.legend()
    axes.set_xticks([0, 0.01, 1], ["nought", "a hundredth", "one"])
    axes.set_ylabel("words")
    renderer = laid_out(figure)
    found = collisions(figure, renderer)
    assert "'nought' lies on 'a hundredth'" in found
    assert any("cut" in fault for fault in found)
    assert covered(figure, renderer)


PICTURES = sorted(ARTIFACTS.glob("**/*.svg"))
PAGES = ("bench", "practical")


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Callable[[str], str]:
    """Pages as `make pages` builds them: that of one benchmark, and the practical's."""
    place = tmp_path_factory.mktemp("pages") / "practical"
    shutil.copytree(ARTIFACTS / "practical", place, ignore=shutil.ignore_patterns("*.html"))
    of = {
        "bench": html.page(load(ARTIFACTS / "bench/zen5-cells.json")),
        "practical": practical_page.write(place).read_text(),
    }
    return of.__getitem__


def test_pages_are_built_and_not_kept():
    root = ARTIFACTS.parent
    assert "*.html" in (root / ".gitignore").read_text().splitlines()
    if (root / ".git").exists() and shutil.which("git"):
        kept = subprocess.run(["git", "ls-files", "*.html"], cwd=root, capture_output=True, text=True)
        assert {name.partition("/")[0] for name in kept.stdout.split()} == {"contract", "export", "serve"}
    recipe = re.search(r"^pages:.*\n((?:\t.*\n)+)", (root / "Makefile").read_text(), re.MULTILINE)[1]
    commands = re.findall(r"\t\$\(BIN\)/p2 (\w+ \w+)", recipe)
    assert commands == ["bench render", "practical report"]
    assert all(main([*command.split(), "--help"]) == 0 for command in commands)


def test_the_practicals_page_holds_the_run_at_the_reports_scale(page):
    assert "Generated text: seed-scale" in page("practical")


def colours(markup: str) -> set[str]:
    return set(re.findall(r"(?:fill|stroke): (#\w+)", markup))


@pytest.mark.parametrize("path", PICTURES, ids=lambda p: p.name)
def test_a_picture_of_its_own_is_legible_in_the_dark(path):
    head, _, body = path.read_text().partition("</style>")
    assert '<rect width="100%" height="100%" style="fill: #ffffff"/>' in body
    assert "@media (prefers-color-scheme: dark)" in head
    for colour in colours(body):
        for what in ("fill", "stroke"):
            assert f'[style*="{what}: {colour}"] {{ {what}: {DARK[colour]} !important }}' in head


@pytest.mark.parametrize("drawn", [*PICTURES, *PAGES], ids=lambda d: getattr(d, "name", d))
def test_words_and_lines_take_their_colour_from_the_theme(drawn, page):
    markup = page(drawn) if drawn in PAGES else drawn.read_text()
    for drawn in re.findall(r"<svg .*?</svg>", markup, re.DOTALL):
        body = drawn.rpartition("</style>")[2]
        assert colours(body) <= set(DARK)
        assert all("fill: #" in style for style in re.findall(r'<text style="([^"]*)"', body))


def test_pages_put_dark_colours_in_the_place_of_all_light_ones():
    dark = CSS.rpartition("@media (prefers-color-scheme: dark)")[2]
    for light, colour in DARK.items():
        for what in ("fill", "stroke"):
            assert f'figure [style*="{what}: {light}"] {{ {what}: {colour} !important }}' in dark
    figure = re.search(r"^figure \{[^}]*\}", CSS, re.MULTILINE)[0]
    assert "var(--card)" in figure
    assert f"--card: {DARK['#ffffff']}" in CSS


class Boxes(HTMLParser):
    """What is inside what: tables and pictures that no box lets scroll, and widths that are set."""

    VOID = frozenset({"meta", "br", "wbr", "link", "hr", "img"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.loose: list[str] = []
        self.count = 0

    def handle_starttag(self, tag, attributes):
        about = dict(attributes)
        inside = {name for name, _ in self.open}
        if tag in ("table", "svg"):
            self.count += 1
            if not any("scroll" in kinds.split() for _, kinds in self.open):
                self.loose.append(tag)
        if "svg" not in inside and ("width" in about or "width" in about.get("style", "")):
            self.loose.append(f"{tag} with a width")
        if tag not in self.VOID:
            self.open.append((tag, about.get("class") or ""))

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass


@pytest.mark.parametrize("name", PAGES)
def test_what_is_wide_scrolls_in_a_box_of_its_own(name, page):
    boxes = Boxes()
    boxes.feed(re.sub(r"(<svg )[^>]*>.*?</svg>", r"\1></svg>", page(name), flags=re.DOTALL))
    assert boxes.count > 10
    assert not boxes.loose
    assert re.search(r"\.scroll \{ overflow-x: auto", CSS)
    # Least widths are of what stands in such boxes; what is wider than a phone stands nowhere else.
    for selector, body in re.findall(r"^\s*([^@{}]+?) \{([^}]*)\}", CSS, re.MULTILINE):
        for width in re.findall(r"(?<![-\w])(?:min-)?width: ([\d.]+)rem", body):
            assert float(width) <= 20 or "svg" in selector, selector


@pytest.mark.parametrize("name", PAGES)
def test_the_words_of_a_picture_can_be_read_on_a_phone(name, page):
    """At the least width that the style sheet gives it, of which a box shows a part at a time."""
    usual, wide = (
        float(re.search(rf"^{kind} svg \{{[^}}]*min-width: ([\d.]+)rem", CSS, re.MULTILINE)[1]) * 16
        for kind in ("figure", r"figure\.wide")
    )
    shown = re.findall(r"<figure([^>]*)>.*?(<svg .*?</svg>)", page(name), re.DOTALL)
    assert len(shown) >= 10
    for kind, svg in shown:
        scale = (wide if "wide" in kind else usual) / float(re.search(r'viewBox="0 0 ([\d.]+) ', svg)[1])
        sizes = [float(size) for size in re.findall(r"<text style=\"[^\"]*?([\d.]+)px", svg)]
        assert min(sizes) * scale >= 6, (kind, min(sizes), scale)


def test_no_line_of_what_was_missed_ends_inside_a_figure(page):
    missed = re.search(r"<h3>What was missed</h3>\n<ul>(.*?)</ul>", page("bench"), re.DOTALL)[1]
    assert re.search(r"\d&nbsp;%", missed)
    assert re.search(r"[≤≥]&nbsp;\d", missed)
    assert not re.search(r"\d %|[≤≥] ", missed)
