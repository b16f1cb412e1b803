"""What is measured about the texts of one checkpoint: figures and excerpts, as JSON values."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...contract.engine import Engine
from . import writing
from .copies import SPAN, Copies, covered, spans_of
from .excerpts import choose, excerpt
from .loops import find_loop, seen_after, smallest_rotation
from .options import TextOptions
from .wording import Lexicon

GLANCE = 200
"""Characters of a text that a reader of a table sees."""

TAUS = (0.5, 1.0, 2.0)
EXTREMES = (0.01, 100.0)
"""Values of tau far out, at which only the distributions are looked at."""

SHOWN_GREEDY, SHOWN_SAMPLED, SHOWN_COMPLETED = 5, 2, 3
SAME_PROMPT = 4
"""The asked prompt is completed so many times, to see whether greedy texts differ."""

Say = Callable[[str], None]


class Analysis:
    """A book, and what its texts are compared with.

    Args:
        book: what was trained on.
        asked: how much is written.
        prompt: what the greedy completions begin with.
        prompts: beginnings of the book's sentences.
    """

    def __init__(self, book: str, asked: TextOptions, prompt: str, prompts: list[str]) -> None:
        self.book = book
        self.asked = asked
        self.prompt = prompt
        self.prompts = prompts
        self.copies = Copies(book)
        self.lexicon = Lexicon(book)

    def measure(self, engine: Engine, seed: int, say: Say) -> dict[str, Any]:
        """Everything about one engine.

        Args:
            engine: of the exported checkpoint.
            seed: of the samples.
            say: told what is done.
        """
        say("reading windows of the book")
        predictions = writing.Predictions(engine, self.book, seed)
        by_position = predictions.accuracy()
        result: dict[str, Any] = {
            "windows": {
                "count": writing.WINDOWS,
                "accuracy": float(by_position.mean()),
                "loss": predictions.loss(),
                "by_position": [round(float(value), 5) for value in by_position],
            },
            "tau": {f"{tau:g}": predictions.at_tau(tau) for tau in sorted((*TAUS, *EXTREMES))},
        }
        del predictions
        say("writing greedy texts")
        result["greedy"] = self._greedy(engine, seed)
        result["sampled"] = {}
        for tau in TAUS:
            say(f"writing at tau {tau:g}")
            result["sampled"][f"{tau:g}"] = self._sampled(engine, tau, seed)
        say("completing prompts")
        return result | self._completed(engine)

    def describe(self, texts: Sequence[str]) -> dict[str, Any]:
        """Loops, copies and wording of at least one text.

        Copies and words are counted once in a loop: its rounds after the first are left out. `fresh` is the
        number of characters that are left.
        """
        loops = [find_loop(text) for text in texts]
        seen = [seen_after(loop) for loop in loops if loop]
        phrases = {
            smallest_rotation(loop.phrase(text)) for loop, text in zip(loops, texts, strict=True) if loop
        }
        fresh = [
            text[: loop.start + loop.period] if loop else text
            for loop, text in zip(loops, texts, strict=True)
        ]
        longest, copied = [], 0
        for text in fresh:
            lengths, places = self.copies.matches(text)
            copied += covered(spans_of(lengths, places))
            longest.append(int(lengths.max(initial=0)))
        return {
            "texts": len(texts),
            "distinct": len(set(texts)),
            "characters": sum(map(len, texts)),
            "fresh": sum(map(len, fresh)),
            "loops": len(seen) / len(texts),
            "loops_seen_after": sorted(seen),
            "loops_at_a_glance": sum(place <= GLANCE for place in seen) / len(texts),
            "period": statistics.median([loop.period for loop in loops if loop]) if seen else None,
            "different_loops": len(phrases),
            "copied": copied / max(1, sum(map(len, fresh))),
            "longest_copy": max(longest),
            "median_longest_copy": statistics.median(longest),
            "wording": self.lexicon.count(fresh).to_dict(),
        }

    def _greedy(self, engine: Engine, seed: int) -> dict[str, Any]:
        """Greedy texts from every character of the vocabulary: all that there are from one character."""
        first = list(engine.card.vocabulary)
        texts = writing.greedy(engine, first, self.asked.length, _nobody)
        drawn = np.random.default_rng(abs(seed)).permutation(len(first))
        shown = choose(((texts[index], 1) for index in drawn.tolist()), SHOWN_GREEDY, self.copies)
        return {**self.describe(texts), **shown}

    def _sampled(self, engine: Engine, tau: float, seed: int) -> dict[str, Any]:
        texts = writing.sampled(engine, tau, self.asked.samples, self.asked.sample_length, seed, _nobody)
        return {**self.describe(texts), **choose(((text, 1) for text in texts), SHOWN_SAMPLED, self.copies)}

    def _completed(self, engine: Engine) -> dict[str, Any]:
        """Greedy completions of the asked prompt and of the book's own beginnings of sentences."""
        given = [self.prompt] * SAME_PROMPT + self.prompts
        texts = writing.greedy(engine, given, self.asked.sample_length, _nobody)
        same, others = texts[:SAME_PROMPT], texts[SAME_PROMPT:]
        result: dict[str, Any] = {
            "prompt": {
                "times": len(same),
                "distinct": len(set(same)),
                "follows": self._follows(same[0], self.prompt),
                "excerpt": excerpt(same[0], len(self.prompt), self.copies),
            },
            "completions": None,
        }
        if others:
            follows = [self._follows(text, start) for text, start in zip(others, self.prompts, strict=True)]
            strays = [
                text[len(start) :][:GLANCE]
                for text, start, length in zip(others, self.prompts, follows, strict=True)
                if length < SPAN
            ]
            joined = [text for text in strays if self.copies.spans(text)]
            result["completions"] = {
                **self.describe(others),
                "recite": sum(length >= SPAN for length in follows) / len(others),
                "stray": len(strays) / len(others),
                "stray_into_a_copy": len(joined) / len(others),
                **choose(zip(others, map(len, self.prompts), strict=True), SHOWN_COMPLETED, self.copies),
            }
        return result

    def _follows(self, text: str, prompt: str) -> int:
        """How many characters after the prompt stand in the book after the same prompt.

        0 where the prompt itself is not in the book.
        """
        lengths, _ = self.copies.matches(text, 1)
        return max(0, int(lengths[0]) - len(prompt))


def _nobody(_: int) -> None:
    """Told about progress, and keeps it to itself: a stage takes seconds."""
