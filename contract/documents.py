"""JSON that came from a file: read within bounds, checked against types, and sealed where it decides.

Everything p2 reads as JSON goes through `read_document`, with a type of `schema`. A document that decides
what is computed carries the SHA-256 of its own content: `write_sealed` is its only writer, `read_sealed` its
only reader.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .errors import ContractError
from .files import reading, write_json
from .schema import problem, shown

MOST_BYTES = 32 << 20
MOST_DEPTH = 64
_MOST_DIGITS = 40  # of a whole number

SEAL = "document_sha256"


class _Damage(ValueError):
    """JSON, but not what p2 takes."""


def read_document(path: Path, kind: Any = Any) -> Any:
    """Read a JSON file that somebody else may have written.

    Args:
        path: of a UTF-8 file of at most `MOST_BYTES`.
        kind: the type that its value must have, see `schema.problem`.

    Returns:
        plain values: no number is infinite, no whole number has more than 40 digits, and nothing is nested
        deeper than `MOST_DEPTH`.

    Raises:
        ContractError: it is damaged: the sentence says where.
        P2Error: it is missing or cannot be read.
    """
    return check(parse(_bytes_of(path), str(path)), kind, str(path))


def _bytes_of(path: Path) -> bytes:
    """A file, or as much of it as shows that it is too large."""
    with reading(path), path.open("rb") as file:
        return file.read(MOST_BYTES + 1)


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


def _whole(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise _Damage(f"the number {shown(digits)[1:-1]} has more than {_MOST_DIGITS} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Damage(f"the number {shown(digits)[1:-1]} is too large")
    return value


def _no_number(name: str) -> float:
    raise _Damage(f"{name} is no number of JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Damage(f"{shown(next(n for n in names if names.count(n) > 1))} is there twice")
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


def write_sealed(
    path: Path, document: Mapping[str, Any], ready: Callable[[Path], object] = lambda _: None
) -> None:
    """Write a document with the SHA-256 of its content as its last key, whole or not at all.

    Args:
        path: where it appears.
        document: its content.
        ready: as for `files.write_atomically`.

    Raises:
        P2Error: the file system refused.
    """
    write_json(path, {**document, SEAL: digest(document)}, ready)


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
        raise ContractError(
            f"{path} has the {key.replace('_', ' ')} {shown(version)}, this p2 reads {current!r}"
        )
    if seal != digest(found):
        raise ContractError(
            f"{path} is not as p2 wrote it: its own checksum ({SEAL}) does not fit what it says, so it was"
            " damaged, or edited by hand: copy it again, or undo the edit"
        )
    return dict(found)
