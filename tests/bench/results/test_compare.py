"""Two reports: what changed, what is noise, what cannot be compared."""

from __future__ import annotations

import copy
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from p2.bench import compare
from p2.bench.compare import FIRST, LOAD, MEMORY, PROMPT, SPEED


def pair(bench, **changes):
    """A report, and a copy whose p2 float32 has changed."""
    before = bench.document(bench.model(512))
    after = copy.deepcopy(before)
    bench.of(after["models"][0], "p2-float32").update(changes)
    return before, after


def of(changes, key, figure):
    (found,) = [c for c in changes if (c.key, c.figure) == (key, figure)]
    return found


def test_the_same_report_shows_no_change(bench):
    before, after = pair(bench)
    changes = compare.compare(before, after)
    assert len(changes) == 6 * 9  # six contenders that ran, five figures and four batches beside one text
    assert {change.ratio for change in changes} == {1.0}
    assert {change.better for change in changes} == {None}
    assert {change.verdict for change in changes} == {"within the noise", "no change"}
    assert compare.warnings(before, after) == []


# The rounds before: 7,840 to 8,160.
@pytest.mark.parametrize(
    ("p5", "median", "p95", "real", "verdict"),
    [
        (8161.0, 8800.0, 9000.0, True, "faster"),
        (8160.0, 8800.0, 9000.0, False, "within the noise"),
        (7000.0, 7200.0, 7839.0, True, "slower"),
        (7000.0, 7200.0, 7840.0, False, "within the noise"),
    ],
)
def test_a_change_is_real_where_the_rounds_lie_apart(bench, p5, median, p95, real, verdict):
    speed = {"median": median, "p5": p5, "p95": p95, "values": [median] * 5}
    change = of(compare.compare(*pair(bench, characters_per_second=speed)), "p2-float32", SPEED)
    assert (change.before, change.after) == (8000.0, median)
    assert change.ratio == pytest.approx(median / 8000)
    assert (change.real, change.verdict) == (real, verdict)
    assert change.better is (median > 8000)


@given(
    st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)).map(sorted),
    st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)).map(sorted),
)
def test_reality_does_not_depend_on_the_order(bench, one, two):
    def spread(low, high):
        return {"median": (low + high) / 2, "p5": low, "p95": high, "values": [low, high]}

    a, b = (bench.document(bench.model(512)) for _ in range(2))
    for document, bounds in ((a, one), (b, two)):
        bench.of(document["models"][0], "p2-float32")["characters_per_second"] = spread(*bounds)
    forth, back = (of(compare.compare(*d), "p2-float32", SPEED) for d in ((a, b), (b, a)))
    assert forth.real == back.real == (max(one[0], two[0]) > min(one[1], two[1]))
    assert forth.ratio * back.ratio == pytest.approx(1)


@pytest.mark.parametrize(
    ("changes", "figure", "ratio", "verdict"),
    [
        (
            {"prompt": {"length": 10, "characters_per_second": 64_000.0, "values": [64_000.0]}},
            PROMPT,
            2,
            "faster, measured once",
        ),
        ({"load_s": 0.125}, LOAD, 0.5, "faster, measured once"),
        ({"first_character_s": 0.62}, FIRST, 2, "slower, measured once"),
        ({"peak_memory_bytes": 150 << 20}, MEMORY, 0.5, "less, measured once"),
        ({"peak_memory_bytes": 600 << 20}, MEMORY, 2, "more, measured once"),
    ],
)
def test_figures_measured_once_are_not_called_real(bench, changes, figure, ratio, verdict):
    change = of(compare.compare(*pair(bench, **changes)), "p2-float32", figure)
    assert change.ratio == pytest.approx(ratio)
    assert change.real is None
    assert change.verdict == verdict


def test_prompts_and_batches_are_compared_by_their_rounds(bench):
    """The rounds before: all at 32,000 and 24,000 characters/s; percentiles lie a fifth of the way in."""
    rounds = {"characters_per_second": 30_000.0, "values": [20_000.0, 30_000.0, 30_000.0, 30_000.0, 31_000.0]}
    points = [bench.point(1, 125.0), bench.point(16, 1e6 / 30_000) | rounds]
    changes = compare.compare(*pair(bench, prompt={"length": 10} | rounds, batches=points))
    prompt, batch = (of(changes, "p2-float32", figure) for figure in (PROMPT, f"16 texts, {SPEED}"))
    assert (prompt.before, prompt.after, prompt.verdict) == (32_000.0, 30_000.0, "slower")
    assert (batch.before, batch.after, batch.verdict) == (24_000.0, 30_000.0, "within the noise")
    assert of(changes, "p2-float32", f"64 texts, {SPEED}").note == "not measured in the second report"


def test_what_is_on_one_side_only_is_listed(bench):
    before, after = pair(bench, load_s=None)
    before["models"].append(bench.model(128))
    after["models"].append(bench.model(256))
    after["models"][0]["entries"] = [
        entry for entry in after["models"][0]["entries"] if entry["key"] != "openvino"
    ] + [bench.entry("new")]
    bench.of(after["models"][0], "torch-compile")["skipped"] = "no compiler"
    changes = compare.compare(before, after)
    notes = {(c.model, c.key, c.figure): c.note for c in changes if c.note}
    assert notes == {
        ("lstm,2,256,512", "p2-float32", LOAD): "not measured in the second report",
        ("lstm,2,256,512", "openvino", ""): "only in the first report",
        ("lstm,2,256,512", "new", ""): "only in the second report",
        ("lstm,2,256,512", "torch-compile", ""): "not run in the second report: no compiler",
        ("lstm,2,64,128", "", ""): "only in the first report",
        ("lstm,2,128,256", "", ""): "only in the second report",
    }
    assert all(c.ratio is None for c in changes if c.note)


def test_other_machines_versions_settings_and_models_are_warned_of(bench):
    before, after = pair(bench)
    after["p2"] = "1.3.0"
    after["quick"] = True
    after["machine"]["processor"] = "Other"
    after["machine"]["packages"] = {"numpy": "2.4.0"}
    after["settings"] = before["settings"] | {"rounds": 3, "training": {"x": 1}, "start_up": {"help_s": 1}}
    after["models"][0]["card"]["layers"] = 3
    assert compare.warnings(before, after) == [
        "p2: 1.2.3 before, 1.3.0 after",
        "the second report is of a quick run, the other is not",
        "machine.processor: Imaginary 9000 before, Other after",
        "machine.packages.numpy: 2.3.0 before, 2.4.0 after",
        "machine.packages.torch: 2.9.0 before, nothing after",
        "settings.rounds: 5 before, 3 after",
        "model lstm,2,256,512: LSTM, 2 layers, hidden 512 before, LSTM, 3 layers, hidden 512 after",
    ]


def test_both_forms_show_every_row(bench):
    before, after = pair(bench, characters_per_second=bench.spread(16_000.0), peak_memory_bytes=100 << 20)
    after["machine"]["processor"] = "[red]Other[/] | <b>"
    out = io.StringIO()
    compare.show(before, after, Console(file=out, width=200))
    markdown = compare.to_markdown(before, after)
    row = ["lstm,2,256,512", "p2 float32", SPEED, "8,000", "16,000", "2.00×", "faster"]
    assert f"| {' | '.join(row)} |" in markdown
    assert "| 300 MiB | 100 MiB | 0.333× | less, measured once |" in markdown
    assert "Other\\[/\\] \\| \\<b\\>" in markdown
    assert "[red]Other[/] | <b>" in out.getvalue()
    lines = [" ".join(line.replace("│", " ").split()) for line in out.getvalue().splitlines()]
    assert " ".join(row) in lines


def test_nothing_measured_is_nothing_to_compare(bench):
    document = bench.emptied(bench.document(bench.model(512)))
    assert compare.compare(document, document) == []
    assert compare.to_markdown(document, document).count("\n") == 2
