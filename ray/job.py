"""What a folder of texts belongs to, and how a part of it is written.

``job.json`` says which model, prompts and settings the texts are of, so that a restart goes on with the same
job or is refused. A part is there whole or not at all, under the numbers of its rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from ..contract.card import Card
from ..contract.codec import Codec, UnknownCharacter
from ..contract.engine import Engine
from ..contract.errors import P2Error, UsageError
from ..contract.files import make_folder, read_text, write_atomically, write_json
from ..contract.plan import read_sidecar
from ..runtime.generate import Request
from ..runtime.locate import locate
from ..runtime.step_file import open_step
from ..runtime.streams import Text, write_texts
from .rows import Part, read

_FILE = "job.json"
VERSION = 1


@dataclass(frozen=True)
class Job:
    """Texts to write.

    Attributes:
        engine: path of the ``.onnx`` or ``.plan``, which every machine sees.
        backend: what runs it; None takes what is fastest there.
        threads: processor threads of a worker; None measures.
        folder: where the parts go, which every machine sees.
        format: of the parts, ``parquet`` or ``jsonl``.
        column: that holds the prompts.
        request: settings; a text's stream is ``first_stream`` plus its number in the whole job.
    """

    engine: str
    backend: str | None
    threads: int | None
    folder: str
    format: str
    column: str
    request: Request

    def path(self, part: Part) -> Path:
        """Where a part appears."""
        return Path(self.folder) / f"{part.name}.{self.format}"

    def write(self, engine: Engine, part: Part) -> bool:
        """Write a part, unless it is there; returns whether it was written now.

        Raises:
            P2Error: a prompt cannot be read, or holds a character that the model does not know; the file
                system refused.
        """
        path = self.path(part)
        if path.exists():
            return False
        first = self.request.first_stream + part.first * self.request.num_samples
        request = replace(self.request, first_stream=first)
        texts = write_texts(engine, request, self._checked(engine.card, part))
        numbered = (replace(text, prompt_index=part.first + text.prompt_index) for text in texts)
        save = _save_parquet if self.format == "parquet" else _save_jsonl
        write_atomically(path, lambda file: save(file, numbered, request.seed))
        return True

    def _checked(self, card: Card, part: Part) -> Iterator[str]:
        codec = Codec(card.vocabulary)
        for number, prompt in enumerate(read(part, self.column)):
            try:
                codec.encode(prompt, self.request.on_unknown)
            except UnknownCharacter as error:
                raise P2Error(f"{part.file}: row {part.row + number + 1:,}: {error}") from error
            yield prompt


def locate_engine(engine: str | os.PathLike[str]) -> tuple[str, Card]:
    """The whole path of an exported model, and its card; the model is not opened.

    Raises:
        UsageError: it is a checkpoint.
        P2Error: it is missing or damaged.
    """
    path, kind = locate(os.fspath(engine))
    if kind == "checkpoint":
        raise UsageError(f"{path} is a checkpoint: export it, and give the .onnx or .plan")
    return str(path.absolute()), read_sidecar(path).card if kind == "plan" else open_step(path).card


def begin(job: Job, card: Card, files: list[str], rows: int, seeded: bool) -> Job:
    """Make the folder, or find what was begun in it.

    Args:
        job: what is to be written.
        card: of the model.
        files: the prompts.
        rows: of a part.
        seeded: whether the seed was given; a job that is taken up again keeps its own.

    Returns:
        the job, with the seed of its beginning.

    Raises:
        P2Error: the folder holds another job's texts, or somebody else's files.
    """
    folder = make_folder(Path(job.folder))
    path = folder / _FILE
    mine = {
        "version": VERSION,
        "model": {"checkpoint_sha256": card.checkpoint_sha256, "precision": card.precision},
        "prompts": [{"file": Path(file).name, "bytes": os.stat(file).st_size} for file in files],
        "column": job.column,
        "rows": rows,
        "format": job.format,
        "request": json.loads(json.dumps(asdict(job.request))),
    }
    if not path.exists():
        if any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise P2Error(f"{folder} holds files that are no job of texts: name an empty folder")
        write_json(path, mine)
        return job
    try:
        found = json.loads(read_text(path))
        seed = found["request"]["seed"]
        if not seeded and isinstance(seed, int):
            mine["request"]["seed"] = seed
        other = [name for name in mine if found.get(name) != mine[name]]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise P2Error(f"{path} is damaged: name another folder") from error
    if other:
        raise P2Error(f"{folder} holds texts of another job ({', '.join(other)} differ): name another folder")
    return replace(job, request=replace(job.request, seed=mine["request"]["seed"]))


def _save_jsonl(file: BinaryIO, texts: Iterator[Text], seed: int) -> None:
    """As ``p2 generate --jsonl``."""
    for text in texts:
        file.write(json.dumps(_row(text, seed)).encode() + b"\n")


def _save_parquet(file: BinaryIO, texts: Iterator[Text], seed: int) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema(
        {
            "prompt_index": pyarrow.int64(),
            "sample": pyarrow.int64(),
            "stream": pyarrow.uint64(),
            "seed": pyarrow.uint64(),
            "prompt": pyarrow.string(),
            "text": pyarrow.string(),
            "stopped": pyarrow.bool_(),
        }
    )
    rows = [_row(text, seed) for text in texts]
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema), file)


def _row(text: Text, seed: int) -> dict[str, Any]:
    return {
        "prompt_index": text.prompt_index,
        "sample": text.sample,
        "stream": text.stream,
        "seed": seed,
        "prompt": text.prompt,
        "text": text.text,
        "stopped": text.stopped,
    }
