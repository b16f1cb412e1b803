"""JSON that came from a file: read within bounds, checked against types, and sealed where it decides.

Everything p2 reads as JSON goes through `read_document`. Types are written as Python writes them (a
TypedDict or a dataclass, ``list[float]``, ``int | None``, ``Annotated[int, Within(1, 99)]``); `problem`
says where a value does not fit, in words that a sentence can take. A document that decides what is
computed carries the SHA-256 of its own content: `write_sealed` is its only writer, `read_sealed` its only
reader.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
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

from .errors import ContractError
from .files import reading, write_json

MOST_BYTES = 32 << 20
MOST_DEPTH = 64
_MOST_DIGITS = 20  # of a whole number: those of 64 bits, and the sign
_MOST_SHOWN = 40  # characters of a value in a sentence

SEAL = "document_sha256"

_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Within:
    """A range, for ``Annotated``: of a number itself, of the length of a text, a list or an object.

    Attributes:
        low: the smallest value allowed.
        high: the largest.
        above: whether `low` itself is too small.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def breach(self, value: float) -> str:
        """What is wrong with a value, or the empty string."""
        if value < self.low or (self.above and value == self.low):
            return f"is not {'above' if self.above else 'at least'} {self.low:g}"
        return f"is not at most {self.high:g}" if value > self.high else ""


Count = Annotated[int, Within(0)]
Positive = Annotated[float, Within(0, above=True)]
Natural = Annotated[int, Within(1)]
Share = Annotated[float, Within(0, 1)]


class _Damage(ValueError):
    """JSON, but not what p2 takes."""


def read_document(path: Path, kind: Any = Any) -> Any:
    """Read a JSON file that somebody else may have written.

    Args:
        path: of a UTF-8 file of at most `MOST_BYTES`.
        kind: the type its value must have, see `problem`.

    Returns:
        plain values: no number is infinite or beyond 64 bits, nothing is nested deeper than `MOST_DEPTH`.

    Raises:
        ContractError: it is damaged: the sentence says where.
        P2Error: it is missing or cannot be read.
    """
    with reading(path), path.open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    return check(parse(data, str(path)), kind, str(path))


def parse(data: bytes, where: str) -> Any:
    """The value of a JSON text, within the bounds of `read_document`.

    Args:
        data: UTF-8. Half a surrogate pair in three bytes is taken, since former versions wrote file names
            that are not UTF-8 like that.
        where: the file it comes from, for the error message.

    Raises:
        ContractError: it is no JSON, or beyond the bounds.
    """
    if len(data) > MOST_BYTES:
        raise ContractError(f"{where} is damaged: it has more than {MOST_BYTES >> 20} MiB")
    try:
        value = json.loads(
            data.decode("utf-8", errors="surrogatepass"),
            parse_int=_whole,
            parse_float=_finite,
            parse_constant=_no_number,
            object_pairs_hook=_once,
        )
        _check_depth(value)
    except _Damage as error:
        raise ContractError(f"{where} is damaged: {error}") from error
    except RecursionError as error:
        raise ContractError(f"{where} is damaged: {_TOO_DEEP}") from error
    except ValueError as error:
        raise ContractError(f"{where} is damaged: not valid JSON ({error})") from error
    return value


def check(value: Any, kind: Any, where: str) -> Any:
    """The value, if it is of a type.

    Raises:
        ContractError: it is not: the sentence says where.
    """
    found = problem(value, kind)
    if found:
        raise ContractError(f"{where} is damaged: {found}")
    return value


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
        found = [problem(value, option, at) for option in inner]
        return (
            "" if "" in found else next(f for f, o in zip(found, inner, strict=True) if o is not type(None))
        )
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
    unknown = "" if is_typeddict(kind) else next((name for name in value if name not in hints), "")
    return f"{at or 'it'} has the unknown field {_shown(unknown)}" if unknown else ""


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
        return f"{at} is not {_NAMES[kind]}: {_shown(value)}"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{at} is not a finite number"
    return (
        f"{at} has more than 63 bits" if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63 else ""
    )


def _out_of_range(value: Any, ranges: Sequence[Within], at: str) -> str:
    if value is None:
        return ""
    measured, what = (value, at) if isinstance(value, int | float) else (len(value), f"the length of {at}")
    breaches = (limits.breach(measured) for limits in ranges)
    return next((f"{what or 'it'} {breach}" for breach in breaches if breach), "")


def _inside(at: str, name: str) -> str:
    return f"{at}.{_shown(name)[1:-1]}".lstrip(".")


def _shown(value: Any) -> str:
    """A value in a sentence: on one line, and not too long."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    shown = ascii(value)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}...{shown[-1]}"


def _whole(digits: str) -> int:
    value = int(digits) if len(digits) <= _MOST_DIGITS else 1 << 64
    if not -(1 << 63) <= value < 1 << 64:
        raise _Damage(f"the number {_shown(digits)[1:-1]} has more than 64 bits")
    return value


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Damage(f"the number {_shown(digits)[1:-1]} is too large")
    return value


def _no_number(name: str) -> float:
    raise _Damage(f"{name} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Damage(f"{_shown(next(n for n in names if names.count(n) > 1))} is there twice")
    return value


_TOO_DEEP = f"lists and objects nested more than {MOST_DEPTH} deep"


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEPTH + 1):
        containers = [one for one in level if isinstance(one, list | dict)]
        if not containers:
            return
        level = [item for one in containers for item in (one.values() if isinstance(one, dict) else one)]
    raise _Damage(_TOO_DEEP)


def digest(document: Mapping[str, Any]) -> str:
    """SHA-256 of what a document says, whatever the spaces and the order of its keys."""
    content = {name: value for name, value in document.items() if name != SEAL}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def write_sealed(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document with the SHA-256 of its content as its last key, whole or not at all.

    Raises:
        P2Error: the file system refused.
    """
    write_json(path, {**document, SEAL: digest(document)})


def read_sealed(path: Path, key: str, current: str | int, former: str | int) -> dict[str, Any]:
    """Read a document that `write_sealed` wrote, or one of the format before, which had no checksum.

    Args:
        path: of the file.
        key: under which the format is.
        current: the format with a checksum. It differs from `former` in two bits or more, so that no single
            flipped bit makes an old document, which nothing vouches for, of a new one.
        former: the format without.

    Returns:
        the document without its checksum.

    Raises:
        ContractError: damaged, edited, or of another format.
        P2Error: missing or unreadable.
    """
    found = read_document(path, dict[str, Any])
    version = found.get(key)
    seal = found.pop(SEAL, None)
    if type(version) is type(former) and version == former and seal is None:
        return dict(found)
    if type(version) is not type(current) or version != current:
        raise ContractError(f"{path} has the {key} {_shown(version)}, this p2 reads {current!r}")
    if seal != digest(found):
        raise ContractError(
            f"{path} is not as p2 wrote it: its own checksum ({SEAL}) does not fit what it says, so it was"
            " damaged or edited: copy it again, or take the change back"
        )
    return dict(found)
