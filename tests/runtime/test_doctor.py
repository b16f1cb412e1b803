"""The doctor: right verdicts for many machines, and no machine that it falls ill on."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import struct
import subprocess
import sys

import pytest
from rich.console import Console

from p2.contract.shell import install
from p2.runtime import doctor, installed, nvidia
from p2.runtime.backends import BACKENDS, ONNXRUNTIME
from p2.runtime.installed import PACKAGES, Package
from p2.runtime.native import binding
from p2.runtime.onnxruntime import providers as onnx_providers

ADA = nvidia.Gpus((nvidia.Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30),), "570.86.15", (13, 0))
HOPPER = nvidia.Gpus((nvidia.Gpu("NVIDIA H200", (9, 0), 139 << 30),), "580.1", (13, 0))
VOLTA = nvidia.Gpus((nvidia.Gpu("NVIDIA V100", (7, 0), 32 << 30),), "580.1", (13, 0))
NONE = nvidia.Gpus(problem="no NVIDIA driver is installed")
EVERYTHING = dict.fromkeys(PACKAGES, "13.1.0")

CHECKPOINT, NATIVE, ONNX, TENSORRT, RTX, CUDA = range(6)


@pytest.fixture
def examine(monkeypatch):
    """Diagnose a made-up machine: ``examine({"torch": "2.9"}, ADA)``; the rest is not installed."""

    def diagnose(
        packages,
        gpus=NONE,
        broken=(),
        runtimes=None,
        machine="x86_64",
        system="Linux",
        providers=None,
        torch="",
    ):
        here = {name: Package(packages.get(name)) for name in PACKAGES}
        here |= {name: Package("1.0", broken="it crashes") for name in broken}
        if runtimes is None:
            runtimes = ["onnxruntime"] if here["onnxruntime"].version else []
        monkeypatch.setattr(doctor, "packages", lambda: here)
        monkeypatch.setattr(doctor, "onnxruntimes", lambda: runtimes)
        monkeypatch.setattr(doctor.platform, "machine", lambda: machine)
        monkeypatch.setattr(doctor.platform, "system", lambda: system)
        monkeypatch.setattr(nvidia, "gpus", lambda: gpus)
        monkeypatch.setattr(onnx_providers, "ask", lambda key: (providers or {}).get(key, ""))
        monkeypatch.setattr(installed, "torch_without_cuda", lambda: torch)
        return doctor.diagnose()

    return diagnose


class OldProcessor:
    """A compiled decoder on a processor without its instructions."""

    @staticmethod
    def p2_level(number):
        return [b"fast", b"slow", None][number]

    @staticmethod
    def p2_there(number):
        return 0


def possible(found):
    rows = [found.engines[index] for index in (CHECKPOINT, ONNX, TENSORRT, RTX)]
    return [(row.build.possible, row.run.possible) for row in rows]


def without(*names):
    return {name: version for name, version in EVERYTHING.items() if name not in names}


@pytest.mark.parametrize(
    ("packages", "gpus", "expected"),
    [
        # (build, run) for: checkpoint, .onnx, .plan of TensorRT, .plan of TensorRT-RTX
        (EVERYTHING, ADA, [(True, True)] * 4),
        (EVERYTHING, HOPPER, [(True, True), (True, True), (True, True), (True, False)]),
        (EVERYTHING, NONE, [(True, True), (True, True), (False, False), (True, False)]),
        ({}, ADA, [(False, False)] * 4),
        (
            {"numpy": "2", "onnxruntime": "1"},
            NONE,
            [(False, False), (False, True), (False, False), (False, False)],
        ),
        (without("cuda-bindings"), ADA, [(True, True), (True, True), (True, False), (True, False)]),
        (without("cuda-core"), ADA, [(True, True), (True, True), (True, False), (True, False)]),
        (without("onnxscript"), ADA, [(True, True), (False, True), (False, True), (False, True)]),
    ],
)
def test_what_can_be_built_and_run(packages, gpus, expected, examine):
    assert possible(examine(packages, gpus)) == expected


@pytest.mark.parametrize(
    ("packages", "gpus", "engine", "task", "remedy"),
    [
        ({}, NONE, CHECKPOINT, "run", install("train")),
        ({}, NONE, ONNX, "run", install("cpu")),
        ({}, ADA, ONNX, "run", install("gpu")),
        ({}, NONE, ONNX, "build", install("cpu", "train")),
        ({}, NONE, RTX, "build", install("cpu", "rtx", "train")),
        (without("tensorrt-rtx"), NONE, RTX, "build", install("rtx")),
        (without("cuda-bindings"), ADA, RTX, "run", install("rtx")),
        # the extra gpu brings onnxruntime-gpu, which must not meet onnxruntime
        (without("tensorrt"), ADA, TENSORRT, "run", f"pip uninstall -y onnxruntime && {install('gpu')}"),
        (without("tensorrt", "onnxruntime"), ADA, TENSORRT, "run", install("gpu")),
        (
            EVERYTHING,
            NONE,
            RTX,
            "run",
            "take a machine with an NVIDIA GPU and its driver (no NVIDIA driver is installed here)",
        ),
        (EVERYTHING, HOPPER, RTX, "run", "p2 export --engine tensorrt builds a plan for this GPU"),
        ({}, HOPPER, RTX, "run", "p2 export --engine tensorrt builds a plan for this GPU"),
        ({}, HOPPER, CUDA, "run", install("cuda")),
        (without("nvidia-cuda-nvrtc"), HOPPER, CUDA, "run", install("cuda")),
        (
            EVERYTHING,
            VOLTA,
            CUDA,
            "run",
            "p2 generate --backend onnxruntime-cuda may run a .onnx on this GPU",
        ),
    ],
)
def test_the_command_that_would_help(packages, gpus, engine, task, remedy, examine):
    verdict = getattr(examine(packages, gpus).engines[engine], task)
    assert not verdict.possible
    assert verdict.remedy == remedy


@pytest.mark.parametrize("gpus", [NONE, ADA], ids=["no-gpu", "gpu"])
def test_a_backend_that_runs_on_a_gpu_is_never_told_to_take_the_processors_onnx_runtime(gpus, examine):
    for backend, row in zip(BACKENDS.values(), examine({}, gpus).engines, strict=True):
        assert ("[cpu" in row.run.remedy) is (backend.key == ONNXRUNTIME and gpus is NONE)


def test_where_tensorrt_comes_from_is_said_where_it_is_of_use(examine):
    assert ["pypi.nvidia.com" in note for note in examine({}, HOPPER).notes] == [True]
    assert examine({}, NONE).notes == examine(EVERYTHING, VOLTA).notes == []


def test_what_a_gpu_runs_by_itself_is_said(examine):
    assert examine(EVERYTHING, HOPPER).notes == [
        "p2 runs a .onnx on this GPU by itself, as with --backend cuda; --threads or another --backend runs"
        " it on the processor"
    ]
    assert examine(EVERYTHING, VOLTA).engines[CUDA].run.missing == (
        "it needs a GPU of compute capability 7.5 or newer, and this NVIDIA V100 has 7.0"
    )


def test_an_unsupported_gpu_is_named_with_its_capability(examine):
    missing = examine(EVERYTHING, HOPPER).engines[RTX].run.missing
    assert "NVIDIA H200 has compute capability 9.0, it runs on 8.0, 8.6, 8.9, 12.0, 12.1" in missing


@pytest.mark.parametrize(
    ("machine", "system"), [("arm64", "Darwin"), ("aarch64", "Linux"), ("AMD64", "Java")]
)
def test_where_the_rtx_builder_does_not_exist(machine, system, examine):
    found = examine(without("tensorrt-rtx"), NONE, machine=machine, system=system)
    assert found.engines[RTX].build.remedy == "TensorRT-RTX is made for Linux and Windows on x86-64 only"


def test_providers_of_onnx_runtime_are_tried(examine):
    reason = f"ONNX Runtime 1.31.0 was built without CUDAExecutionProvider: {install('gpu')}"
    found = examine(EVERYTHING, ADA, providers={"onnxruntime-cuda": reason}).engines[CUDA + 1 : -1]
    assert [row.engine for row in found] == [
        ".onnx (onnxruntime-cuda)", ".onnx (onnxruntime-tensorrt)", ".onnx (onnxruntime-rtx)",
    ]  # fmt: skip
    assert [row.run.possible for row in found] == [False, True, True]
    assert found[0].run.missing == "ONNX Runtime 1.31.0 was built without CUDAExecutionProvider"
    assert found[0].run.remedy == install("gpu")


def test_providers_are_not_tried_where_they_cannot_work(examine):
    reasons = dict.fromkeys(onnx_providers.PROVIDERS, "tried")
    for found in (examine(EVERYTHING, NONE, providers=reasons), examine({}, ADA, providers=reasons)):
        assert not any(row.run.possible or "tried" in row.run.missing for row in found.engines[CUDA:])
    rtx = examine(EVERYTHING, HOPPER).engines[CUDA + 3].run
    assert "compute capability 9.0" in rtx.missing
    assert rtx.remedy == "p2 generate --backend onnxruntime-cuda runs a .onnx on this GPU"


def test_a_pytorch_that_does_not_reach_the_gpu(examine):
    reason = "PyTorch 2.9 was built without CUDA, or does not fit the driver"
    run = examine(EVERYTHING, ADA, torch=reason).engines[-1].run
    assert (run.missing, run.remedy) == (reason, "pytorch.org says which PyTorch to install")
    for packages, gpus in ((EVERYTHING, NONE), (without("torch"), ADA)):
        run = examine(packages, gpus, torch="tried").engines[-1].run
        assert not run.possible
        assert "tried" not in run.missing


def test_a_processor_without_the_decoders_instructions(examine, monkeypatch):
    monkeypatch.setattr(binding, "library", OldProcessor)
    verdict = examine(EVERYTHING, NONE).engines[NATIVE].run
    assert (verdict.possible, verdict.missing) == (False, "it needs a processor with AVX2, FMA and F16C")
    assert "--backend onnxruntime-cpu" in verdict.remedy


# Of a library in ELF, for another processor than this one.
OTHER = "aarch64" if platform.machine() == "x86_64" else "x86_64"
ELF = struct.pack("<4s12xHB45x", b"\x7fELF", 3, {"aarch64": 183, "x86_64": 62}[OTHER])


@pytest.mark.parametrize(
    ("held", "missing"),
    [
        (None, "it was not compiled when p2 was installed"),
        (ELF, f"it was compiled for {OTHER}, and this processor is {platform.machine()}"),
        (ELF[:17], "it does not load: "),
        (b"", "it does not load: "),
        (b"no library\n" * 99, "it does not load: "),
    ],
)
def test_a_compiled_decoder_that_is_not_there_or_does_not_load(held, missing, examine, monkeypatch, tmp_path):
    monkeypatch.setattr(binding, "FILE", tmp_path / "_decoder.so")
    if held is not None:
        binding.FILE.write_bytes(held)
    verdict = examine(EVERYTHING, NONE).engines[NATIVE].run
    assert not verdict.possible
    assert verdict.missing.startswith(missing)
    assert "\n" not in verdict.missing
    compiler = "install a C compiler, then p2 again: " if held is None else ""
    assert verdict.remedy == compiler + install(anew=True)


def test_two_onnx_runtimes_are_a_problem(examine):
    (problem,) = examine(EVERYTHING, ADA, runtimes=["onnxruntime", "onnxruntime-gpu"]).problems
    assert (
        problem.problem
        == "onnxruntime and onnxruntime-gpu are installed together and overwrite each other's files"
    )
    assert problem.remedy == f"pip uninstall -y onnxruntime onnxruntime-gpu && {install('gpu')}"


def test_a_library_that_does_not_load_is_a_problem(examine):
    found = examine(EVERYTHING, ADA, broken=["onnxruntime"], runtimes=["onnxruntime-gpu"])
    (problem,) = found.problems
    assert problem.problem == "onnxruntime does not load: it crashes"
    assert problem.remedy == found.engines[ONNX].run.remedy == "pip install --force-reinstall onnxruntime-gpu"


def test_a_driver_that_is_older_than_the_bindings_is_a_problem(examine):
    old = nvidia.Gpus(ADA.devices, "550.1", (12, 4))
    (problem,) = examine(EVERYTHING, old).problems
    assert "needs a driver for CUDA 13, and this one speaks CUDA 12.4" in problem.problem
    assert problem.remedy.endswith("pip install 'cuda-bindings<13'")


def printed(found, **options):
    out = io.StringIO()
    doctor.show(found, Console(file=out, **options))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 200])
def test_a_remedy_is_one_whole_line_at_any_width(width, examine):
    found = examine({"numpy": "2"}, HOPPER, runtimes=["onnxruntime", "onnxruntime-gpu"])
    lines = [line.strip() for line in printed(found, width=width).splitlines()]
    remedies = {verdict.remedy for row in found.engines for verdict in (row.build, row.run)}
    remedies |= {problem.remedy for problem in found.problems}
    assert remedies <= set(lines)


def test_a_healthy_machine(examine):
    text = printed(examine(EVERYTHING, ADA), width=120)
    assert "Every engine can be built and run here." in text
    assert "NVIDIA GeForce RTX 4090, compute capability 8.9, 24.0 GiB" in text
    assert "570.86.15, speaks CUDA 13.0" in text
    assert "no:" not in text


@pytest.fixture
def path_entry(tmp_path, monkeypatch):
    """A folder in front of everything installed, for this process and its children."""
    monkeypatch.syspath_prepend(tmp_path)
    rest = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *([rest] if rest else [])]))
    return tmp_path


def distribution(folder, name, version="9.9"):
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("source", "seconds", "broken"),
    [
        ("import os; os.abort()", 60, r"importing it ends the process \(signal 6\)"),
        ("raise ImportError('no libcublas.so.13')", 60, "ImportError: no libcublas.so.13"),
        ("raise SystemExit(3)", 60, "importing onnxruntime fails"),
        ("import time; time.sleep(60)", 0.1, "importing it takes more than 0.1 s"),
    ],
)
def test_a_library_that_crashes_is_a_finding(source, seconds, broken, path_entry, monkeypatch):
    distribution(path_entry, "onnxruntime")
    (path_entry / "onnxruntime.py").write_text(source)
    monkeypatch.setattr(installed, "_PROBES", {"onnxruntime": installed._PROBES["onnxruntime"]})
    monkeypatch.setattr(installed, "_PROBE_SECONDS", seconds)
    package = installed.packages()["onnxruntime"]
    assert package.version == "9.9"
    assert not package.works
    assert re.fullmatch(broken, package.broken)


def test_providers_are_what_the_library_answers(path_entry, monkeypatch):
    distribution(path_entry, "onnxruntime-gpu")
    (path_entry / "onnxruntime.py").write_text(
        "print('hello')\n__version__ = '1.31'\ndef get_available_providers(): return ['CUDA', 'CPU']\n"
    )
    monkeypatch.setattr(installed, "_PROBES", {"onnxruntime": installed._PROBES["onnxruntime"]})
    assert installed.packages()["onnxruntime"] == Package("1.31", remark="CUDA, CPU")
    assert "onnxruntime-gpu" in installed.onnxruntimes()


def test_tensorrt_under_another_distribution_is_seen(path_entry, monkeypatch):
    (path_entry / "tensorrt.py").write_text("__version__ = '10.13.3.9'")
    monkeypatch.setattr(installed, "_PROBES", {"tensorrt": installed._PROBES["tensorrt"]})
    assert installed.packages()["tensorrt"] == Package("10.13.3.9")


# Both forms of one diagnosis, which takes seconds, and what has been imported for it.
COMMAND = """
import functools, sys
from p2.cli import main
from p2.runtime import doctor

doctor.diagnose = functools.cache(doctor.diagnose)
for argv in ["doctor"], ["doctor", "--json"]:
    assert main(argv) == 0
    print(end="\\f", flush=True)
patients = {"torch", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "cuda"}
print(sorted(patients & set(sys.modules)))
"""


def test_the_command_on_this_machine_as_text_and_as_json_imports_none_of_its_patients():
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    text, data, patients = done.stdout.split("\f")
    assert patients == "[]\n"
    found = json.loads(data)
    assert set(found["packages"]) == set(PACKAGES)
    assert found["packages"]["numpy"]["version"] in text
    assert [row["engine"] for row in found["engines"]] == [
        "checkpoint (PyTorch)", ".onnx (native)", ".onnx (ONNX Runtime)",
        ".plan (TensorRT)", ".plan (TensorRT-RTX)", ".onnx (cuda)",
        *(f".onnx ({key})" for key in onnx_providers.PROVIDERS),
        "checkpoint (cuda-graph)",
    ]  # fmt: skip
    for row in found["engines"]:
        assert row["engine"] in text
        for verdict in (row["build"], row["run"]):
            assert verdict["possible"] != bool(verdict["remedy"])
            assert verdict["remedy"] in text
