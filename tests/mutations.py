"""Damage of every kind to a JSON document, for tests of its readers."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

DEEP = json.loads("[" * 60 + "]" * 60)
NASTY: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2.5, 3, 10**12, 2**63, 2**70, 10**39, 1e-320, 1e29, 1e308, -1e308,
    float("nan"), float("inf"), "", "x", "0", "\ud800", "\ud800\udfff", "a\0b\n\x1b[31m", "a/../b",
    "x" * 10_000, '<script>alert("x")</script>&amp;|`*[/]', [], [None], [1, "x"], [[]], {}, {"x": 1},
    {"\udfff<b>[/]": None}, DEEP,
)  # fmt: skip
"""Values where another belongs."""

BYTES = (
    b"", b"\0", b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000, b"null", b"[]",
    b"{}", b'"x"', b"1" * 5000, b"\xff\xfe", b"\xef\xbb\xbf{}",
    b'{"a": 1, "a": 2}', b'{"a": 1e999}', b'{"a": -Infinity}',
)  # fmt: skip
"""Files that are no document at all."""

Place = tuple[str | int, ...]


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """The path of every value in a document."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from places(inner, (*path, name))


def changed(document: Any, path: Place, change: Any) -> bytes:
    """The document as JSON with another value in one place, or without that place (`...`)."""
    whole = {"": copy.deepcopy(document)}
    *inside, last = ("", *path)
    place: Any = whole
    for step in inside:
        place = place[step]
    if change is ...:
        del place[last]
    else:
        place[last] = change
    return json.dumps(whole.get("")).encode()


def damaged(document: Any) -> st.SearchStrategy[bytes]:
    """A document with something dropped, of another type, enormous, nested, no number or no text."""
    paths = list(places(document))
    changes = st.builds(changed, st.just(document), st.sampled_from(paths), st.sampled_from((..., *NASTY)))
    whole = json.dumps(document).encode()
    cut = st.integers(0, len(whole)).map(lambda end: whole[:end])
    twice = st.just(whole.replace(b"{", b'{"x": 1, "x": 2, ', 1))
    return st.one_of(changes, changes, changes, changes, cut, twice, st.sampled_from(BYTES))
