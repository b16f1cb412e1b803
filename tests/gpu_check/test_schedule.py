"""What is planned for a machine, what it needs before it, and which of it `--only` picks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2.bench import plugins
from p2.contract.card import PRECISIONS
from p2.contract.errors import UsageError
from p2.gpu_check import schedule
from p2.gpu_check.backends import BACKENDS
from p2.gpu_check.options import GROUPS, Options, parse
from p2.gpu_check.worker import KINDS
from p2.runtime import nvidia

ROOT = Path(__file__).parent.parent.parent
ADA = nvidia.Gpus((nvidia.Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30),), "570", (13, 0))
HOPPER = nvidia.Gpus((nvidia.Gpu("NVIDIA H100 80GB HBM3", (9, 0), 80 << 30),), "580", (13, 0))


@pytest.fixture
def machine(monkeypatch):
    """A machine with these GPUs, on which everything is installed."""

    def set_up(gpus):
        monkeypatch.setattr(nvidia, "gpus", lambda: gpus)
        monkeypatch.setattr(
            schedule,
            "BACKENDS",
            {key: replace(backend, missing=lambda: "") for key, backend in BACKENDS.items()},
        )

    return set_up


def planned(options=Options()):  # noqa: B008
    able, _ = schedule.available(options.rehearse)
    return schedule.checks(options, able)


def test_everything_is_planned_and_what_it_needs_comes_before_it(machine):
    machine(ADA)
    checks = planned()
    names = [check.name for check in checks]
    assert len(set(names)) == len(names)
    for index, check in enumerate(checks):
        assert set(check.needs) <= set(names[:index])
        assert check.kind in KINDS
    gpu = [key for key, backend in BACKENDS.items() if backend.device == "cuda"]
    assert {check.backend for check in checks if check.kind == "parity"} == set(gpu)
    for kind in ("capture", "snapshot", "batches"):
        assert sum(c.kind == kind and c.backend == "tensorrt" for c in checks) == 8  # cells x modes
    assert {c.precision for c in checks if (c.kind, c.backend) == ("determinism", "tensorrt")} == set(
        PRECISIONS
    )
    commands = {key for key in gpu if BACKENDS[key].command}
    assert set(gpu) - commands == {"torch-cuda"}
    assert names.count("noise") == 1
    for kind in ("together", "interrupt", "start"):
        assert sorted(c.backend for c in checks if c.kind == kind) == sorted(commands)
    assert all(c.amount == 100_000 for c in checks if c.kind == "soak")
    races = [check for check in checks if check.kind == "benchmark"]
    assert [race.hidden for race in races] == [128, 512, 1024, 2048, 4096]
    # The plan for one text is another graph: every precision of it is compared, and raced.
    single = {c.precision for c in checks if c.mode == "single" and c.kind == "parity"}
    assert single == set(PRECISIONS)
    assert {c.kind for c in checks if c.mode == "single"} == {"parity"}
    assert "p2.gpu_check.single_plan:int8" in races[0].contenders
    for peer in ("cuda-eager", "cuda-graph", "cuda-compile", "p2-tensorrt-float32", "p2-cuda-graph"):
        assert peer in races[0].contenders


def test_every_contender_of_a_race_exists(machine):
    machine(ADA)
    for options in (Options(), Options(rehearse=True)):
        for check in planned(options):
            for key in check.contenders:
                contender = plugins.find(key)
                assert contender.key == key or ":" in key
                assert contender.precision in check.precisions


def test_on_compute_capability_9_rtx_has_to_refuse_and_is_not_raced(machine):
    machine(HOPPER)
    rtx = [check for check in planned() if "rtx" in check.backend]
    assert [check.kind for check in rtx] == ["build", "refusal", "refusal"]
    assert rtx[1].needs == ("model lstm-256", rtx[0].name)


@pytest.fixture
def with_cuda(machine):
    """A machine whose backends are there, p2's own decoder among them."""
    machine(ADA)
    made = replace(schedule.BACKENDS["cuda-graph"], key="cuda", precisions=PRECISIONS)
    schedule.BACKENDS.setdefault("cuda", made)  # of the copy that `machine` made


def test_the_groups_are_all_of_the_decoders_checks_and_all_races(with_cuda):
    plan = {check.name: check for check in planned()}
    groups = [
        {check.name for check in planned(parse(only, False, 256, "128,512,1024,2048,4096", 5000))}
        for only in GROUPS
    ]
    asked = {name for group in groups for name in group if plan[name].kind not in ("model", "build")}
    wanted = {
        n
        for n, c in plan.items()
        if c.backend == "cuda" or c.kind in ("benchmark", "noise", "updates", "training")
    }
    assert asked == wanted
    assert all(groups)
    page = (ROOT / "docs/gpu.md").read_text()
    first_race = f"benchmark {Options().bench_hidden[0]}"
    assert all(
        f"--only '{group}'" in page for group in GROUPS if "benchmark" not in group or group == first_race
    )


@pytest.mark.parametrize(
    ("only", "backends"),
    [
        (("cuda",), {"cuda"}),
        (("parity cuda",), {"cuda"}),
        (("soak onnx",), {"onnxruntime-cuda", "onnxruntime-tensorrt", "onnxruntime-rtx"}),
        (("float32 gru tensorrt", "soak cuda-graph"), {"tensorrt", "cuda-graph"}),
    ],
)
def test_words_of_a_name_pick_the_checks(only, backends, with_cuda):
    found = planned(Options(only=only))
    kinds = ("model", "build", "benchmark")
    assert {check.backend for check in found if check.kind not in kinds} == backends


def test_only_brings_what_it_needs(machine):
    machine(ADA)
    found = [check.name for check in planned(Options(only=("parity tensorrt rnn-256 float16 graph",)))]
    assert found == [
        "model rnn-256",
        "build tensorrt rnn-256 float16",
        "parity tensorrt rnn-256 float16 graph",
    ]
    with pytest.raises(UsageError, match="names no check: there are model, noise, updates, build, parity"):
        planned(Options(only=("nothing",)))


def test_options_are_read():
    assert parse("parity, soak", False, 64, "512,128", 5000) == Options(
        False, ("parity", "soak"), 64, (128, 512), 5000
    )
    assert parse(None, True, 64, "none", 5000).bench_hidden == ()
