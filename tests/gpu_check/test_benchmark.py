"""A race on the processor with made-up bandwidth, and what the report says of it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import pytest

from p2.gpu_check import check as words
from p2.gpu_check.check import Check, Result
from p2.runtime import nvidia


@pytest.mark.slow
def test_a_race_and_its_place_in_the_report(tmp_path, monkeypatch):
    from p2.bench.options import QUICK
    from p2.gpu_check import benchmark, report
    from p2.gpu_check.models import Files, card_of, make

    copying = contextlib.nullcontext(SimpleNamespace(read=lambda: 4e9))
    monkeypatch.setattr(benchmark, "Copying", lambda device: copying)
    brief = replace(QUICK, rounds=1, turn_seconds=0.05, batches=(2,), prompt_seconds=0.1, text_seconds=0.1)
    files, card = Files(tmp_path), card_of("lstm", "after", 16)
    make(files, card, ("float32",))
    found = benchmark.bench(
        files, card, ("p2-float32", "torch-cell", "cuda-eager"), ("float32",), "cpu", brief
    )
    ours, cell, eager = found["entries"]
    for entry in (ours, cell):
        speed = entry["characters_per_second"]["median"]
        assert entry["bandwidth_share"] == pytest.approx(speed * entry["bytes_per_step"] / 4e9)
    assert "NVIDIA GPU" in eager["skipped"] or nvidia.gpus().devices
    check = Check("benchmark", 1.0, "onnxruntime-cpu", "lstm", hidden=16)
    details = found | {
        "targets": [{"what": "GPU, x", "goal": "> 1×", "measured": "2×", "reached": True, "note": ""}]
    }
    page = report._race(Result(check, words.PASSED, details=details).to_dict())
    assert "| GPU, x | \\> 1× | 2× | reached |  |" in page
    assert f"{ours['prompt']['characters_per_second']:,.0f}" in page
    assert f"{ours['batches'][0]['characters_per_second']:,.0f}" in page
    assert "2 texts, characters per second" in page
    assert f"{ours['bytes_per_step']:,}" in page
    assert "## Hidden 16" in page
    assert "4 GB/s" in page
    assert f"{ours['characters_per_second']['median']:,.0f}" in page
