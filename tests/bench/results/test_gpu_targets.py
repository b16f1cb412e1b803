"""The promises about a GPU, judged from figures whose verdict is worked out by hand."""

from __future__ import annotations

import pytest

from p2.bench import targets
from p2.bench.gpu_targets import first_character, for_gpu
from p2.bench.html import page
from p2.bench.markdown import table

from .test_plots import words
from .test_targets import row

WEIGHTS = 1000


def entry(bench, key, us, streams_us=None, group="p2", **changes):
    """One on the GPU: `us` a character of one text; its rounds are ten times as fast with 64 texts."""
    points = [bench.point(1, us), bench.point(64, streams_us or us / 10)]
    return bench.full_entry(
        key, us, WEIGHTS, device="cuda", group=group, title=key, batches=points, trained=False, **changes
    )


def raced(bench, us=6.0, streams_us=0.5, **changes):
    """p2 in every precision, torch.compile in a CUDA graph with 20 and 1 us, cuDNN that reads 1,000,000."""
    ours = [
        entry(bench, f"p2-cuda-{p}", us, streams_us, precision=p, **changes)
        for p in ("float32", "float16", "int8", "int4")
    ]
    return [
        *ours,
        entry(bench, "cuda-compile", 20.0, 1.0, "peer"),
        entry(bench, "cuda-eager", 500.0, group="peer", prompt=bench.prompt(10_000, 1e6)),
    ]


@pytest.mark.parametrize(
    ("us", "measured", "reached"),
    [(5.0, "4.00×", [True, True, True]), (6.0, "3.33×", [True, False, False]), (7.0, "2.86×", [False] * 3)],
)
@pytest.mark.parametrize("hidden", [128, 1024])
def test_one_text_against_torch_compile(bench, us, measured, reached, hidden):
    rows = for_gpu(hidden, raced(bench, us))
    found = [row(rows, f"GPU, one text, {p}, times") for p in ("float32", "float16", "int8")]
    assert [(t["measured"], t["reached"]) for t in found] == [(measured, one) for one in reached]
    assert [t["goal"] for t in found] == ["≥ 3×", "≥ 4×", "≥ 4×"]
    assert found[1]["note"].startswith("p2-cuda-float16, against that in float32")


def test_other_sizes_are_not_promised_for_one_text(bench):
    names = [target["what"] for target in for_gpu(2048, raced(bench))]
    assert names == [
        "GPU, 64 texts, float32, times torch.compile in a CUDA graph",
        "GPU, reading a prompt, float32, times cuDNN",
    ]


@pytest.mark.parametrize(
    ("share", "reached"), [(0.95, [True] * 4), (0.9, [False] * 3 + [True]), (0.7, [False] * 4)]
)
def test_large_models_against_the_copy_rate(bench, share, reached):
    rows = for_gpu(4096, raced(bench, bandwidth_share=share))
    found = [target for target in rows if "rate of copying" in target["what"]]
    assert [target["reached"] for target in found] == reached
    assert found[0]["measured"] == f"{100 * share:.1f} %"
    (unknown, *_) = (t for t in for_gpu(4096, raced(bench, bandwidth_share=None)) if "copying" in t["what"])
    assert (unknown["reached"], unknown["note"]) == (None, "the rate of copying was not measured")


@pytest.mark.parametrize(("us", "measured", "reached"), [(0.5, "2.00×", True), (0.6, "1.67×", False)])
def test_many_texts_against_torch_compile(bench, us, measured, reached):
    target = row(for_gpu(512, raced(bench, streams_us=us)), "GPU, 64 texts")
    assert (target["measured"], target["reached"]) == (measured, reached)


@pytest.mark.parametrize(("speed", "reached"), [(1.1e6, True), (1e6, False)])
def test_prompts_against_cudnn(bench, speed, reached):
    rows = for_gpu(512, raced(bench, prompt=bench.prompt(10_000, speed)))
    assert row(rows, "GPU, reading a prompt")["reached"] is reached


def test_what_is_missing_is_said(bench):
    entries = raced(bench)
    rows = for_gpu(512, [e for e in entries if e["key"] != "cuda-eager"])
    assert row(rows, "GPU, reading")["note"] == "no cuda-eager in this run"
    entries[4] = bench.entry("cuda-compile", device="cuda", skipped="Triton is not installed")
    assert row(for_gpu(512, entries), "GPU, one text, int8")["note"] == "Triton is not installed"
    entries[0] = bench.entry("p2-cuda-float32", device="cuda", group="p2", skipped="out of memory")
    assert row(for_gpu(512, entries), "GPU, 64 texts")["note"] == "out of memory"
    failing = raced(bench)
    failing[2]["quality"] = bench.full_entry("p2-int8", 1, 1)["quality"] | {"passes": False}
    assert row(for_gpu(512, failing), "GPU, one text, int8")["note"] == "no p2 int8 on the GPU in this run"


def test_without_a_gpu_nothing_is_claimed_of_one(bench):
    model = bench.model(512)
    assert not [t for t in targets.for_model(model) if "GPU" in t["what"]]
    target = targets.overall(bench.document(model))[-1]
    assert (target["reached"], target["measured"], target["note"]) == (None, "not measured", "no NVIDIA GPU")


@pytest.mark.parametrize(("found", "reached"), [(0.6, True), (0.61, False), (None, None)])
def test_the_first_character(found, reached):
    assert first_character(found)["reached"] is reached


def test_the_first_character_of_a_run_is_that_of_a_warm_cache(bench):
    small, large = bench.model(128), bench.model(512)
    for model, seconds in ((small, 0.5), (large, 0.9)):
        model["entries"] += raced(bench, first_character_s=seconds)
    document = bench.document(large, small)
    target = targets.overall(document)[-1]
    assert (target["reached"], target["note"]) == (
        None,
        "the only start that was timed may have filled the caches",
    )
    document["settings"]["first_characters"] = 3
    target = targets.overall(document)[-1]
    assert (target["measured"], target["reached"], target["note"]) == (
        "0.5 s",
        True,
        "lstm,2,64,128: p2-cuda-float32",
    )


def a_run(bench):
    """A report of a machine with a GPU: 3,000 GB/s of copies, 50,000 Gflop/s."""
    models = [bench.model(hidden) for hidden in (128, 512)]
    for model in models:
        model["rates"]["gpu"] = {"copy_bytes_per_second": 3e12, "matmul_flops_per_second": 5e13}
        model["entries"] += raced(bench)
        model["targets"] = targets.for_model(model)
    return bench.document(*models)


def test_the_page_shows_a_gpu_as_it_shows_the_processor(bench, checked):
    from p2.bench import plots

    document = a_run(bench)
    read = checked(page(document))
    for word in (
        "One text at a time, on the GPU",
        "The GPU copied its memory at 3,000 GB/s",
        "GPU, 64 texts",
    ):
        assert word in read.text
    model = document["models"][1]
    looks = plots.styles(document)
    drawn = {plot.title: words(plot) for plot in plots.of_model(model, looks)}
    on_gpu = drawn["Roofline, on the GPU"]
    assert "3,000 GB/s" in on_gpu
    assert "50,000 Gflop/s" in on_gpu
    assert "p2-cuda-int8" in on_gpu
    assert "p2 float32" not in on_gpu
    assert "cuda" not in drawn["Roofline"]
    assert "p2-cuda-float32" in drawn["Many texts side by side, on the GPU"]
    assert len({(look.colour, look.marker) for look in looks.values()}) == len(looks)
    # 83 times 500 µs / 6 µs: eager PyTorch on the GPU, not on the processor.
    assert any("83.3×" in line for line in table(document).splitlines() if "p2-cuda-float16" in line)


@pytest.mark.parametrize("rates", [{"copy_bytes_per_second": 3e12, "matmul_flops_per_second": None}, None])
def test_without_a_pytorch_there_is_no_flat_roof_and_without_copies_none(bench, rates):
    from p2.bench import plots

    model = a_run(bench)["models"][0]
    del model["rates"]["gpu"]
    if rates:
        model["rates"]["gpu"] = rates
    plot = plots.roofline(model, plots.styles(bench.document(model)), "cuda")
    assert (plot is None) == (rates is None)
    if plot:
        assert "roof: 3,000 GB/s" in words(plot)
        assert "then" not in words(plot)
