"""Tables with a column of texts: Parquet files, and lines of JSON objects. A row's text is a document.

Rows that hold null have no text and are counted. Parquet is read with pyarrow, a few rows at a time: as many
as fit `_BATCH_BYTES` by what the file says of itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from ..contract.errors import BackendMissing, P2Error
from ..contract.schema import shown
from ..contract.shell import install
from .unfolding import Raw, check_ratio

LONGEST = 64 << 20
"""Characters of a line of JSON, at most."""

_BATCH_ROWS, _BATCH_BYTES = 1024, 1 << 30
_NAMED = 10  # columns in a sentence
_KINDS = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def rows_of_lines(
    name: str, pieces: Iterator[str], column: str, null: Callable[[int], None]
) -> Iterator[tuple[str, str]]:
    """The texts in a file of JSON objects, one a line; blank lines are passed over.

    Args:
        name: of the file, for people.
        pieces: its text.
        column: the key whose value is the text.
        null: told how many rows have none.

    Yields:
        where it is and the text, for each row.

    Raises:
        P2Error: a line is too long, no JSON object, or has no text under that key; it is named by its number.
    """
    for number, line in _lines(name, pieces):
        where = f"{name}, line {number:,}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise P2Error(f"{where} is no JSON: {_reason(error)}") from None
        if not isinstance(row, dict):
            raise P2Error(f"{where} is no JSON object: --column takes a value out of each")
        if column not in row:
            raise P2Error(f"{where} has no {column!r}; it has {_some(list(row))}")
        text = row[column]
        if text is None:
            null(1)
        elif isinstance(text, str):
            yield where, text
        else:
            raise P2Error(f"{where}: {column!r} is {_KINDS[type(text)]}, not a text")


def _lines(name: str, pieces: Iterator[str]) -> Iterator[tuple[int, str]]:
    number, parts, length = 0, list[str](), 0
    for piece in pieces:
        *whole, rest = piece.split("\n")
        for line in whole:
            number += 1
            yield number, "".join((*parts, line))
            parts, length = [], 0
        parts.append(rest)
        length += len(rest)
        if length > LONGEST:
            raise P2Error(f"{name}, line {number + 1:,} is longer than {LONGEST:,} characters")
    if length:
        yield number + 1, "".join(parts)


def _reason(error: ValueError | RecursionError) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg[:1].lower()}{error.msg[1:]} at column {error.colno:,}"
    return "it is nested too deep" if isinstance(error, RecursionError) else "a number has too many digits"


def rows_of_parquet(raw: Raw, column: str, null: Callable[[int], None]) -> Iterator[tuple[str, str]]:
    """The texts in a column of a Parquet file; arguments and result as those of `rows_of_lines`.

    Raises:
        P2Error: the file is damaged or comes through a pipe, or has no such column of strings.
        BackendMissing: there is no pyarrow.
    """
    if not raw.seekable:
        raise P2Error(f"{raw.name} holds a Parquet file, which is not read from front to back: name the file")
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise BackendMissing(
            f"{raw.name} is a Parquet file, which pyarrow reads: {install('data')}"
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(
            raw.source, pre_buffer=False, buffer_size=1 << 16, page_checksum_verification=True
        ) as file:
            _check_column(raw.name, file.schema_arrow, column)
            yield from _rows(raw, file, column, null)
    except (pyarrow.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise P2Error(f"{raw.name} is a damaged Parquet file: {said[0][:1].lower()}{said[0][1:]}") from error


def _check_column(name: str, schema: Any, column: str) -> None:
    import pyarrow.types as kinds

    found = schema.names.count(column)
    if found != 1:
        problem = f"has {found} columns" if found else "has no column"
        raise P2Error(f"{name} {problem} {column!r}; it has {_some(schema.names)}")
    kind = schema.field(column).type
    inner = kind.value_type if kinds.is_dictionary(kind) else kind
    if not (kinds.is_string(inner) or kinds.is_large_string(inner)):
        raise P2Error(f"{name}: the column {column!r} holds {kind}, not strings")


def _rows(raw: Raw, file: Any, column: str, null: Callable[[int], None]) -> Iterator[tuple[str, str]]:
    rows = total = 0
    size = raw.size or 0
    for group in range(file.num_row_groups):
        # No row is longer than its group. A closer look, at its column, ends the process if that is damaged.
        most = file.metadata.row_group(group).total_byte_size
        batch_rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // max(1, most)))
        for batch in file.iter_batches(batch_rows, row_groups=[group], columns=[column], use_threads=False):
            values = batch.column(batch.schema.get_field_index(column))
            null(values.null_count)
            for index, value in enumerate(values):
                where = f"{raw.name}, row {rows + index:,}"
                try:
                    text = value.as_py()
                except UnicodeDecodeError as error:
                    raise P2Error(f"{where} is not UTF-8") from error
                if text is not None:
                    total += len(text)
                    check_ratio(raw.name, total, size)
                    yield where, text
            rows += len(batch)
            raw.read_bytes = size * rows // max(1, file.metadata.num_rows)


def _some(names: list[str]) -> str:
    listed = ", ".join(shown(name)[1:-1] for name in names[:_NAMED]) or "none"
    return listed if len(names) <= _NAMED else f"{listed} and {len(names) - _NAMED:,} more"
