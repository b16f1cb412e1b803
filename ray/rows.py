"""Number the prompts of files of any size, and read any part of them.

A row's number is its place in all files, in their order: it does not depend on who reads which part. Of a
Parquet file only the metadata is read for that; of a JSON Lines file the line breaks are counted, range by
range, which can be done by many at once.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..contract.errors import P2Error, UsageError
from ..contract.files import reading

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}

RANGE = 64 << 20  # bytes of a JSON Lines file whose lines are counted at a time
_BLOCK = 4 << 20
_BATCH = 1024  # rows of a Parquet file read at a time

Span = tuple[str, int, int]  # file, first byte, byte after the last
Run = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]


@dataclass(frozen=True)
class Part:
    """Rows that are written together, into one file.

    Attributes:
        file: where they are.
        first: number of the first row, over all files.
        count: of rows.
        row: number of the first row in its file.
        byte: where it begins, in a JSON Lines file.
    """

    file: str
    first: int
    count: int
    row: int
    byte: int = 0

    @property
    def name(self) -> str:
        """Numbers of its first row and of the first after it: names sort as rows do."""
        return f"{self.first:015d}-{self.first + self.count:015d}"


def find(prompts: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[str]:
    """The files that paths, folders or patterns name: in the order given, each folder or pattern sorted.

    Raises:
        P2Error: there is none, or one is neither JSON Lines nor Parquet.
    """
    given = [prompts] if isinstance(prompts, str | os.PathLike) else list(prompts)
    found: list[str] = []
    for one in [os.fspath(path) for path in given]:
        if os.path.isdir(one):
            some = sorted(str(path) for path in Path(one).iterdir() if path.suffix in FORMATS)
        else:
            some = [one] if os.path.exists(one) else sorted(glob.glob(one))
        if not some:
            raise P2Error(f"there are no prompts in {one}: give .jsonl or .parquet files")
        found += [os.path.abspath(file) for file in some]
    for file in found:
        if Path(file).suffix not in FORMATS:
            raise UsageError(f"{file} is neither JSON Lines (.jsonl, .ndjson) nor Parquet (.parquet)")
    if not found:
        raise UsageError("there are no prompts: give .jsonl or .parquet files")
    return found


def split(files: Sequence[str], rows: int, column: str, run: Run) -> list[Part]:
    """Number all rows, and cut them into parts of at most so many.

    Args:
        files: as `find` gives them.
        rows: of a part.
        column: that holds the prompts.
        run: calls a function with each of some argument lists, wherever that is done best.

    Raises:
        P2Error: a file cannot be read, or has no such column of texts.
    """
    pieces: dict[str, list[tuple[int, int]]] = {}  # file -> (byte, rows) of each part
    spans: list[Span] = []
    for file in dict.fromkeys(files):
        if FORMATS[Path(file).suffix] == "parquet":
            total = _parquet_rows(file, column)
            pieces[file] = [(0, min(rows, total - start)) for start in range(0, total, rows)]
        else:
            with reading(Path(file)):
                size = os.stat(file).st_size
            pieces[file] = []
            spans += [(file, start, min(start + RANGE, size)) for start in range(0, size, RANGE)]
    for (file, _, _), found in zip(spans, run(lines, [(span, rows) for span in spans]), strict=True):
        pieces[file] += found
    parts, first = [], 0
    for file in files:
        row = 0
        for byte, count in pieces[file]:
            parts.append(Part(file, first, count, row, byte))
            first, row = first + count, row + count
    return parts


def lines(span: Span, rows: int) -> list[tuple[int, int]]:
    """The lines that begin within a span, cut into parts of at most `rows`: first byte and lines of each."""
    file, start, end = span
    begins: list[int] = []  # of parts
    seen = 0
    with reading(Path(file)), open(file, "rb") as data:
        # A line begins after a line break: that before the span counts, a last one in it does not.
        at = max(start - 1, 0)
        data.seek(at)
        if start == 0 and end > 0:
            begins.append(0)
            seen = 1
        while at < end - 1:
            block = data.read(min(_BLOCK, end - 1 - at))
            if not block:
                break
            breaks = np.flatnonzero(np.frombuffer(block, np.uint8) == 10)
            begins += (at + 1 + breaks[(-seen) % rows :: rows]).tolist()
            seen += len(breaks)
            at += len(block)
    counts = [min(rows, seen - number * rows) for number in range(len(begins))]
    return list(zip(begins, counts, strict=True))


def read(part: Part, column: str) -> Iterator[str]:
    """The prompts of a part, in order.

    Raises:
        P2Error: a row holds no text, and which one.
    """
    parquet = FORMATS[Path(part.file).suffix] == "parquet"
    rows = _parquet(part, column) if parquet else _json(part, column)
    for number, prompt in enumerate(rows):
        if not isinstance(prompt, str):
            raise P2Error(f"{part.file}: row {part.row + number + 1:,} has no text under {column!r}")
        yield prompt


def _json(part: Part, column: str) -> Iterator[Any]:
    with reading(Path(part.file)), open(part.file, "rb") as data:
        data.seek(part.byte)
        for number, line in enumerate(itertools.islice(data, part.count)):
            try:
                value = json.loads(line.removeprefix(b"\xef\xbb\xbf") if part.byte + number == 0 else line)
            except (ValueError, RecursionError) as error:
                raise P2Error(f"{part.file}: line {part.row + number + 1:,} is no JSON") from error
            yield value.get(column) if isinstance(value, dict) else value


def _parquet_rows(file: str, column: str) -> int:
    import pyarrow

    with _opened(file) as table:
        kinds = {field.name: field.type for field in table.schema_arrow}
        text = kinds.get(column)
        if text is None:
            raise P2Error(f"{file} has no column {column!r}: it has {', '.join(kinds) or 'none'}")
        if not (pyarrow.types.is_string(text) or pyarrow.types.is_large_string(text)):
            raise P2Error(f"{file}: the column {column!r} holds {text}, not texts")
        return int(table.metadata.num_rows)


def _parquet(part: Part, column: str) -> Iterator[Any]:
    with _opened(part.file) as table:
        groups: list[int] = []
        start = skip = 0
        for number in range(table.num_row_groups):
            end = start + table.metadata.row_group(number).num_rows
            if end > part.row and start < part.row + part.count:
                if not groups:
                    skip = part.row - start
                groups.append(number)
            start = end
        left = part.count
        for batch in table.iter_batches(_BATCH, row_groups=groups, columns=[column]):
            taken = batch.column(0).slice(skip, left)
            skip = max(0, skip - len(batch))
            left -= len(taken)
            yield from taken.to_pylist()
            if not left:
                return


def _opened(file: str) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        with reading(Path(file)):
            return parquet.ParquetFile(file)
    except pyarrow.ArrowException as error:
        raise P2Error(f"{file} is no Parquet file, or is damaged") from error
