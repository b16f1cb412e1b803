"""Every claim's verdict, both ways, on made-up results."""

from __future__ import annotations

import pytest

from p2.practical.text.claims import claims_of

EXPLAINED = {
    "10,000 batches are about 2.5 epochs.",
    "Accuracy stays in the range of 0.85.",
    "At 0.84 the prompt is soon disregarded.",
    "One prompt has two completions at an accuracy, both by argmax.",
}
NOBODY_CAN_COUNT = {
    "Adam at 0.001 with batches of 128, and an embedding of half to a quarter of the hidden size, work best.",
    "At 0.75 there are fewer grammatical errors, and the sense is less poetic.",
    "At 0.75 completions are more plausible and refer to their prompt.",
}


def test_each_can_come_out_in_the_reports_favour(results):
    found = claims_of(results)
    assert len({claim["seed"] for claim in found}) == len(found) > 20
    for claim in found:
        expected = "confirmed"
        if claim["seed"] in EXPLAINED:
            expected = "explained"
        elif claim["seed"] in NOBODY_CAN_COUNT:
            expected = "not measured"
        assert (claim["seed"], claim["verdict"]) == (claim["seed"], expected)
        assert claim["measured"].endswith(".")
        assert "None" not in claim["measured"]


CHANGES = [
    ("A two-layer LSTM over-fits", "checkpoints.2.asked", None, "not confirmed"),
    (
        "Accuracy stays in the range",
        "checkpoints.2.windows.by_position",
        [0.3] * 5 + [0.8] * 25,
        "not confirmed",
    ),
    ("Accuracy stays in the range", "checkpoints.2.windows.by_position", [0.95] * 30, "not confirmed"),
    ("Most of the learning", "curve.running_accuracy", [0.1, 0.2, 0.3, 0.4, 0.85], "not confirmed"),
    ("At 0.65 greedy texts get stuck", "checkpoints.0.greedy.loops", 0.49, "not confirmed"),
    ("At 0.65 the words", "checkpoints.0.greedy.wording.real_words", 0.94, "not confirmed"),
    ("At 0.65 narration", "checkpoints.0.greedy.wording.marks_per_100", 1.6, "not confirmed"),
    ("At 0.65 narration", "checkpoints.0.greedy.wording.quoted_marks_per_100", 1.9, "not confirmed"),
    ("At 0.65 narration", "checkpoints.0.greedy.wording.quoted_marks_per_100", None, "not measured"),
    ("At 0.75 greedy texts no longer", "checkpoints.1.greedy.loops", 0.3, "explained"),
    ("At 0.75 sentences", "checkpoints.1.greedy.wording.marks_per_100", 0.5, "not confirmed"),
    ("At 0.75 sentences", "checkpoints.1.greedy.wording.marks_per_100", None, "not measured"),
    ("Above 0.80", "checkpoints.2.greedy.copied", 0.45, "not confirmed"),
    ("Copying becomes obvious", "checkpoints.1.greedy.copied", 0.5, "not confirmed"),
    ("Copying becomes obvious", "checkpoints.1.sampled.2.copied", 0.0, "not confirmed"),
    ("tau multiplies", "checkpoints.2.tau.1.top", 0.95, "not confirmed"),
    ("tau multiplies", "checkpoints.2.tau.0.01.entropy", 3.0, "not confirmed"),
    ("At tau 0.5 most words", "checkpoints.0.sampled.0.5.wording.real_words", 0.55, "not confirmed"),
    ("At tau 0.5 there still", "checkpoints.0.sampled.0.5.wording.capital_after_end", 0.08, "not confirmed"),
    ("At tau 0.5 there still", "checkpoints.0.sampled.0.5.wording.word_starts_per_100", 5.0, "not confirmed"),
    ("At tau 0.5 there still", "checkpoints.0.sampled.0.5.wording.capital_after_end", None, "not measured"),
    ("At tau 2 the words", "checkpoints.0.sampled.2.wording.real_words", 0.9, "not confirmed"),
    ("tau 1 lies between", "checkpoints.0.sampled.1.wording.real_words", 0.39, "not confirmed"),
    ("The trend over tau", "checkpoints.2.sampled.1.wording.real_words", 0.6, "not confirmed"),
    ("At 0.84 few words", "checkpoints.2.sampled.1.wording.real_words", 0.94, "not confirmed"),
    ("Sampled texts do not repeat", "checkpoints.0.sampled.1.loops", 0.1, "not confirmed"),
    ("Sampled texts do not repeat", "checkpoints.0.greedy.loops", 0.0, "not confirmed"),
    (
        "At 0.65 sampled sentences",
        "checkpoints.0.sampled.2.wording.sentence_characters",
        100.0,
        "not confirmed",
    ),
    (
        "At 0.65 sampled sentences",
        "checkpoints.0.sampled.2.wording.sentence_characters",
        None,
        "not measured",
    ),
    ("At 0.64 completions", "checkpoints.0.completions.loops", 0.2, "not confirmed"),
    ("At 0.64 completions", "checkpoints.0.completions", None, "not measured"),
    ("At 0.84 the prompt", "checkpoints.2.completions.stray_into_a_copy", 0.1, "not confirmed"),
    ("At 0.84 the prompt", "checkpoints.2.completions.stray", 0.0, "not confirmed"),
    ("At 0.84 the prompt", "checkpoints.2.completions", None, "not measured"),
    ("One prompt has two", "checkpoints.1.prompt.distinct", 2, "not confirmed"),
]


@pytest.mark.parametrize(("claim", "path", "value", "verdict"), CHANGES)
def test_each_can_come_out_otherwise(results, put, claim, path, value, verdict):
    put(results, path, value)
    (found,) = [c for c in claims_of(results) if c["seed"].startswith(claim)]
    assert found["verdict"] == verdict


def test_loops_at_a_glance_are_not_explained_away(results, put):
    put(results, "checkpoints.1.greedy.loops", 0.3)
    put(results, "checkpoints.1.greedy.loops_at_a_glance", 0.2)
    (found,) = [c for c in claims_of(results) if c["seed"].startswith("At 0.75 greedy texts no longer")]
    assert found["verdict"] == "not confirmed"


def test_an_accuracy_that_was_not_reached_is_said_and_not_judged(results):
    results["checkpoints"] = [results["checkpoints"][0], results["checkpoints"][2] | {"asked": None}]
    results["training"]["best_accuracy"] = 0.71
    found = {c["seed"]: c for c in claims_of(results)}
    late = [c for name, c in found.items() if name.startswith(("At 0.75", "At 0.84", "Above 0.80"))]
    assert len(late) == 7
    for claim in late:
        assert claim["verdict"] == "not measured"
        assert "came to 0.710 at best in 10,000 updates" in claim["measured"]
    first = next(c for name, c in found.items() if name.startswith("At 0.65 greedy"))
    assert first["verdict"] == "confirmed"


def test_epochs_are_counted_as_the_sheet_counts_them(results):
    (found,) = [c for c in claims_of(results) if "epochs" in c["seed"]]
    # 10,000 batches of 128 windows over 512,000 characters, each window of 30
    assert "512,000" in found["measured"]
    assert "2.50 such epochs, every character 75 times" in found["measured"]
