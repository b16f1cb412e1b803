"""What each cell and each regulariser gives: trained one after the other by `p2 train`, and put into tables.

    python docs/quality.py book.txt

The first 90 % of the text are trained on, the next 5 % validate, the last 5 % test what validated best, as
`p2 eval` does. Cells have as many parameters as one another and learn from all of it; regularisers are of
one LSTM that over-fits the first tenth of it. Writes quality.json and quality.md to artifacts/quality/,
anew after each training. Stopped or killed, the same command goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import p2
from p2.contract.card import Card, stored_parameters
from p2.contract.errors import P2Error
from p2.contract.files import write_bytes
from p2.contract.shell import command
from p2.trainer import checkpoint
from p2.trainer.corpus import load
from p2.trainer.ranges import flag

if TYPE_CHECKING:
    from p2.trainer.run import Result

SHAPE = {"layers": 2, "embedding": 64, "stateful": True, "batch_size": 32, "seq_len": 64, "val_every": 100}
RATE = {"lr": 4e-3, "schedule": "cosine", "lr_decay": 0.01, "warmup": 50}
COMMON: dict[str, Any] = SHAPE | RATE | {"precision": "float32"}
CELLS: dict[str, dict[str, Any]] = {cell: {"cell": cell} for cell in ("rnn", "lstm", "gru")}
REGULARISERS: dict[str, dict[str, Any]] = {
    "none": {},
    "dropout": {"dropout": 0.3, "output_dropout": 0.3},
    "variational dropout": {"dropout": 0.3, "output_dropout": 0.3, "variational": True},
    "recurrent dropout": {"recurrent_dropout": 0.3},
    "weight drop": {"weight_drop": 0.3},
    "embedding dropout": {"embedding_dropout": 0.1},
    "weight decay": {"weight_decay": 1.0},
    "averaged weights": {"ema": 0.99},
    "tied embedding": {"tied": True},
    "dropout, weight drop, average": {"dropout": 0.3, "output_dropout": 0.3, "weight_drop": 0.3, "ema": 0.99},
}
PARTS = {"cells": CELLS, "regularisers": REGULARISERS, "best": {"best": {"preset": "best"}}}
"""The last is trained only if it is asked for: it takes half an hour or more."""
HEADS = ("", "model", "parameters", "training", "validation", "test", "best update", "seed", "minutes")


def main() -> int:
    """Train what is missing, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=["cells", "regularisers"])
    parser.add_argument("--steps", type=int, default=2000, help="updates of each training but the best")
    parser.add_argument("--parameters", type=int, default=350_000, help="of each model but the best")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("artifacts/quality"))
    asked = parser.parse_args()
    corpus = load([str(asked.text)])
    sources = split(corpus.text, asked.out)
    document: dict[str, Any] = {
        "format": "p2.quality/1",
        "text": {"name": asked.text.name, "sha256": corpus.sha256, "characters": len(corpus)},
        "software": {"p2": p2.__version__, "python": platform.python_version()},
        "runs": [],
    }
    document["runs"] = others(asked.out / "quality.json", document["text"], asked.only)
    for part, name, seed in [(p, n, s) for p in asked.only for n in PARTS[p] for s in asked.seeds]:
        options = {"vocab_from": asked.text, "seed": seed, **PARTS[part][name]}
        options |= sources["short" if part == "regularisers" else "train"]
        if part != "best":
            options = {**COMMON, "steps": asked.steps, **options}
            options |= width(options, corpus.vocabulary, asked.parameters)
        options["out"] = asked.out / part / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"
        print(f"\n{part}: {name}, seed {seed}", flush=True)
        result = train(options, asked.threads)
        if result.interrupted:
            return 130
        document["runs"].append(
            {"part": part, "name": name, **measured(result, options, asked.out / "test.txt")}
        )
        write_bytes(asked.out / "quality.json", (json.dumps(document, indent=1) + "\n").encode())
        write_bytes(asked.out / "quality.md", tables(document).encode())
    return 0


def others(path: Path, text: dict[str, Any], parts: list[str]) -> list[dict[str, Any]]:
    """The runs that a document has of other parts, of the same text."""
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    return [run for run in found["runs"] if run["part"] not in parts and found["text"] == text]


def split(text: str, out: Path) -> dict[str, dict[str, Any]]:
    """Write the parts of a text; those to train on end with what validates.

    Returns:
        How ``train`` and ``short`` are given to `p2 train`.
    """
    learnt, validated = len(text) * 90 // 100, len(text) * 95 // 100
    validation = text[learnt:validated]
    parts = {"train": text[:validated], "short": text[: learnt // 10] + validation, "test": text[validated:]}
    out.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        write_bytes(out / f"{name}.txt", part.encode())
    # The half keeps rounding from taking a character away.
    return {
        name: {
            "text": out / f"{name}.txt",
            "val_fraction": round((len(validation) + 0.5) / len(parts[name]), 9),
        }
        for name in ("train", "short")
    }


def width(options: dict[str, Any], vocabulary: str, parameters: int) -> dict[str, int]:
    """The widths that give a model the number of parameters nearest to this."""

    def sizes(hidden: int) -> dict[str, int]:
        return {"hidden": hidden, "embedding": hidden if options.get("tied") else options["embedding"]}

    def difference(hidden: int) -> int:
        cell, layers, embedding = options.get("cell", "lstm"), options["layers"], sizes(hidden)["embedding"]
        return abs(trained(Card(cell, layers, embedding, hidden, vocabulary), options) - parameters)

    return sizes(min(range(1, 2049), key=difference))


def trained(card: Card, options: dict[str, Any]) -> int:
    """Parameters that training changes: a tied matrix counts once."""
    return stored_parameters(card) - bool(options.get("tied")) * card.vocab * card.hidden


def train(options: dict[str, Any], threads: int | None) -> Result:
    """Train, or go on where it was."""
    given = {name: value for name, value in options.items() if name != "text"}
    begun = (options["out"] / "last" / "model.json").exists()
    return p2.train([options["text"]], resume=begun, quiet=False, threads=threads, **given)


def measured(result: Result, options: dict[str, Any], test: Path) -> dict[str, Any]:
    """What came of it, in bits per character."""
    words: list[str | Path] = ["p2", "train", options["text"]]
    for name, value in options.items():
        if name != "text":  # a file by its name alone: where it lay is nobody else's business
            shown = Path(value).name if name == "vocab_from" else str(value)
            words += [flag(name)] if value is True else [flag(name), shown]
    best = checkpoint.load(result.folder)
    tested = p2.evaluate([result.folder], test).engines[0].score
    assert best.record.validation is not None
    assert best.record.train is not None
    return {
        "seed": options["seed"],
        "command": command(*words),
        "model": f"{best.card.cell} {best.card.layers} x {best.card.hidden}",
        "parameters": trained(best.card, options),
        "updates": result.record.step,
        "best_update": best.record.step,
        "minutes": round(result.record.seconds / 60, 1),
        "training_bits": round(best.record.train.bits_per_character, 4),
        "validation_bits": round(best.record.validation.bits_per_character, 4),
        "test_bits": round(tested.bits_per_character, 4),
    }


def tables(document: dict[str, Any]) -> str:
    """The runs as Markdown, a table for each part, in bits per character; of several seeds the mean."""
    text, lines = document["text"], []
    lines += [f"{text['name']}, {text['characters']:,} characters (SHA-256 {text['sha256'][:16]}). Made by"]
    lines += ["`python docs/quality.py`, which says how; each run's command is in quality.json.", ""]
    for part in dict.fromkeys(run["part"] for run in document["runs"]):
        rows = [run for run in document["runs"] if run["part"] == part]
        lines += [f"## {part.capitalize()}", "", "| " + " | ".join(HEADS) + " |", "| --- " * len(HEADS) + "|"]
        for name in dict.fromkeys(run["name"] for run in rows):
            same = [run for run in rows if run["name"] == name]
            bits = [
                f"{statistics.mean(run[f'{which}_bits'] for run in same):.3f}"
                for which in ("training", "validation", "test")
            ]
            cells = [name, same[0]["model"], f"{same[0]['parameters']:,}", *bits]
            best = ", ".join(f"{run['best_update']:,}" for run in same)
            cells += [f"{best} of {same[0]['updates']:,}", ", ".join(str(run["seed"]) for run in same)]
            cells += [f"{sum(run['minutes'] for run in same):.1f}"]
            lines += ["| " + " | ".join(cells) + " |"]
        lines += [""]
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except P2Error as error:
        sys.exit(f"quality: {error}")
