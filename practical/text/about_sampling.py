"""Claims about tau and sampled texts."""

from __future__ import annotations

from itertools import pairwise

from ..judging import Judged, Results, yes
from . import seed
from .evidence import FEW, HARDLY_ANY, MOST, NEARLY_ALL, Checkpoint, at, percent, rate, whole


def tau(results: Results) -> Judged:
    """Confirmed if a larger tau sharpens, a smaller one flattens, and both ends are nearly reached."""
    last = results["checkpoints"][-1]
    found = sorted(((float(tau), value) for tau, value in last["tau"].items()), key=lambda pair: pair[0])
    top = [value["top"] for _, value in found]
    entropy = [value["entropy"] for _, value in found]
    sharpens = all(a < b for a, b in pairwise(top))
    flattens = all(a > b for a, b in pairwise(entropy))
    words = ", ".join(f"{value['top']:.3f} at {tau:g}" for tau, value in found)
    highest = results["book"]["entropy_of_random"]
    ends = top[-1] >= 0.97 and entropy[0] >= 0.97 * highest
    return (
        f"Mean probability of the most probable character: {words}. At tau {found[0][0]:g} the entropy is"
        f" {entropy[0]:.2f} of at most {highest:.2f} nats.",
        yes(sharpens and flattens and ends),
    )


def half_is_nonsense(results: Results) -> Judged:
    """Confirmed if most words at tau 0.5 are made up."""
    share = _words_at(at(results, seed.LOW), "0.5")
    return (
        f"At 0.65, {share:.0%} of the words written at tau 0.5 are words of the book.",
        yes(share < MOST),
    )


def half_looks_like_language(results: Results) -> Judged:
    """Confirmed if words are about as long as the book's, and capitals stand after sentences above all."""
    wording, book = at(results, seed.LOW)["sampled"]["0.5"]["wording"], results["book"]["wording"]
    starts, usual = wording["word_starts_per_100"], book["word_starts_per_100"]
    after, other = wording["capital_after_end"], wording["capital_elsewhere"]
    measured = (
        f"Words begin {rate(starts)} times in 100 characters (book {rate(usual)}); after the end of a"
        f" sentence {percent(after)} begin with a capital, elsewhere {percent(other)} (book"
        f" {percent(book['capital_after_end'])} and {percent(book['capital_elsewhere'])})."
    )
    if None in (starts, usual, after, other):
        return measured, "not measured"
    fits = usual / 2 <= starts <= 2 * usual and after >= MOST and after > 2 * other
    return measured, yes(fits)


def two_is_real(results: Results) -> Judged:
    """Confirmed if nearly all words at tau 2 are the book's."""
    share = _words_at(at(results, seed.LOW), "2")
    return (
        f"At 0.65, {share:.1%} of the words written at tau 2 are words of the book.",
        yes(share >= NEARLY_ALL),
    )


def one_is_between(results: Results) -> Judged:
    """Confirmed if the share of real words at tau 1 lies between those at 0.5 and 2."""
    shares = [_words_at(at(results, seed.LOW), tau) for tau in ("0.5", "1", "2")]
    return (
        f"Real words at 0.65: {', '.join(f'{share:.0%}' for share in shares)} at tau 0.5, 1 and 2.",
        yes(shares[0] < shares[1] < shares[2]),
    )


def trend_persists(results: Results) -> Judged:
    """Confirmed if the share of real words grows with tau at both higher accuracies."""
    checkpoints = (at(results, seed.MIDDLE), at(results, seed.HIGH))
    shares = [[_words_at(checkpoint, tau) for tau in ("0.5", "1", "2")] for checkpoint in checkpoints]
    words = " and ".join(
        f"{', '.join(f'{share:.0%}' for share in row)} at {asked:g}"
        for row, asked in zip(shares, (seed.MIDDLE, seed.HIGH), strict=True)
    )
    return (
        f"Real words at tau 0.5, 1 and 2: {words}.",
        yes(all(row[0] < row[1] < row[2] for row in shares)),
    )


def one_is_real_when_memorised(results: Results) -> Judged:
    """Confirmed if nearly all words at tau 1 are the book's."""
    low, high = _words_at(at(results, seed.LOW), "1"), _words_at(at(results, seed.HIGH), "1")
    return (
        f"At 0.84, {high:.1%} of the words written at tau 1 are words of the book (at 0.65 {low:.1%}).",
        yes(high >= NEARLY_ALL),
    )


def sampling_escapes(results: Results) -> Judged:
    """Confirmed if hardly a sampled text loops, where greedy ones do."""
    low = at(results, seed.LOW)
    shares = [low["sampled"][tau]["loops"] for tau in ("0.5", "1", "2")]
    measured = (
        f"At 0.65, {low['greedy']['loops']:.0%} of the greedy texts end in a loop, of the sampled ones"
        f" {', '.join(f'{share:.0%}' for share in shares)} at tau 0.5, 1 and 2."
    )
    fits = max(shares) <= HARDLY_ANY and low["greedy"]["loops"] > FEW
    return measured, yes(fits)


def endless(results: Results) -> Judged:
    """Confirmed if sentences at tau 2 are half as long again as the book's."""
    low = at(results, seed.LOW)["sampled"]
    lengths = [low[tau]["wording"]["sentence_characters"] for tau in ("0.5", "1", "2")]
    usual = results["book"]["wording"]["sentence_characters"]
    measured = (
        f"Characters for each end of a sentence at 0.65: {', '.join(whole(v) for v in lengths)} at tau 0.5, 1"
        f" and 2; in the book {whole(usual)}."
    )
    if lengths[-1] is None or usual is None:
        return measured, "not measured"
    return measured, yes(lengths[-1] >= 1.5 * usual)


def _words_at(checkpoint: Checkpoint, tau: str) -> float:
    return float(checkpoint["sampled"][tau]["wording"]["real_words"] or 0.0)
