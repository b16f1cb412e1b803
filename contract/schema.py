"""Types for plain JSON values, written as Python writes them, and the words for a value that does not fit.

A type is a TypedDict or a dataclass, ``list[float]``, ``int | None``, ``Annotated[int, Within(1, 99)]``
and so on; `problem` says where a value does not fit, in words that a sentence can take.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

_MOST_SHOWN = 40  # characters of a value in a sentence
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Within:
    """A range, for ``Annotated``: of a number itself, of the length of a text, a list or an object.

    Attributes:
        low: the smallest value allowed.
        high: the largest.
    """

    low: float = -math.inf
    high: float = math.inf

    def breach(self, value: float) -> str:
        """What is wrong with a value, or the empty string."""
        if value < self.low:
            return f"is not at least {self.low:g}"
        return f"is not at most {self.high:g}" if value > self.high else ""


Count = Annotated[int, Within(0)]
Natural = Annotated[int, Within(1)]
Share = Annotated[float, Within(0, 1)]
# What anybody could have measured: sums, products and quotients of a few such numbers stay finite.
Measure = Annotated[float, Within(-1e30, 1e30)]
Positive = Annotated[float, Within(1e-30, 1e30)]


def problem(value: Any, kind: Any, at: str = "") -> str:
    """What is wrong with a JSON value, such as ``rounds[3].seconds is not a number``, or the empty string.

    Args:
        value: plain JSON values.
        kind: ``Any``, ``str``, ``int``, ``float`` (a whole number will do), ``bool``, ``None``, ``Literal``,
            a union, ``list[X]``, ``tuple[X, ...]``, ``tuple[X, Y]``, ``dict[str, X]``, ``Annotated`` with
            `Within`; a TypedDict, whose keys must be there (others may be), or a dataclass, which has no
            others, and whose fields with a default may be missing. A path is text.
        at: where the value is.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return problem(value, inner[0], at) or _out_of_range(value, inner[1:], at)
    if origin in (Union, types.UnionType):
        found = {problem(value, option, at): option for option in inner if option is not type(None)}
        if "" in found or (value is None and type(None) in inner):
            return ""
        return max(found, key=lambda said: _likeness(value, found[said]))  # of equals the first
    if origin is Literal:
        names = ", ".join(map(repr, inner))
        known = any(value == one and type(value) is type(one) for one in inner)
        return "" if known else f"{at or 'it'} is none of {names}"
    if origin in (list, tuple):
        return _items(value, origin, inner, at)
    if is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return _fields(value, kind, at)
    if kind is dict or origin is dict:
        if not isinstance(value, dict):
            return f"{at or 'it'} is not an object"
        each = (problem(item, inner[1], _inside(at, key)) for key, item in value.items() if inner)
        return next(filter(None, each), "")
    return _plain(value, kind, at or "it")


def _likeness(value: Any, kind: Any) -> int:
    """How far inwards a value is of a type, by the first of its items: which of a union is meant."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _likeness(value, inner[0])
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            return 0
        return 1 + (_likeness(value[0], inner[0]) if value and inner else 0)
    if origin is dict or is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return int(isinstance(value, dict))
    return int(not problem(value, kind))


def _items(value: Any, origin: type, inner: tuple[Any, ...], at: str) -> str:
    if not isinstance(value, list | tuple):
        return f"{at or 'it'} is not a list"
    kinds: Sequence[Any] = inner
    if origin is list or inner[-1] is Ellipsis:
        kinds = [inner[0]] * len(value)
    if len(kinds) != len(value):
        return f"{at or 'it'} has {len(value)} items, not {len(kinds)}"
    each = (
        problem(item, kind, f"{at}[{n}]") for n, (item, kind) in enumerate(zip(value, kinds, strict=True))
    )
    return next(filter(None, each), "")


def _fields(value: Any, kind: Any, at: str) -> str:
    if not isinstance(value, dict):
        return f"{at or 'it'} is not an object"
    hints, optional = _hints(kind)
    for name, hint in hints.items():
        inside = _inside(at, name)
        if name in value:
            found = problem(value[name], hint, inside)
        else:
            found = "" if name in optional else f"{inside} is missing"
        if found:
            return found
    unknown = [] if is_typeddict(kind) else [name for name in value if name not in hints]
    return f"{at or 'it'} has the unknown field {shown(unknown[0])}" if unknown else ""


@functools.cache
def _hints(kind: Any) -> tuple[Mapping[str, Any], frozenset[str]]:
    """Types by name, and the names that may be missing."""
    hints = get_type_hints(kind, include_extras=True)
    if is_typeddict(kind):
        optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
        plain = {n: get_args(hint)[0] if n in optional else hint for n, hint in hints.items()}
        return plain, frozenset(optional if kind.__total__ else hints)
    fields = dataclasses.fields(kind)
    given = {f.name for f in fields if (f.default, f.default_factory) != (dataclasses.MISSING,) * 2}
    return {f.name: hints[f.name] for f in fields}, frozenset(given)


def _plain(value: Any, kind: Any, at: str) -> str:
    if kind is Any:
        return ""
    if kind in (None, type(None)):
        return "" if value is None else f"{at} is not null"
    kind = str if kind is Path else kind
    accepted: tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        return f"{at} is not {_NAMES[kind]}: {shown(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{at} is not a finite number"
    wide = kind is int and isinstance(value, int) and not -(1 << 63) <= value < 1 << 63
    return f"{at} has more than 63 bits" if wide else ""


def _out_of_range(value: Any, ranges: Sequence[Within], at: str) -> str:
    if value is None:
        return ""
    measured, what = (value, at) if isinstance(value, int | float) else (len(value), f"the length of {at}")
    breaches = (limits.breach(measured) for limits in ranges)
    return next((f"{what or 'it'} {breach}" for breach in breaches if breach), "")


def _inside(at: str, name: str) -> str:
    return f"{at}.{shown(name)[1:-1]}".lstrip(".")


def shown(value: Any) -> str:
    """A value in a sentence: on one line, and not too long."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = ascii(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}...{text[-1]}"
