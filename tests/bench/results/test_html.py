"""The HTML report: whole, alone, escaped, and true to the document."""

from __future__ import annotations

import json
import re

import pytest

from p2.bench import html
from p2.bench.html import page
from p2.cli import main

DRAWN: dict[str, object] = {}


@pytest.fixture(autouse=True)
def drawn_once(monkeypatch):
    """Equal figures are drawn once: the pages of these tests have many in common."""

    def once(draw):
        def drawn(*given):
            key = f"{draw.__name__} {given}"
            if key not in DRAWN:
                DRAWN[key] = draw(*given)
            return DRAWN[key]

        return drawn

    for draw in (html.plots.of_run, html.plots.of_model):
        monkeypatch.setattr(html.plots, draw.__name__, once(draw))


NASTY = '<script>alert("x")</script>&amp;\'\x00\ud800'


def test_the_page_is_one_whole_file(judged, checked):
    markup = page(judged(512, 2048))
    read = checked(markup)
    assert markup.startswith("<!doctype html>")
    assert {"html", "head", "title", "body", "main", "svg", "table", "details"} <= set(read.tags)
    assert not {"script", "link", "img", "iframe", "object"} & set(read.tags)
    assert read.links
    assert all(link.startswith("#") for link in read.links)
    assert {link[1:] for link in read.links} <= set(read.ids)
    assert len(read.ids) == len(set(read.ids))
    assert not re.search(r"@import|url\((?!#)", markup)
    addresses = set(re.findall(r"https?://[^\s\"'<>]+", markup))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_headline_says_how_much_faster(judged, checked):
    read = checked(page(judged(128, 512, 2048)))
    assert "16.0 times as fast as nn.LSTM in eager PyTorch, at hidden 512" in read.text  # 2,000 / 125 µs
    assert "40.0 times eager PyTorch at hidden 512, p2 in int8" in read.text  # int8: 50 µs
    assert "8,000 characters per second of one text in float32, 20,000 in int8" in read.text
    assert "Imaginary 9000, 2 processors" in read.text
    assert "L3 32.0 MiB" in read.text
    assert "torch 2.9.0" in read.text
    assert "help 0.15 s, generate first character 0.4 s" in read.text


def test_the_fastest_other_is_the_one_that_its_target_names(bench, judged, checked):
    """By the rounds' ratios, not by the median speed, by which OpenVINO is the fastest here."""
    document = judged(512)
    for key, values in (
        ("p2-float32", [4000.0, 8000.0, 8000.0, 8000.0, 16000.0]),
        ("torch-compile", [3500.0, 4000.0, 4500.0, 7500.0, 15000.0]),
    ):
        bench.of(document["models"][0], key)["characters_per_second"]["values"] = values
    read = checked(page(document))
    assert "1.14 times the fastest other float32 at hidden 512 (torch.compile)" in read.text


def test_a_share_of_the_bandwidth_is_shown_of_what_comes_from_memory_only(judged):
    def shown(document):
        words = " ".join(words for _, words in html._tiles(document, document["models"][0]))
        return re.findall(r"of the memory bandwidth, float32 at hidden ([\d,]+)", words)

    assert shown(judged(512, 2048)) == ["2,048"]
    assert shown(judged(128, 512)) == []  # 12.6 MB lie in the cache of 32 MiB
    assert shown(judged(512, 2048) | {"machine": {"caches": {}}}) == []


def test_a_finished_report_is_rendered_again(bench, judged, tmp_path, capsys):
    document = bench.emptied(judged(512))
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert main(["bench", "render", str(tmp_path / "a.json")]) == 0
    said = capsys.readouterr().out
    assert all(str(tmp_path / f"a{suffix}") in said for suffix in (".html", ".md"))
    assert (tmp_path / "a.html").read_text() == page(document)
    assert not (tmp_path / "a.svg").exists()  # there is nothing to draw
    assert main(["bench", "render", str(tmp_path / "b.json")]) == 1


def test_every_target_is_marked(judged, checked):
    document = judged(512, 2048)
    markup = page(document)
    every = [t for m in document["models"] for t in m["targets"]] + document["targets"]
    # Once in the matrix (models only), once in a list.
    for reached, name in ((True, "yes"), (False, "no"), (None, "none")):
        of_models = sum(t["reached"] is reached for m in document["models"] for t in m["targets"])
        of_run = sum(t["reached"] is reached for t in document["targets"])
        assert markup.count(f'class="mark {name}"') == 2 * of_models + of_run
    read = checked(markup)
    for target in every:
        for field in ("what", "goal", "measured", "note"):
            assert target[field] in read.text
    assert "What was missed" in read.text
    assert (
        "p2 generate, from the shell to the first character, small model: 0.4 s, the goal is ≤ 0.35 s"
        in read.text
    )


def test_every_entry_is_shown_and_a_skipped_one_says_why(judged, checked):
    read = checked(page(judged(512)))
    for word in ("nn.LSTM, eager PyTorch", "torch.compile", "p2 int4", "not run: no NVIDIA GPU"):
        assert word in read.text
    for figure in ("125 / 138 / 175", "7,840 … 8,160", "300 MiB", "0.25 s", "0.31 s", "1.5110", "+0.0110"):
        assert figure in read.text


@pytest.mark.parametrize("place", ["name", "source", "title", "skipped", "machine", "settings", "target"])
def test_nothing_from_the_document_becomes_markup(bench, judged, place, checked):
    document = judged(512)
    model = document["models"][0]
    if place in ("name", "source"):
        model[place] = NASTY
    elif place == "title":
        bench.of(model, "openvino")["title"] = NASTY
    elif place == "skipped":
        bench.of(model, "ort-cuda")["skipped"] = NASTY
    elif place == "target":
        model["targets"][0] |= dict.fromkeys(("what", "goal", "measured", "note"), NASTY)
    else:
        document[place] = {NASTY: [NASTY, {NASTY: NASTY}]}
    markup = page(document)
    read = checked(markup)
    assert "script" not in read.tags
    assert '<script>alert("x")</script>&amp;\'��' in read.text
    markup.encode("utf-8")


def test_a_report_without_figures_is_still_a_page(bench, checked):
    document = bench.emptied(bench.document(bench.model(512), bench.model(1024)))
    read = checked(page(document))
    assert "svg" not in read.tags
    assert "Benchmark report" in read.text
    read = checked(page(bench.document(machine={}, settings={})))
    assert all(link[1:] in read.ids for link in read.links)


def test_without_eager_the_headline_names_the_speed(bench, checked):
    model = bench.model(1024)
    model["entries"] = [bench.of(model, "p2-float32")]
    assert "2,000 characters per second at hidden 1,024" in checked(page(bench.document(model))).text


def test_the_leading_model_is_unfolded(judged):
    markup = page(judged(128, 512, 2048))
    assert markup.count("<details>") == 2
    assert re.findall(r"<details open>\s*<summary><b>([^<]*)", markup) == ["lstm,2,256,512"]
