"""What the report says about its texts, each beside what was measured here.

Each claim has a function of the results alone, which says what was measured and judges by a rule that stands
beside it. Where an accuracy was not reached, it says so and does not judge.
"""

from __future__ import annotations

from ..document import Claim
from ..judging import Results, Rule, judge
from . import about_greedy, about_sampling, about_training
from .evidence import unmeasured


def claims_of(results: Results) -> list[Claim]:
    """Every claim of sections 2.1 and 2.2, in the report's order."""
    return judge(_CLAIMS, results)


_CLAIMS: tuple[tuple[str, str, Rule], ...] = (
    (
        "2.1 a, figure 3",
        "A two-layer LSTM over-fits the book to a training accuracy of about 0.85.",
        about_training.overfits,
    ),
    (
        "2.1 a",
        "Adam at 0.001 with batches of 128, and an embedding of half to a quarter of the hidden size, work"
        " best.",
        unmeasured("One size and schedule was trained here: other values were not compared in this run."),
    ),
    ("2.1 a", "10,000 batches are about 2.5 epochs.", about_training.epochs),
    ("2.1 a, figure 3", "Accuracy stays in the range of 0.85.", about_training.ceiling),
    ("2.1 b", "Most of the learning takes place in the first 7,500 batches.", about_training.late_gain),
    ("2.1 b, table 1", "At 0.65 greedy texts get stuck in a loop.", about_greedy.loops_low),
    (
        "2.1 b, table 1",
        "At 0.65 the words and the sentences made of them are coherent.",
        about_greedy.coherent_words,
    ),
    (
        "2.1 b, table 1",
        "At 0.65 narration lacks punctuation, while quoted sentences have it.",
        about_greedy.punctuation_low,
    ),
    ("2.1 b, table 1", "At 0.75 greedy texts no longer loop.", about_greedy.loops_middle),
    ("2.1 b, table 1", "At 0.75 sentences are more punctuated.", about_greedy.punctuation_middle),
    (
        "2.1 b, table 1",
        "At 0.75 there are fewer grammatical errors, and the sense is less poetic.",
        about_greedy.grammar,
    ),
    (
        "2.1 b, table 1",
        "Above 0.80 texts are stitched together from phrases of the book.",
        about_greedy.copying,
    ),
    (
        "2.1 b, table 1",
        "Copying becomes obvious only then: it grows with accuracy.",
        about_greedy.copying_grows,
    ),
    (
        "2.1 c",
        "tau multiplies the logits: above 1 it sharpens, towards the argmax; below 1 it flattens, towards"
        " chance.",
        about_sampling.tau,
    ),
    (
        "2.1 c, table 2",
        "At tau 0.5 most words are nonsense (accuracy 0.65).",
        about_sampling.half_is_nonsense,
    ),
    (
        "2.1 c, table 2",
        "At tau 0.5 there still are words with spaces between, and sentences begin with a capital.",
        about_sampling.half_looks_like_language,
    ),
    ("2.1 c, table 2", "At tau 2 the words are real.", about_sampling.two_is_real),
    ("2.1 c, table 2", "tau 1 lies between: real and made-up words.", about_sampling.one_is_between),
    ("2.1 c, table 2", "The trend over tau persists at higher accuracies.", about_sampling.trend_persists),
    (
        "2.1 c, table 2",
        "At 0.84 few words are made up, even at tau 1.",
        about_sampling.one_is_real_when_memorised,
    ),
    (
        "2.1 c, table 2",
        "Sampled texts do not repeat themselves: chance leads out of a loop.",
        about_sampling.sampling_escapes,
    ),
    ("2.1 c, table 2", "At 0.65 sampled sentences go on endlessly.", about_sampling.endless),
    ("2.2, table 3", "At 0.64 completions loop, with grammatical errors.", about_greedy.completions_loop),
    (
        "2.2, table 3",
        "At 0.75 completions are more plausible and refer to their prompt.",
        about_greedy.plausible,
    ),
    ("2.2, table 3", "At 0.84 the prompt is soon disregarded.", about_greedy.prompt_is_disregarded),
    (
        "2.2, table 3",
        "One prompt has two completions at an accuracy, both by argmax.",
        about_greedy.one_greedy_text,
    ),
)
