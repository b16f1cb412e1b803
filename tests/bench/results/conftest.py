"""A made-up benchmark report, in which every figure can be checked by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from p2.bench.document import SCHEMA

MIB = 1 << 20

# Key -> title, precision, group, microseconds a character at hidden 512.
CONTENDERS = {
    "torch-eager": ("nn.LSTM, eager PyTorch", "float32", "peer", 2000.0),
    "torch-compile": ("torch.compile", "float32", "peer", 1000.0),
    "openvino": ("OpenVINO", "float32", "peer", 200.0),
    "p2-float32": ("p2 float32", "float32", "p2", 125.0),
    "p2-int8": ("p2 int8", "int8", "p2", 50.0),
    "p2-int4": ("p2 int4", "int4", "p2", 80.0),
}
SHARES = {"float32": 4.0, "float16": 2.0, "int8": 1.125, "int4": 0.625}  # bytes a weight
BATCHES = (1, 4, 16, 64, 256)

Entry = dict[str, Any]


def null_entry(key: str = "p2-float32", **changes: Any) -> Entry:
    """An entry of which nothing was measured."""
    title, precision, group, _ = CONTENDERS.get(key, (key, "float32", "peer", 0.0))
    entry: Entry = {"key": key, "title": title, "precision": precision, "group": group, "device": "cpu"}
    fields = (
        "skipped threads load_s first_character_s peak_memory_bytes bytes_per_step characters_per_second"
        " latency prompt beside bandwidth_share matmul_share quality text"
    )
    return entry | dict.fromkeys(fields.split()) | {"batches": []} | changes


def spread(speed: float, noise: float = 0.02) -> dict[str, Any]:
    return {"median": speed, "p5": speed * (1 - noise), "p95": speed * (1 + noise), "values": [speed] * 5}


def point(batch: int, us: float, growth: float | None = None) -> dict[str, Any]:
    speed = 1e6 / us
    return {
        "batch": batch,
        "us_per_character": us,
        "characters_per_second": speed,
        "values": [speed] * 5,
        "growth": growth,
    }


def prompt(length: int, speed: float) -> dict[str, Any]:
    return {"length": length, "characters_per_second": speed, "values": [speed] * 5}


def beside(written: list[float], read: list[float], key: str = "p2-float32") -> dict[str, Any]:
    return {"key": key, "written": written, "read": read}


def full_entry(key: str, us: float, weights: int, *, trained: bool = True, **changes: Any) -> Entry:
    """An entry with every figure; `us` microseconds a character, a third of it from batch 4 on."""
    entry = null_entry(key)
    precision = entry["precision"]
    bits = {"float32": 0.0, "float16": 0.0, "int8": 0.0004, "int4": 0.011}[precision]
    quality = {
        "characters": 20_000,
        "bits_per_character": 1.5 + bits,
        "difference": bits,
        "kl": bits / 3,
        "limit": {"int8": 0.005, "int4": 0.02}.get(precision),
        "passes": True,
    }
    entry |= {
        "threads": 2,
        "load_s": 0.25,
        "first_character_s": 0.31,
        "peak_memory_bytes": 300 * MIB,
        "bytes_per_step": int(weights * SHARES[precision]),
        "characters_per_second": spread(1e6 / us),
        "latency": {"p50_us": us, "p90_us": 1.1 * us, "p99_us": 1.4 * us, "chunk": 16, "samples": 200},
        "batches": [point(b, us if b == 1 else us / 3) for b in BATCHES],
        "prompt": prompt(10_000, 4e6 / us),
        "bandwidth_share": weights * SHARES[precision] / us / 32_000,  # of 32 GB/s
        "matmul_share": 0.5,
        "quality": quality if trained else None,
        "text": {
            "characters": 2000,
            "identical": True if precision == "float32" else None,
            "sha256": "0" * 64,
        },
    }
    return entry | changes


def a_model(
    hidden: int = 512, name: str | None = None, *, trained: bool = True, **changes: Any
) -> dict[str, Any]:
    """A measured LSTM of two layers; times grow with the square of the hidden size."""
    weights = 12 * hidden * hidden
    scale = (hidden / 512) ** 2
    entries = [full_entry(k, c[3] * scale, weights, trained=trained) for k, c in CONTENDERS.items()]
    entries.append(null_entry("ort-cuda", title="ONNX Runtime, CUDA", device="cuda", skipped="no NVIDIA GPU"))
    return {
        "name": name or f"lstm,2,{hidden // 2},{hidden}",
        "card": {"cell": "lstm", "layers": 2, "embedding": hidden // 2, "hidden": hidden},
        "source": "random weights, seed 0",
        "weights": weights,
        "rates": {"bandwidth_bytes_per_second": 32e9, "matmul_flops_per_second": 128e9},
        "entries": entries,
        "targets": [],
    } | changes


def a_document(*models: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "p2": "1.2.3",
        "created": "2031-05-06T07:08:09Z",
        "quick": False,
        "machine": {
            "system": "Linux x86_64",
            "processor": "Imaginary 9000",
            "processors": 2,
            "caches": {"L1d": 32 << 10, "L2": MIB, "L3": 32 * MIB},
            "memory": 8 << 30,
            "gpus": [],
            "gpu_driver": None,
            "python": "3.12.1",
            "packages": {"numpy": "2.3.0", "torch": "2.9.0"},
        },
        "settings": {"rounds": 5, "turn_seconds": 0.6, "batches": list(BATCHES), "threads": None},
        "models": list(models),
        "targets": [],
    } | changes


class Bench:
    """What the tests of the report make documents with."""

    entry = staticmethod(null_entry)
    full_entry = staticmethod(full_entry)
    model = staticmethod(a_model)
    document = staticmethod(a_document)
    spread = staticmethod(spread)
    point = staticmethod(point)
    prompt = staticmethod(prompt)
    beside = staticmethod(beside)

    @staticmethod
    def of(model: dict[str, Any], key: str) -> Entry:
        """An entry of a model, to be changed in place."""
        return next(entry for entry in model["entries"] if entry["key"] == key)

    @staticmethod
    def emptied(document: dict[str, Any]) -> dict[str, Any]:
        """A copy in which every field that may be null is."""
        document = copy.deepcopy(document)
        for model in document["models"]:
            model["entries"] = [
                null_entry(e["key"], title=e["title"], precision=e["precision"], group=e["group"])
                for e in model["entries"]
            ]
        return document


@pytest.fixture(scope="session")
def bench() -> type[Bench]:
    """Makers of synthetic reports."""
    return Bench


@pytest.fixture
def judged(bench: type[Bench]) -> Callable[..., dict[str, Any]]:
    """A report of several models, with its targets: ``judged(512, 2048)``."""
    from p2.bench import targets

    def make(*hidden: int, trained: bool = True) -> dict[str, Any]:
        document = bench.document(*(bench.model(h, trained=trained) for h in hidden))
        document["settings"]["start_up"] = {"help_s": 0.15, "generate_first_character_s": 0.4}
        for model in document["models"]:
            model["targets"] = targets.for_model(model, document["machine"])
        document["targets"] = targets.overall(document)
        return document

    return make
