"""Claims about greedy texts and completions: loops, punctuation, copies."""

from __future__ import annotations

from typing import Any

from ..document import Verdict
from ..judging import Judged, Results, yes
from . import seed
from .evidence import FEW, MOST, NEARLY_ALL, at, percent, rate, three
from .measure import GLANCE


def loops_low(results: Results) -> Judged:
    """Confirmed if most greedy texts end in a loop."""
    low = at(results, seed.LOW)["greedy"]
    return _loops_in_words(low), yes(low["loops"] >= MOST)


def coherent_words(results: Results) -> Judged:
    """Confirmed if nearly all words are the book's."""
    wording = at(results, seed.LOW)["greedy"]["wording"]
    return (
        f"{percent(wording['real_words'])} of the words in greedy texts are words of the book,"
        f" {percent(wording['real_pairs'])} of the pairs of words stand in it.",
        yes((wording["real_words"] or 0) >= NEARLY_ALL),
    )


def punctuation_low(results: Results) -> Judged:
    """Confirmed if narration has less than half of the book's marks, and quotations half of theirs."""
    wording, book = at(results, seed.LOW)["greedy"]["wording"], results["book"]["wording"]
    narration, quoted = wording["marks_per_100"], wording["quoted_marks_per_100"]
    measured = (
        f"Marks per 100 characters in greedy texts: {rate(narration)} in narration, {rate(quoted)} in"
        f" quotation marks; in the book {rate(book['marks_per_100'])} and"
        f" {rate(book['quoted_marks_per_100'])}."
    )
    if narration is None or quoted is None or not book["marks_per_100"] or not book["quoted_marks_per_100"]:
        return measured, "not measured"
    fits = narration < book["marks_per_100"] / 2 and quoted >= book["quoted_marks_per_100"] / 2
    return measured, yes(fits)


def loops_middle(results: Results) -> Judged:
    """Confirmed if few texts loop; explained if few do so within what a table shows."""
    middle = at(results, seed.MIDDLE)["greedy"]
    verdict: Verdict = "not confirmed"
    if middle["loops"] <= FEW:
        verdict = "confirmed"
    elif middle["loops_at_a_glance"] <= FEW:
        verdict = "explained"
    measured = _loops_in_words(middle)
    if verdict == "explained":
        measured += " A table of short texts does not show them."
    return measured, verdict


def punctuation_middle(results: Results) -> Judged:
    """Confirmed if narration has more marks than at the lowest accuracy."""
    low, middle = (at(results, a)["greedy"]["wording"] for a in (seed.LOW, seed.MIDDLE))
    before, after = low["marks_per_100"], middle["marks_per_100"]
    measured = f"Marks per 100 characters of narration: {rate(before)} at 0.65, {rate(after)} at 0.75."
    if before is None or after is None:
        return measured, "not measured"
    return measured, yes(after > before)


def grammar(results: Results) -> Judged:
    """Not judged; pairs of words stand in for it."""
    shares = [c["greedy"]["wording"]["real_pairs"] for c in three(results)]
    return (
        "Not judged: nobody has read these texts for their grammar. As a stand-in, pairs of words in a row"
        f" that the book has too: {', '.join(map(percent, shares))} of those in greedy texts at 0.65, 0.75"
        " and 0.84.",
        "not measured",
    )


def copying(results: Results) -> Judged:
    """Confirmed if most characters stand in copied pieces."""
    low, middle, high = (c["greedy"] for c in three(results))
    return (
        f"Characters of greedy texts inside pieces of 30 or more copied from the book: {low['copied']:.0%} at"
        f" 0.65, {middle['copied']:.0%} at 0.75, {high['copied']:.0%} at 0.84; longest piece"
        f" {low['longest_copy']:,}, {middle['longest_copy']:,}, {high['longest_copy']:,} (median of the"
        f" texts' longest {low['median_longest_copy']:,.0f}, {middle['median_longest_copy']:,.0f},"
        f" {high['median_longest_copy']:,.0f}). {results['book']['repeats']:.1%} of the book itself stands in"
        " it twice.",
        yes(high["copied"] >= MOST),
    )


def copying_grows(results: Results) -> Judged:
    """Confirmed if copies grow with accuracy, greedy and at tau 2, and most of them come at the end."""
    low, middle, high = (c["greedy"]["copied"] for c in three(results))
    sampled = [c["sampled"]["2"]["copied"] for c in three(results)]
    grows = low < middle < high and sampled[0] < sampled[1] < sampled[2]
    return (
        f"Copied share {low:.0%}, {middle:.0%}, {high:.0%} (greedy) and"
        f" {', '.join(f'{share:.0%}' for share in sampled)} (tau 2).",
        yes(grows and middle < high / 2),
    )


def completions_loop(results: Results) -> Judged:
    """Confirmed if most completions end in a loop."""
    found = at(results, seed.LOW)["completions"]
    if found is None:
        return "The book has no beginnings of sentences to complete.", "not measured"
    return (
        f"Of {found['texts']} beginnings of the book's sentences, completed greedily at 0.65,"
        f" {found['loops']:.0%} end in a loop, {found['loops_at_a_glance']:.0%} visibly within {GLANCE}"
        f" characters; {percent(found['wording']['real_pairs'])} of their pairs of words are the book's.",
        yes(found["loops"] >= MOST),
    )


def plausible(results: Results) -> Judged:
    """Not judged; what goes on as in the book is counted."""
    parts = []
    for checkpoint in three(results):
        found = checkpoint["completions"]
        if found is not None:
            parts.append(f"{found['recite']:.0%} at {checkpoint['asked']:g}")
    return (
        "Not judged: whether a text refers to its prompt takes a reader. What can be counted: completions"
        f" that go on as the book does, for 30 characters or more: {', '.join(parts) or 'none'}.",
        "not measured",
    )


def prompt_is_disregarded(results: Results) -> Judged:
    """Explained if most completions that leave the book's continuation join another passage of it."""
    found = at(results, seed.HIGH)["completions"]
    if found is None:
        return "The book has no beginnings of sentences to complete.", "not measured"
    measured = (
        f"At 0.84, {found['recite']:.0%} of {found['texts']} beginnings of sentences are continued as in the"
        f" book; {found['stray']:.0%} leave it within 30 characters, {found['stray_into_a_copy']:.0%} into"
        f" another copied passage within {GLANCE}"
    )
    if found["stray"] and found["stray_into_a_copy"] >= MOST * found["stray"]:
        cause = ": the model stitches passages together, and the join ignores what came before it."
        return measured + cause, "explained"
    return measured + ".", "not confirmed"


def one_greedy_text(results: Results) -> Judged:
    """Explained if a prompt has one greedy completion: two come from two models or two states."""
    prompts = [checkpoint["prompt"] for checkpoint in results["checkpoints"]]
    times = sum(prompt["times"] for prompt in prompts)
    same = all(prompt["distinct"] == 1 for prompt in prompts)
    measured = (
        f"From a zero state the prompt was completed {prompts[0]['times']} times at each of {len(prompts)}"
        f" checkpoints ({times} texts): {'one and the same' if same else 'not always the same'} text at each."
    )
    if same:
        return measured + " Two different ones need another state or another checkpoint.", "explained"
    return measured, "not confirmed"


def _loops_in_words(texts: dict[str, Any]) -> str:
    measured = (
        f"{texts['loops']:.0%} of {texts['texts']} greedy texts end in a loop,"
        f" {texts['loops_at_a_glance']:.0%} visibly within {GLANCE} characters"
    )
    if texts["period"] is not None:
        seen, count = texts["loops_seen_after"], texts["different_loops"]
        measured += (
            f"; {count} different loop{'s' if count > 1 else ''}, median period {texts['period']:g}, seen"
            f" after {seen[len(seen) // 2]:,} characters"
        )
    return measured + "."
