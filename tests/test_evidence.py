"""Every table of results in README.md and docs/ says what the committed JSON says."""

from __future__ import annotations

import functools
import itertools
import json
from pathlib import Path

import pytest

from p2.contract.agreement import LIMITS
from p2.contract.card import PRECISIONS

ROOT = Path(__file__).parent.parent

CPU_REPORTS = ("zen5-2-cores", "zen5-cells")
GPU_REPORTS = ("h100-bench-pytorch-onnxruntime", "h100-bench-tensorrt-8.6")


@functools.cache
def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@functools.cache
def evidence(name: str) -> dict:
    return json.loads((ROOT / "artifacts" / f"{name}.json").read_text())


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def rows_below(text: str, heading: str) -> list[str]:
    """The rows of the first table after a heading, without its head."""
    lines = text[text.index(f"\n{heading}\n") :].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    return list(itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :]))


def test_the_demo():
    report, said = evidence("evidence/demo"), page("docs/parity.md")
    base = report["engines"][0]["speed"]["characters_per_second"]
    wanted = []
    for engine in report["engines"]:
        speed = engine["speed"]["characters_per_second"]
        bits = f"{engine['bits_per_character']:.4f}"
        wanted.append(row(engine["title"], f"{speed:,.0f}", f"{speed / base:.1f}", bits))
    shown = rows_below(said, "## Measured")
    assert [line.rsplit(" |", 2)[0] + " |" for line in shown] == wanted
    assert report["machine"]["processor"] in said
    assert report["machine"]["packages"]["torch"] in said


def test_the_tolerances():
    def shown(limit: float) -> str:
        return f"{limit:.0e}".replace("e-0", "e-")

    rows = [row(p, shown(LIMITS[p].relative), shown(LIMITS[p].kl)) for p in PRECISIONS]
    assert rows_below(page("docs/parity.md"), "## Tolerances") == rows


def microseconds(entry: dict) -> str:
    time = 1e6 / entry["characters_per_second"]["median"]
    return f"{time:,.0f}" if time >= 100 else f"{time:.1f}"


def cpu_rows(document: dict) -> list[str]:
    """Microseconds per character of every model in a benchmark's report."""
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
        peer = f"{microseconds(best)} ({best['title'].split(',')[0]})"
        rows.append(row(name, microseconds(by_key["torch-eager"]), peer, *own, gain))
    return rows


def test_the_benchmark_on_a_cpu():
    documents = [evidence(f"bench/{name}") for name in CPU_REPORTS]
    empty = "| | | | | | | | |"
    first, second = map(cpu_rows, documents)
    assert rows_below(page("docs/bench.md"), "## On a CPU") == [*first, empty, *second]
    counts = []
    for document in documents:
        verdicts = [t["reached"] for m in [*document["models"], document] for t in m["targets"]]
        counts.append(f"{verdicts.count(True)} of {len(verdicts) - verdicts.count(None)}")
    assert f"{counts[0]} targets reached, of the other cells {counts[1]} |" in page("docs/bench.md")


def test_what_is_said_of_the_benchmark_on_a_cpu():
    """The answers below its table, from the targets of its reports."""

    def measured(what: str, model: str = "", names: tuple[str, ...] = CPU_REPORTS) -> list[float]:
        documents = [evidence(f"bench/{name}") for name in names]
        of_models = [m for document in documents for m in document["models"] if model in m["name"]]
        targets = [t for part in [*of_models, *documents] for t in part["targets"] if what in t["what"]]
        return sorted(float(t["measured"].strip("×s ")) for t in targets)

    shown = {
        line.split("|")[1].strip(): line.split("|")[2]
        for line in rows_below(page("docs/bench.md"), "## What the reports say")
    }
    least, *_ = measured("times the fastest other float32")
    assert f"by {100 * (least - 1):.0f} % at least" in shown["float32 against every peer"]
    first, *_, last = measured("to the first character")
    assert f"{first:.2f} to {last:.2f} s" in shown["from the shell to the first character"]
    (training,) = measured("training on the CPU", names=CPU_REPORTS[:1])
    assert f"{training:.1f} times" in shown["training against a hand-written loop over `nn.LSTM`"]
    single, best = (measured(f"characters, {kind}, times") for kind in ("float32", "best precision"))
    prompts = shown["prompt against writing (the target is 2)"]
    assert f"{single[0]:.1f} to {single[-1]:.1f} times" in prompts
    assert f"{best[0]:.1f} to {best[-1]:.1f} in the best precision" in prompts
    (gru,), (rnn,) = (measured("float32, times eager", f"{cell},") for cell in ("gru", "rnn"))
    assert f"{gru:.1f}, {rnn:.1f} times" in shown["GRU, RNN against eager PyTorch (the target is 10)"]
    *_, worst = measured("against the best smaller batch")
    assert (
        f"{worst:.2f} times"
        in shown["a character in a batch, against the best smaller one (the target is 1.05)"]
    )
    cost: dict[str, list[float]] = {"p2-int8": [], "p2-int4": []}
    for model in evidence(f"bench/{CPU_REPORTS[0]}")["models"]:
        for entry in model["entries"]:
            if entry["key"] in cost and entry["quality"]:
                cost[entry["key"]].append(entry["quality"]["difference"])
    assert f"{max(cost['p2-int8']):.4f} at most" in shown["bits per character that int8 costs"]
    of_int4 = ", ".join(f"{value:.4f}" for value in cost["p2-int4"])
    assert of_int4 in shown["bits per character that int4 costs at 128, 512"]


@functools.cache
def gpu_entries() -> dict[tuple[int, str], dict]:
    """(hidden, contender) -> what it reached on the H100."""
    found = {}
    for name in GPU_REPORTS:
        for check in evidence(f"gpu/{name}")["checks"]:
            for entry in check["details"].get("entries", []):
                if entry["characters_per_second"]:
                    found[check["check"]["hidden"], entry["key"]] = entry
    return found


def test_the_benchmark_on_a_gpu():
    said = page("docs/gpu.md")
    for name in GPU_REPORTS:
        assert evidence(f"gpu/{name}")["gpus"][0]["name"] in said
        assert evidence(f"gpu/{name}")["machine"]["gpu_driver"] in said
    found = gpu_entries()
    plans = [f"p2-tensorrt-{kind}{p}" for kind in ("", "single-") for p in ("float32", "float16")]
    keys = ("cuda-eager", "cuda-compile", *plans, "p2-cuda-graph", "p2-onnxruntime-cuda-float32")
    rows = []
    for hidden in (128, 1024, 4096):
        cells = []
        for key in keys:
            entry = found.get((hidden, key))
            together = {p["batch"]: p["characters_per_second"] for p in entry["batches"]} if entry else {}
            many = f" ({together[64]:,.0f})" if 64 in together else ""
            cells.append(f"{microseconds(entry)}{many}" if entry else "not run")
        rows.append(row(str(hidden), *cells))
    assert rows_below(said, "## Speed") == rows


def gpu_summary(hidden: int) -> str:
    """The row of README: the fastest of p2's ways for each precision, beside the fastest other one."""
    of_it = {key: entry for (size, key), entry in gpu_entries().items() if size == hidden}
    own = {key: entry for key, entry in of_it.items() if key.startswith("p2-")}

    def speed(entry: dict) -> float:
        return entry["characters_per_second"]["median"]

    peer = max((entry for key, entry in of_it.items() if key not in own), key=speed)
    assert peer is of_it["cuda-compile"]
    best = [
        max((entry for entry in own.values() if entry["precision"] == precision), key=speed)
        for precision in ("float32", "float16", "int8", "int4")
    ]
    return row(
        f"LSTM 2 x {hidden}",
        microseconds(of_it["cuda-eager"]),
        f"{microseconds(peer)} (torch.compile)",
        *map(microseconds, best),
        f"{speed(best[0]) / speed(peer):.2f}×",
    )


def test_the_results_in_the_readme():
    shown = [line for line in rows_below(page("README.md"), "## Results") if "**" not in line]
    cpu = [line for name in CPU_REPORTS[:2] for line in cpu_rows(evidence(f"bench/{name}"))]
    gpu = [gpu_summary(hidden) for hidden in (128, 1024, 4096)]
    assert [line for line in shown if line not in cpu] == gpu
    assert len(shown) > len(gpu) + 3


def test_what_was_verified_on_a_gpu():
    """A cell says that it ran there if, and only if, parity passed there."""
    found: dict[str, dict[str, list[dict]]] = {}
    files = {
        "PyTorch CUDA graphs": "pytorch",
        "ONNX Runtime, CUDA": "onnxruntime-cuda",
        "TensorRT 8.6": "tensorrt-8.6",
    }
    for title, name in files.items():
        for check in evidence(f"gpu/h100-check-{name}")["checks"]:
            if check["check"]["kind"] == "parity" and check["check"]["backend"] != "torch-cuda":
                found.setdefault(title, {}).setdefault(check["check"]["precision"], []).append(check)
    shown = {
        line.split(" | ")[0][2:]: line.split(" | ")[1:7]
        for line in rows_below(page("README.md"), "## What was verified where")
        if "H100" in line
    }
    assert shown.keys() == files.keys()
    for title, cells in shown.items():
        for precision, cell in zip(PRECISIONS, cells, strict=True):
            checks = found[title].get(precision, [])
            passed = bool(checks) and all(check["outcome"] == "passed" for check in checks)
            assert (cell in ("text", "near")) == passed, (title, precision)
            assert passed or not checks or cell == "refused", (title, precision)
            if cell == "text":
                for check in checks:
                    assert set(check["details"]["first_difference"].values()) == {None}


@pytest.mark.parametrize(("place", "column"), [("", 2), ("seed-scale/", 3)])
def test_the_practical(place, column):
    document = evidence(f"practical/{place}text")
    results = document["results"]

    def shares(name: str) -> str:
        low, middle, high = (f"{100 * c['greedy'][name]:.0f} %" for c in results["checkpoints"])
        return f"{low}, {middle} and {high}"

    shown = rows_below(page("docs/practical.md"), "## Over-fitting a book")
    column_of_it = [line.split("|")[column].strip() for line in shown]
    assert column_of_it[1:] == [
        f"{document['seconds']['wall'] / 60:.0f}",
        shares("loops"),
        shares("copied"),
        f"{results['training']['best_accuracy']:.3f}",
        f"{results['ceiling']['mean']:.3f}",
    ]
    gpus = document["machine"]["gpus"]
    assert ("an NVIDIA H100" if gpus else "two cores") in column_of_it[0]


def test_the_best_model():
    said = page("docs/train.md")
    eager, *exported = evidence("quality/best")["engines"]
    bits, perplexity = eager["bits_per_character"], eager["perplexity"]
    assert f"**{bits:.3f} bits per character, perplexity {perplexity:.3f}**" in said
    assert max(abs(one["difference"]) for one in exported) < 0.0005  # "loses nothing"
    log = (ROOT / "artifacts/quality/best.jsonl").read_text().splitlines()
    validated = [entry for entry in map(json.loads, log) if "val_bits_per_character" in entry]
    best = min(validated, key=lambda entry: entry["val_bits_per_character"])
    assert f"{best['val_bits_per_character']:.3f} on the validation" in said
    assert f"{best['step']:,} of {validated[-1]['step']:,} updates" in said


def test_integers_in_onnx_runtime_are_the_reports():
    page = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")
    document = json.loads((ROOT / "artifacts/bench/exact-integers.json").read_text(encoding="utf-8"))
    for model in document["models"]:
        speeds = {entry["key"]: entry["characters_per_second"]["median"] for entry in model["entries"]}
        for engine, prefix in (("compiled decoder", "p2-"), ("ONNX Runtime", "p2-onnxruntime-")):
            numbers = [f"{speeds[prefix + precision]:,.0f}" for precision in ("float32", "int8", "int4")]
            assert f"| LSTM 2 x {model['card']['hidden']} | {engine} | {' | '.join(numbers)} |" in page
