"""Words, punctuation and sentences of texts, counted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

LETTERS = 3
"""A word has at least so many characters: shorter ones are hit by chance."""

_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_MARKS = frozenset(".,;:!?")
_END = re.compile(r"[.!?][\"”’')]*\s+[\"“‘'(]*(\w)")


@dataclass(frozen=True)
class Wording:
    """What was counted over some texts.

    Attributes:
        characters: of all texts.
        words: words of at least `LETTERS` characters that a text does not cut off at its ends.
        real: those of them that the book has, in any case.
        pairs: two words of any length in a row, with nothing but spaces and marks between.
        real_pairs: those of them that the book has in a row.
        quoted: characters inside quotation marks.
        marks: ``. , ; : ! ?`` outside quotation marks.
        quoted_marks: the same inside.
        sentences: ends of sentences: ``. ! ?``, then a space and a letter or digit.
        capitals: those of them after which a capital follows.
        starts: words that a space or a line break stands before.
        capital_starts: those of them that begin with a capital.
    """

    characters: int = 0
    words: int = 0
    real: int = 0
    pairs: int = 0
    real_pairs: int = 0
    quoted: int = 0
    marks: int = 0
    quoted_marks: int = 0
    sentences: int = 0
    capitals: int = 0
    starts: int = 0
    capital_starts: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The shares and rates, for JSON; None where there was nothing to count.

        ``real_words`` and ``real_pairs`` are shares; ``marks_per_100`` and ``quoted_marks_per_100`` are per
        100 characters outside and inside quotation marks; ``sentence_characters`` is characters for each end
        of a sentence; ``capital_after_end`` and ``capital_elsewhere`` are shares of the words that begin with
        a capital, after the end of a sentence and in any other place.
        """
        return {
            **{
                name: value
                for name, value in asdict(self).items()
                if name in ("characters", "words", "pairs")
            },
            "real_words": _ratio(self.real, self.words),
            "real_pairs": _ratio(self.real_pairs, self.pairs),
            "marks_per_100": _ratio(100 * self.marks, self.characters - self.quoted),
            "quoted_marks_per_100": _ratio(100 * self.quoted_marks, self.quoted),
            "sentence_characters": _ratio(self.characters, self.sentences),
            "capital_after_end": _ratio(self.capitals, self.sentences),
            "capital_elsewhere": _ratio(self.capital_starts - self.capitals, self.starts - self.sentences),
            "word_starts_per_100": _ratio(100 * self.starts, self.characters),
        }


class Lexicon:
    """The words of a book, and which follow which."""

    def __init__(self, book: str) -> None:
        words = [word.lower() for word in _WORD.findall(book)]
        self.words = frozenset(words)
        self.pairs = frozenset(pairwise(words))

    def count(self, texts: Iterable[str]) -> Wording:
        """Count over texts."""
        total = dict.fromkeys(asdict(Wording()), 0)
        for text in texts:
            for name, value in asdict(self._of(text)).items():
                total[name] += value
        return Wording(**total)

    def _of(self, text: str) -> Wording:
        found = [m for m in _WORD.finditer(text) if m.start() > 0 and m.end() < len(text)]
        words = [m.group().lower() for m in found if len(m.group()) >= LETTERS]
        pairs = [(a.group().lower(), b.group().lower()) for a, b in pairwise(found)]
        starts = [m for m in found if text[m.start() - 1].isspace()]
        ends = _END.findall(text)
        inside = quoted(text)
        marks = [inside[i] for i, character in enumerate(text) if character in _MARKS]
        return Wording(
            characters=len(text),
            words=len(words),
            real=sum(word in self.words for word in words),
            pairs=len(pairs),
            real_pairs=sum(pair in self.pairs for pair in pairs),
            quoted=sum(inside),
            marks=marks.count(False),
            quoted_marks=marks.count(True),
            sentences=len(ends),
            capitals=sum(character.isupper() for character in ends),
            starts=len(starts),
            capital_starts=sum(m.group()[0].isupper() for m in starts),
        )


def quoted(text: str) -> list[bool]:
    """For each character whether it is inside double quotation marks, the marks themselves included.

    “ opens and ” closes; the straight mark does both in turn. A paragraph's end closes as well.
    """
    inside, result = False, []
    for index, character in enumerate(text):
        if character == "“":
            inside = True
        elif text.startswith("\n\n", index):
            inside = False
        straight = character == '"'
        result.append(inside or straight)
        if straight:
            inside = not inside
        elif character == "”":
            inside = False
    return result


def first_words(book: str, count: int = 4, least: int = 15) -> str:
    """The first words of a book's first paragraph of at least `least` words (a heading has fewer).

    Literally, with whatever stands between them; of the whole book where no paragraph is so long.
    """
    paragraphs = [p for p in re.split(r"\n\s*\n", book) if len(p.split()) >= least]
    words = list(re.finditer(r"\S+", paragraphs[0] if paragraphs else book))
    if not words:
        return book[:1]
    chosen = words[:count]
    return (paragraphs[0] if paragraphs else book)[chosen[0].start() : chosen[-1].end()]


def openings(book: str, count: int, least: int = 16) -> list[str]:
    """Beginnings of sentences, evenly spread over a book, each once.

    Args:
        book: the text.
        count: how many at most.
        least: an opening ends with the word that makes it this long.
    """
    found: dict[str, None] = {}
    for match in re.finditer(r"[.!?][\"”’]?\s+([A-Z])", book):
        words = re.compile(rf"[^\n]{{{least}}}\S*").match(book, match.start(1))
        if words:
            found.setdefault(words.group())
    every = list(found)
    return [every[index * len(every) // count] for index in range(count)] if len(every) > count else every


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
