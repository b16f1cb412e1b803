"""Every kind of JSON file that p2 reads, damaged in every way: one sentence, or it is read and shown."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from p2.contract import plan
from p2.contract.card import Card
from p2.contract.errors import P2Error

ROOT = Path(__file__).resolve().parent.parent
Read = Callable[[Path], object]

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


def screen() -> Console:
    """A terminal that takes what the real one takes, which `prepare_streams` has made safe."""
    return Console(file=io.TextIOWrapper(io.BytesIO(), "utf-8", errors="backslashreplace"), width=100)


def small(value: Any) -> Any:
    """A document with at most two of everything that there are many of."""
    if isinstance(value, dict):
        return {name: small(item) for name, item in value.items()}
    return [small(item) for item in value[:2]] if isinstance(value, list) else value


def a_checkpoint(folder: Path) -> tuple[Path, Any, Read]:
    from p2.commands import inspection as inspect
    from p2.trainer import checkpoint
    from p2.trainer.metrics import Metrics
    from p2.trainer.model import CharModel
    from p2.trainer.options import TrainOptions
    from p2.trainer.record import Record

    card = Card("lstm", 1, 2, 4, "abc")
    corpus = {"sources": ["a.txt"], "sha256": "0" * 64, "characters": 9}
    metrics = Metrics(1.0, 0.5)
    record = Record(TrainOptions().to_dict(), corpus, {"torch": "2"}, 3, 1.5, metrics, metrics, 2, 1.0, [0.5])
    checkpoint.save(folder, card, dict(CharModel(card).state_dict()), record)
    path = folder / "model.json"
    document = json.loads(path.read_text())
    # Of the format before: nothing but the reader's own checks stands between it and its use.
    del document["document_sha256"]
    document["format"] = "p2 checkpoint 1"

    def read(path: Path) -> None:
        found = inspect.describe(str(path.parent))
        inspect.show(found, screen())
        TrainOptions.from_dict(found["training"]["options"], folder, "x")

    return path, document, read


def a_sidecar(folder: Path) -> tuple[Path, Any, Read]:
    from p2.commands import inspection as inspect

    data = b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(36)
    path = folder / "charlm.plan"
    path.write_bytes(data)
    sidecar = plan.Sidecar(
        Card("gru", 1, 2, 4, "abc"), "tensorrt", "10.13.3.9", "0" * 64, hashlib.sha256(data).hexdigest(),
        len(data), "float32", ((1, 1, 1), (1, 2, 4)), {"tf32": False}, "2026-01-01T00:00:00+00:00",
        ("sm90",), (plan.Layer("__myl_Fc_myl1_3", "kgen", ("MatMul",)),),
    )  # fmt: skip

    def read(path: Path) -> None:
        found = inspect.describe(str(path.with_suffix("")))
        inspect.show(found, screen())
        inspect.show(found, screen(), kernels=True)

    return plan.sidecar_path(path), sidecar.to_dict() | {"sidecar_version": 1}, read


def a_bench_report(folder: Path) -> tuple[Path, Any, Read]:
    from p2.bench import compare, rendering
    from p2.bench.reading import load

    document = small(json.loads((ROOT / "artifacts/bench/xeon-2-cores.json").read_text()))
    path = folder / "report.json"
    path.write_text(json.dumps(document))
    good = load(path)

    def read(path: Path) -> None:
        found = load(path)
        compare.show(good, found, screen())
        compare.to_markdown(found, good).encode()
        rendering.rendered(found, path)

    return path, document, read


def a_practical(name: str) -> Callable[[Path], tuple[Path, Any, Read]]:
    def make(folder: Path) -> tuple[Path, Any, Read]:
        from p2.practical import page

        document = json.loads((ROOT / f"artifacts/practical/{name}.json").read_text())
        read = lambda path: page.write(path.parent)  # noqa: E731
        return folder / f"{name}.json", small(document), read

    return make


def a_gpu_report(folder: Path) -> tuple[Path, Any, Read]:
    from p2.gpu_check import run

    report = json.loads((ROOT / "artifacts/gpu/h100-check-pytorch.json").read_text())
    race = json.loads((ROOT / "artifacts/gpu/h100-bench-pytorch-onnxruntime.json").read_text())
    kinds = {one["check"]["kind"]: one for one in report["checks"] + race["checks"]}
    return (
        folder / "gpu.json",
        small(report | {"checks": []}) | {"checks": small([*kinds.values()])},
        run.render,
    )


def a_training(folder: Path) -> tuple[Path, Any, Read]:
    from p2.practical.toy.results import results_of
    from p2.practical.toy.runs import Runs
    from p2.practical.toy.training import ToyOptions

    options = ToyOptions("rnn", 4)
    tests = {y: {"numbers": None, "tested": 3, "right": 2} for y in ("0", "1")}
    record = {
        "options": asdict(options),
        "converged": None,
        "parameters": {"recurrent": 5, "output": 2, "embedding": 3},
        "tests": {"any": tests},
        "seconds": {"wall": 1.0, "cpu": 1.0, "elapsed": 1.0},
        "loss": [0.7, 0.6],
        "accuracy": [0.5, 0.6],
    }
    runs = Runs(folder, [options])
    return runs.path(options), record, lambda _: results_of(runs.records())


def a_clock(folder: Path) -> tuple[Path, Any, Read]:
    from p2.practical.text.clock import Clock

    document = {"wall": 1.0, "cpu": 2, "mode": "full"}
    return folder / "clock.json", document, lambda path: Clock(path, "quick", resume=True).seconds()


def a_log(folder: Path) -> tuple[Path, Any, Read]:
    from p2.trainer.runfolder import read_log

    line = {"step": 1, "loss": 1.0, "accuracy": 0.5, "bits_per_character": 1.4, "val_loss": 1.0}
    return folder / "log.jsonl", line, read_log


KINDS: dict[str, Callable[[Path], tuple[Path, Any, Read]]] = {
    "checkpoint": a_checkpoint,
    "sidecar": a_sidecar,
    "bench": a_bench_report,
    "baum-sweet": a_practical("baum-sweet"),
    "gradients": a_practical("gradients"),
    "text": a_practical("text"),
    "gpu": a_gpu_report,
    "training": a_training,
    "clock": a_clock,
    "log": a_log,
}


@pytest.fixture
def pictures_aside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No picture is drawn or needed: that takes longer than all the rest."""
    from p2.bench import plots

    for name in ("of_run", "of_model"):
        monkeypatch.setattr(plots, name, lambda *_: [])
    monkeypatch.setattr("p2.practical.page_parts.inline", lambda _: "<svg ></svg>")
    return


@pytest.mark.usefixtures("pictures_aside")
@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_document_is_one_sentence_or_harmless(kind: str, tmp_path: Path) -> None:
    path, document, read = KINDS[kind](tmp_path)
    path.write_text(json.dumps(document))
    read(path)

    @settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(damaged(document))
    def refused_or_read(data: bytes) -> None:
        path.write_bytes(data)
        said = ""
        try:
            read(path)
        except P2Error as error:
            said = str(error)
        assert said.isprintable()
        assert len(said) < len(str(path)) + 400

    refused_or_read()


@pytest.mark.usefixtures("pictures_aside")
@pytest.mark.parametrize("kind", KINDS)
def test_a_document_without_any_one_of_its_values_is_one_sentence_or_harmless(
    kind: str, tmp_path: Path
) -> None:
    path, document, read = KINDS[kind](tmp_path)
    there = [place for place in places(document) if place]
    for place in random.Random(kind).sample(there, min(len(there), 150)):
        path.write_bytes(changed(document, place, ...))
        with contextlib.suppress(P2Error):
            read(path)


@pytest.mark.usefixtures("pictures_aside")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("clock", "log")])
def test_what_is_no_document_at_all_is_refused(kind: str, tmp_path: Path) -> None:
    path, _, read = KINDS[kind](tmp_path)
    for data in BYTES:
        path.write_bytes(data)
        with pytest.raises(P2Error, match=path.name):
            read(path)


@pytest.mark.parametrize("line", [{"step": 2**62, "loss": 1e30}, {"step": 5, "accuracy": -1e30}])
def test_the_curve_of_any_log_is_drawn(line: dict[str, float], tmp_path: Path) -> None:
    from p2.trainer import curve

    (tmp_path / "log.jsonl").write_text(f'{json.dumps(line)}\n{{"step": 1, "bits_per_character": 1}}\n')
    assert curve.draw(tmp_path / "log.jsonl", tmp_path / "curve.svg")
