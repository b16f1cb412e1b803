"""Slurs, which a model that over-fits a book writes as the book has them: excerpts with one are not shown.

Only what is shown is chosen: loops, copies and words are counted over all texts. `measure` takes the next
text in the place of such a one, but of the prompt there is one text only. A finished document keeps the
excerpts that it has, for it is evidence and no command rewrites its results: the page leaves them out
whenever it is made, and says how many.
"""

from __future__ import annotations

import re

LISTED = frozenset((
    "nigger", "nigga", "darky", "darkey", "darkie", "injun", "redskin", "kike", "dago", "gook", "wetback",
    "faggot", "tranny", "kaffir",
))  # fmt: skip
"""In the singular and lower case; words that mostly mean something else (coon, chink, fagot) are not here."""

CUT = 5
"""A word that the end of an excerpt cuts off counts from so many letters on."""

_LETTERS = re.compile(r"[^\W\d_]+")


def stands_in(text: str) -> bool:
    """Whether a listed word or its plural stands in a text, in any case, or is cut off by the text's end."""
    words = [word.lower() for word in _LETTERS.findall(text)]
    if any(word in LISTED or word.removesuffix("s") in LISTED for word in words):
        return True
    last = words[-1] if words and text[-1].isalpha() else ""
    return len(last) >= CUT and any(word.startswith(last) for word in LISTED)
