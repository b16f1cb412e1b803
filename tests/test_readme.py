"""Every command of the README runs, in its order, in one folder; training is only made short."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from p2.bench import rates, startup
from p2.cli import main
from p2.contract.card import PRECISIONS
from p2.contract.plan import FLAVOURS
from p2.runtime.nvidia import gpus, installed

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

SMALL = shlex.split("--steps 4 --hidden 16 --embedding 8 --layers 2 --seq-len 16 --batch-size 4")


FEW_TEXTS = shlex.split("--length 100 --sample-length 100 --samples 2")


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    return [line.split("  #")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]


def shortened(argv: list[str]) -> list[str]:
    """The same with a tiny model, or few contenders: of an option given twice the last counts."""
    if argv[0] == "bench" and argv[1] not in ("compare", "profile"):
        return [*argv, "--quick", "--contenders", "p2-int8", "--batches", "1"]
    if argv[:2] == ["practical", "baum-sweet"]:
        return [*argv, "--quick", "--hidden", "4", "--updates", "2"]
    if argv[:2] == ["practical", "gradients"]:
        return [*argv, "--hidden", "4", "--updates", "2", "-T", "3", "--sequences", "8"]
    if argv[:2] == ["practical", "text"]:
        if "--resume" in argv:
            return [*argv, *FEW_TEXTS]
        tiny = shlex.split("--steps 4 --hidden 16 --embedding 8 --layers 1 --batch-size 4 --accuracies 1")
        return [*argv, *tiny, *FEW_TEXTS]
    if argv[0] != "train":
        return argv
    if "--resume" in argv:
        return [*argv, "--steps", "8"]
    if "--init-from" in argv:
        return [*argv, "--steps", "4", "--seq-len", "16", "--batch-size", "4"]
    return [*argv, *SMALL]


def test_every_p2_command_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # What the machine can do, and how fast a process starts, is tested elsewhere and takes seconds.
    monkeypatch.setattr(rates, "measure", lambda threads: {"matmul numpy": 1e9})
    monkeypatch.setattr(startup, "measure", lambda runs, folder: {})
    # As in most books, with characters that the text inside Python does not have.
    book = "The quick brown fox “jumps” over the lazy dog — and naïvely so. The end.\n"
    Path("book.txt").write_text(book * 60, encoding="utf-8")
    run = [shlex.split(command)[1:] for command in commands() if command.startswith("p2 ")]
    assert len(run) > 20
    for argv in run:
        code = main(shortened(argv))
        said = capsys.readouterr()
        if argv[-1] == "charlm.plan" and not gpus().devices:
            assert code == 1
            built = any(map(installed, FLAVOURS.values()))
            assert ("needs an NVIDIA GPU" if built else "there is no charlm.plan") in said.err
        else:
            assert code == 0, (argv, said.err)


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make ")])
def test_every_make_target_exists(command):
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)


def test_no_command_is_of_a_kind_that_is_not_tested():
    assert {command.split()[0] for command in commands()} == {"p2", "make"}


def test_every_extra_exists():
    named = {e for group in re.findall(r"pip install '\.\[(.*?)\]'", README) for e in group.split(",")}
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert named <= set(extras)
    assert named


def test_every_picture_and_file_that_it_names_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).is_file(), target
    for name in re.findall(r"`((?:spec|tests|trainer|export|runtime|reports)/[\w./]*)`", README):
        assert (ROOT / name).exists(), name


def test_its_figures_are_those_of_the_evidence():
    report = json.loads((ROOT / "artifacts/evidence/demo.json").read_text())
    base = report["engines"][0]["speed"]["characters_per_second"]
    for engine in report["engines"]:
        speed = engine["speed"]["characters_per_second"]
        row = (
            f"| {engine['title']} | {speed:,.0f} | {speed / base:.1f} | {engine['bits_per_character']:.4f} |"
        )
        assert row in README
    assert report["machine"]["processor"] in README


def microseconds(entry: dict) -> str:
    time = 1e6 / entry["characters_per_second"]["median"]
    return f"{time:,.0f}" if time >= 100 else f"{time:.1f}"


def bench_rows(document: dict) -> list[str]:
    """The README's table of microseconds per character, from a benchmark's report."""
    rows = []
    for measured in document["models"]:
        card = measured["card"]
        by_key = {e["key"]: e for e in measured["entries"] if e["characters_per_second"]}
        peers = [
            e
            for e in by_key.values()
            if e["group"] == "peer" and e["device"] == "cpu" and e["key"] != "torch-eager"
        ]
        best = max(peers, key=lambda e: e["characters_per_second"]["median"])
        own = [microseconds(by_key[f"p2-{p}"]) for p in ("float32", "float16", "int8", "int4")]
        name = f"{card['cell'].upper()} {card['layers']} x {card['hidden']}"
        what = "float32, times the fastest other float32"
        gain = next(target["measured"] for target in measured["targets"] if target["what"] == what)
        rows.append(
            f"| {name} | {microseconds(by_key['torch-eager'])} | {microseconds(best)}"
            f" ({best['title'].split(',')[0]}) | {' | '.join(own)} | {gain} |"
        )
    return rows


def test_its_benchmark_is_the_committed_report():
    names = ("2-cores", "cells", "shared-cache")
    document, *others = (
        json.loads((ROOT / f"artifacts/bench/zen4-{name}.json").read_text()) for name in names
    )
    for row in itertools.chain.from_iterable(map(bench_rows, (document, *others))):
        assert row in README
    verdicts = [t["reached"] for m in [*document["models"], document] for t in m["targets"]]
    reached, judged = verdicts.count(True), len(verdicts) - verdicts.count(None)
    assert f"{reached} of {judged} targets" in README


def test_its_table_of_a_gpu_is_the_committed_reports():
    found: dict[tuple[int, str], dict] = {}
    for name in ("pytorch-onnxruntime", "tensorrt-8.6"):
        document = json.loads((ROOT / f"artifacts/gpu/h100-bench-{name}.json").read_text())
        assert document["gpus"][0]["name"] in README
        assert document["machine"]["gpu_driver"] in README
        for check in document["checks"]:
            for entry in check["details"].get("entries", []):
                if entry["characters_per_second"]:
                    found[check["check"]["hidden"], entry["key"]] = entry
    plans = [f"p2-tensorrt-{kind}{p}" for kind in ("", "single-") for p in ("float32", "float16")]
    keys = ("cuda-eager", "cuda-compile", *plans, "p2-cuda-graph", "p2-onnxruntime-cuda-float32")
    for hidden in (128, 1024, 4096):
        cells = []
        for key in keys:
            entry = found.get((hidden, key))
            together = {p["batch"]: p["characters_per_second"] for p in entry["batches"]} if entry else {}
            many = f" ({together[64]:,.0f})" if 64 in together else ""
            cells.append(f"{microseconds(entry)}{many}" if entry else "not run")
        assert f"| {hidden} | {' | '.join(cells)} |" in README


def test_what_it_says_of_a_gpu_is_what_the_checks_found():
    rows = re.findall(
        r"^\| (PyTorch CUDA graphs|ONNX Runtime|TensorRT 8\.6)[^|]*\| (\*\*H100.*)$", README, re.M
    )
    assert len(rows) == 3
    for (title, row), name in zip(rows, ("pytorch", "onnxruntime-cuda", "tensorrt-8.6"), strict=True):
        cells = dict(zip(PRECISIONS, row.split(" | "), strict=False))
        document = json.loads((ROOT / f"artifacts/gpu/h100-check-{name}.json").read_text())
        for check in document["checks"]:
            precision, found = check["check"]["precision"], check["details"]
            if check["check"]["kind"] != "parity" or check["check"]["backend"] == "torch-cuda":
                continue
            if check["outcome"] != "passed":
                assert cells[precision].startswith("refused"), title
                continue
            assert "H100" in cells[precision], (title, precision)
            if precision == "float32" or "the same 2,000 characters" in cells[precision]:
                assert set(found["first_difference"].values()) == {None}


@pytest.mark.parametrize(("place", "machine"), [("", "two cores"), ("seed-scale/", "an NVIDIA H100")])
def test_what_it_says_of_the_practical_is_the_committed_document(place, machine):
    document = json.loads((ROOT / f"artifacts/practical/{place}text.json").read_text())
    results = document["results"]
    said = " ".join(README.split())
    assert f"took {document['seconds']['wall'] / 60:.0f} minutes on {machine}" in said
    for name in ("loops", "copied"):
        low, middle, high = (f"{100 * c['greedy'][name]:.0f} %" for c in results["checkpoints"])
        assert f"{low}, {middle} and {high}" in said
    assert f"came to {results['training']['best_accuracy']:.3f}" in said
    if not place:
        assert f"an accuracy of {results['ceiling']['mean']:.3f} there" in said
