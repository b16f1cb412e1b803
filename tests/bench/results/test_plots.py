"""The plots: what they show, that they need nothing else, and that none is empty."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import matplotlib
import pytest

from p2.bench import plots

SVG = "{http://www.w3.org/2000/svg}"


def words(plot):
    return " ".join(node.text or "" for node in ElementTree.fromstring(plot.svg).iter(f"{SVG}text"))


def colours(plot):
    return set(re.findall(r"#[0-9a-f]{6}", plot.svg.lower()))


def test_every_contender_has_a_look_of_its_own_and_keeps_it(bench):
    document = bench.document(bench.model(512), bench.model(1024))
    looks = plots.styles(document)
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(looks) == 7
    assert {key for key, look in looks.items() if not look.dashed} == {"p2-float32", "p2-int8", "p2-int4"}
    # One more contender at the end changes nobody's colour.
    document["models"][1]["entries"].append(bench.entry("late"))
    assert {key: look for key, look in plots.styles(document).items() if key != "late"} == looks


def test_latency_has_a_line_for_each_contender_over_the_sizes(bench):
    document = bench.document(*(bench.model(h) for h in (512, 128, 2048)))
    plot = plots.latency_by_size(document)
    assert plot.title == "Latency by size (LSTM, 2 layers)"
    shown = words(plot)
    for word in ("128", "512", "2,048", "OpenVINO", "p2 int8", "hidden size", "µs per character"):
        assert word in shown
    assert "CUDA" not in shown  # skipped
    looks = plots.styles(document)
    assert {looks[k].colour.lower() for k in ("p2-float32", "torch-eager")} <= colours(plot)


def test_one_size_is_no_curve(bench):
    assert plots.latency_by_size(bench.document(bench.model(512))) is None
    assert plots.latency_by_size(bench.document()) is None
    gru = bench.model(256, card={"cell": "gru", "layers": 1, "embedding": 8, "hidden": 256})
    assert plots.latency_by_size(bench.document(bench.model(512), gru)) is None


def test_every_plot_of_a_model(bench):
    model = bench.model(512)
    looks = plots.styles(bench.document(model))
    titles = [plot.title for plot in plots.of_model(model, looks)]
    assert titles == [
        "Characters per second, one text",
        "Many texts side by side",
        "Roofline",
        "Quality against speed",
    ]
    bars, batches, roofline, quality = plots.of_model(model, looks)
    assert "20,000" in words(bars)  # int8: 50 µs
    assert "256" in words(batches)
    assert "128 Gflop/s" in words(roofline)
    assert "32.0 GB/s" in words(roofline)
    assert "torch.compile" not in words(roofline)  # p2's precisions only
    assert "limit for int8" in words(quality)
    assert "limit for int4" in words(quality)


def test_what_has_no_data_is_left_out(bench):
    document = bench.emptied(bench.document(bench.model(512), bench.model(1024)))
    assert plots.of_run(document) == []
    assert all(plots.of_model(m, plots.styles(document)) == [] for m in document["models"])


@pytest.mark.parametrize(
    ("field", "empty", "gone"),
    [("quality", None, "Quality against speed"), ("bytes_per_step", None, "Roofline")],
)
def test_a_missing_figure_takes_its_plot_only(bench, field, empty, gone):
    model = bench.model(512)
    for entry in model["entries"]:
        entry[field] = empty
    titles = [plot.title for plot in plots.of_model(model, plots.styles(bench.document(model)))]
    assert gone not in titles
    assert len(titles) == 3


def test_the_head_shows_the_model_of_hidden_512(bench):
    first, second = plots.of_run(bench.document(*(bench.model(h) for h in (128, 512, 2048))))
    assert first.title == "Characters per second, one text (LSTM, 2 layers, hidden 512)"
    assert second.title.startswith("Latency by size")


def test_an_svg_stands_alone_and_beside_others(bench):
    document = bench.document(*(bench.model(h) for h in (512, 1024)))
    looks = plots.styles(document)
    shown = plots.of_run(document)
    shown += [plot for model in document["models"] for plot in plots.of_model(model, looks)]
    seen: set[str] = set()
    for plot in shown:
        root = ElementTree.fromstring(plot.svg)  # well-formed
        assert root.tag == f"{SVG}svg"
        assert root.get("viewBox")
        assert root.get("width") is None
        names = {node.get("id") for node in root.iter() if node.get("id")}
        assert not names & seen
        seen |= names
        used = set(re.findall(r'(?:url\(|href=")#([\w-]+)', plot.svg))
        assert used <= names
        assert "<metadata" not in plot.svg
        assert not re.search(r'(?:href|src)="(?!#)', plot.svg)


def test_titles_are_shown_as_they_are(bench):
    title = "<b>$x_1$ & \"y\"</b> 'é'\x00"
    model = bench.model(512)
    bench.of(model, "openvino")["title"] = title
    bars = plots.bars(model, plots.styles(bench.document(model)))
    assert title.replace("\x00", "�") in words(bars)


def test_drawing_changes_no_global_setting(bench):
    before = dict(matplotlib.rcParams)
    model = bench.model(512)
    first = plots.of_model(model, plots.styles(bench.document(model)))
    assert dict(matplotlib.rcParams) == before
    assert [plot.svg for plot in plots.of_model(model, plots.styles(bench.document(model)))] == [
        plot.svg for plot in first
    ]
