"""What is killed: a command in a folder, what may be there just after, and what a person does next."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXT = "the quick brown fox jumps over the lazy dog.\nshe sells sea shells by the sea shore.\n" * 6
BOOK = (
    "CHAPTER I.\n\nYou know about me, said the fox, and I know about you. The river was <wide>, and we"
    " drifted down it all night long. “Is it far?” said Tom. It was not.\n\n"
) * 12

SMALL = (
    "--hidden 6 --layers 1 --embedding 4 --seq-len 8 --batch-size 4 --precision float32 --device cpu"
    " --threads 1"
)
TRAIN = f"train text.txt {SMALL} --steps 5 --val-every 2 --keep-at-accuracy 0.000001 --out run"
RESUME = "train --resume --steps 9 --out run"
WRITING = "--length 100 --sample-length 100 --samples 1"
BOOK_RUN = (
    "practical text book.txt --hidden 6 --embedding 4 --layers 1 --steps 4 --batch-size 4 --accuracies 0.0001"
    f" --threads 1 --out done {WRITING}"
)

Call = Callable[[str], Any]
"""Calls a command in the scenario's folder; what `victims.Ended` it had."""


@dataclass(frozen=True)
class Scenario:
    """A command that writes files.

    Attributes:
        name: for the report.
        before: the commands that make what is there, or functions of the folder.
        command: the one that is killed.
        next: what a person calls after a kill; None: the same command.
        keeps: patterns of finished files, whose content must be there at any time under whatever name.
        may_be_more: parts of names that a killed run may leave and the next one rightly keeps.
    """

    name: str
    command: str
    before: tuple[str | Callable[[Path], None], ...] = ()
    next: Callable[[Call], None] | None = None
    keeps: tuple[str, ...] = ()
    may_be_more: tuple[str, ...] = ()


TOKENIZE = "tokenize text.txt book.txt --out text.tokens"
IMPORT = "import model.pt --vocab vocab.json --out imported"
GENERATE = "generate --engine run/run.onnx --backend native --length 300 --seed 1"
"""Writes no file; its decoder is let down."""


def texts(folder: Path) -> None:
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    (folder / "book.txt").write_text(BOOK, encoding="utf-8")


def again_or(
    command: str, refused: int = 1, resume: str = "train --resume --out run"
) -> Callable[[Call], None]:
    """Go on, or begin anew where there is nothing to go on from."""

    def call(p2: Call) -> None:
        if p2(resume).code == refused:
            assert p2(command).code == 0

    return call


def state_dict(folder: Path) -> None:
    import torch

    torch.manual_seed(1)
    parts = {"embedding": torch.nn.Embedding(5, 4), "rnn": torch.nn.GRU(4, 6), "fc": torch.nn.Linear(6, 5)}
    torch.save(torch.nn.ModuleDict(parts).state_dict(), folder / "model.pt")
    (folder / "vocab.json").write_text('["d", "b", "a", "c", "e"]')


SCENARIOS = [
    Scenario("train", TRAIN, (texts,), again_or(TRAIN)),
    Scenario(
        "train, over a finished run",
        f"{TRAIN} --seed 2",
        (texts, TRAIN, "export run --engine none"),
        again_or(f"{TRAIN} --seed 2", 2, "train --resume --seed 2 --out run"),
        ("run/**/*",),
    ),
    Scenario(
        "train, in an empty folder",
        TRAIN,
        (texts, lambda folder: (folder / "run").mkdir()),
        again_or(TRAIN),
    ),
    Scenario(
        "train --init-from",
        f"train text.txt --init-from run --out tuned --steps 4 --val-every 2 {SMALL}",
        (texts, TRAIN),
        again_or(
            f"train text.txt --init-from run --out tuned --steps 4 --val-every 2 {SMALL}",
            resume="train --resume --out tuned",
        ),
        ("run/**/*",),
    ),
    Scenario("train --resume", RESUME, (texts, TRAIN)),
    Scenario("export", "export run --engine none", (texts, TRAIN), keeps=("run/**/*",)),
    Scenario(
        "export, over another precision and its plan",
        "export run --fp16 --engine none",
        (texts, TRAIN, "export run"),
        keeps=("run/**/*",),
    ),
    Scenario(
        "export, over another checkpoint and its plan",
        "export run --engine none",
        (texts, TRAIN, "export run", RESUME),
        keeps=("run/**/*",),
    ),
    Scenario("export and a plan", "export run", (texts, TRAIN), keeps=("run/**/*",)),
    Scenario(
        "export and another plan of it",
        "export run --batch 1,2,4",
        (texts, TRAIN, "export run"),
        keeps=("run/best/*", "run/last/*", "run/*.onnx", "run/log.jsonl"),
    ),
    Scenario(
        "export --triton",
        "export run --engine none --triton models",
        (texts, TRAIN),
        keeps=("run/**/*",),
    ),
    Scenario(
        "export --triton, a second version",
        "export run --engine none --triton models",
        (texts, TRAIN, "export run --engine none --triton models", RESUME),
        keeps=("run/**/*", "models/**/*"),
    ),
    Scenario("tokenize", TOKENIZE, (texts,)),
    Scenario("tokenize, over a token file", TOKENIZE, (texts, "tokenize book.txt --out text.tokens")),
    Scenario(
        "eval",
        "eval run/run.onnx text.txt",
        (texts, TRAIN, "export run --engine none"),
        keeps=("**/*",),
    ),
    Scenario("import", IMPORT, (state_dict,), lambda p2: p2(IMPORT)),  # refused where it was done
    Scenario(
        "parity",
        "parity --checkpoint run --steps 10 --characters 20",
        (texts, TRAIN, "export run --engine none"),
        keeps=("run/**/*",),
    ),
    Scenario(
        "bench",
        "bench --quick --shape rnn,1,8,16 --contenders p2-int8 --out bench/report.json",
        may_be_more=(".json.old-",),
    ),
    Scenario(
        "bench, over a report",
        "bench --quick --shape gru,1,8,16 --contenders p2-int8 --out bench/report.json",
        ("bench --quick --shape rnn,1,8,16 --contenders p2-int8 --out bench/report.json",),
        keeps=("bench/*",),
        may_be_more=(".json.old-",),
    ),
    Scenario("practical baum-sweet", "practical baum-sweet --out done"),
    Scenario(
        "practical gradients, over a document",
        "practical gradients --hidden 4 --embedding 2 -T 3 --updates 2 --sequences 10 --out done",
        ("practical gradients --hidden 5 --embedding 2 -T 3 --updates 2 --sequences 10 --out done",),
        keeps=("done/*.json", "done/*.svg"),
    ),
    Scenario(
        "practical text",
        BOOK_RUN,
        (texts,),
        again_or(BOOK_RUN, resume=f"practical text --resume --out done {WRITING}"),
        may_be_more=(".json.old-",),
    ),
]

READS = [Scenario("generate", GENERATE, (texts, TRAIN, "export run --engine none"), keeps=("run/**/*",))]


def content(folder: Path) -> dict[str, Any]:
    """What is in a folder, but for what tells the time and for the numbers in the names of tensor files."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() or path.is_symlink():
            name = re.sub(r"(model|optimizer)-[\d-]+\.safetensors", r"\1", str(path.relative_to(folder)))
            found[name if name not in found else f"{name}, a second one"] = _content(path)
        elif not any(path.iterdir()):
            found[f"{path.relative_to(folder)}/"] = "an empty folder"
    return found


VOLATILE = {
    "seconds", "software", "document_sha256", "created", "machine", "built", "files", "p2.built",
    "characters_per_second", "wall", "cpu", "elapsed", "sha256", "figures", "claims", "document",
    "ms_per_update",
}  # fmt: skip


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _steady(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".jsonl":
        return [_steady(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix in (".svg", ".html", ".md"):  # they show times
        return "text"
    return digest(path)


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _steady(item) for name, item in value.items() if name not in VOLATILE}
    if isinstance(value, list):
        return [_steady(item) for item in value]
    return value


def difference(found: Any, expected: Any) -> str:
    """Where two values differ first."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = [key for key in {**found, **expected} if found.get(key) != expected.get(key)]
        return f" in {keys[0]}{difference(found.get(keys[0]), expected.get(keys[0]))}"
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        at = next(at for at, pair in enumerate(zip(found, expected, strict=True)) if pair[0] != pair[1])
        return f" in {at}{difference(found[at], expected[at])}"
    return f": {str(found)[:200]}, not {str(expected)[:200]}"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    return {
        digest(path): str(path.relative_to(folder))
        for pattern in patterns
        for path in folder.glob(pattern)
        if path.is_file()
    }


ENDS = {".svg": b"</svg>", ".html": b"</html>"}


def broken(folder: Path) -> Iterator[str]:
    """The files that are not whole; what has a hidden name is nobody's yet."""
    from p2.contract.errors import P2Error
    from p2.contract.plan import read_sidecar, sidecar_path
    from p2.runtime.step_file import open_step
    from p2.trainer import checkpoint

    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.startswith(".") or "/." in name or not path.is_file():
            continue
        try:
            if path.name == "model.json":
                checkpoint.load(path.parent)
            elif path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".jsonl":
                [
                    json.loads(line)
                    for line in path.read_text().splitlines(keepends=True)
                    if line.endswith("\n")
                ]
            elif path.suffix == ".onnx":
                open_step(path)
            elif path.suffix == ".plan":
                sidecar = read_sidecar(path)
                sidecar.check(path, path.stat().st_size, digest(path))
                if sidecar.onnx_sha256 != digest(path.with_suffix(".onnx")):
                    yield f"{name} was not built from the .onnx beside it"
                assert sidecar_path(path).exists()
            elif path.suffix in ENDS and not path.read_bytes().rstrip().endswith(ENDS[path.suffix]):
                yield f"{name} is cut off"
        except (P2Error, ValueError, OSError) as error:
            yield f"{name}: {error}"


def copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return Path(shutil.copytree(source, target, symlinks=True))
