"""Which of the processor's two ways is taken, and what is said where one cannot be."""

from __future__ import annotations

import builtins

import pytest

from p2.bench.contenders import registry
from p2.bench.contenders.p2_gpu import key_for
from p2.contract.errors import BackendMissing, UsageError
from p2.contract.plan import FLAVOURS
from p2.gpu_check.backends import BACKENDS as CHECKED
from p2.runtime import backends, cuda_core, doctor, installed, native, nvidia
from p2.runtime.backends import BACKENDS
from p2.runtime.cuda import compiler, packing
from p2.runtime.cuda import engine as cuda_engine
from p2.runtime.native import binding
from p2.runtime.native.engine import NativeEngine
from p2.runtime.onnxruntime.engine import OnnxEngine
from p2.runtime.onnxruntime.providers import PROVIDERS
from p2.runtime.opening import open_engine, open_step_engine, usable_backends

compiled = pytest.mark.skipif(not native.available(), reason="the compiled decoder cannot run here")


@pytest.fixture
def not_compiled(monkeypatch, tmp_path):
    monkeypatch.setattr(binding, "FILE", tmp_path / "_decoder.so")


@pytest.fixture
def no_onnxruntime(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest):
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)


@compiled
def test_the_compiled_decoder_comes_first(write_step, card_of):
    path = write_step(card_of())
    assert isinstance(open_step_engine(path, 1), NativeEngine)
    assert isinstance(open_step_engine(path, 1, "onnxruntime-cpu"), OnnxEngine)
    assert usable_backends(path) == ["native", "onnxruntime-cpu"]


def test_without_it_onnx_runtime_does_the_work(write_step, card_of, not_compiled):
    path = write_step(card_of())
    assert isinstance(open_step_engine(path, 1), OnnxEngine)
    assert usable_backends(path) == ["onnxruntime-cpu"]
    with pytest.raises(BackendMissing, match="it was not compiled when p2 was installed"):
        open_step_engine(path, 1, "native")


@compiled
def test_it_needs_no_onnx_runtime(write_step, card_of, no_onnxruntime):
    path = write_step(card_of())
    assert isinstance(open_step_engine(path, 1), NativeEngine)
    assert usable_backends(path) == ["native"]


def test_with_neither_the_cure_is_named(write_step, card_of, not_compiled, no_onnxruntime):
    path = write_step(card_of())
    with pytest.raises(BackendMissing, match=r"pip install .*\[cpu\]"):
        open_step_engine(path, 1)
    with pytest.raises(BackendMissing, match=r"pip install .*\[cpu\]"):
        usable_backends(path)


def test_an_older_processor(write_step, card_of, monkeypatch):
    class Library:
        @staticmethod
        def p2_level(number):
            return [b"fast", b"slow", None][number]

        @staticmethod
        def p2_there(number):
            return 0

    monkeypatch.setattr(binding, "library", Library)
    path = write_step(card_of())
    assert usable_backends(path) == ["onnxruntime-cpu"]
    with pytest.raises(BackendMissing, match="needs a processor with AVX2, FMA and F16C"):
        open_step_engine(path, 1, "native")


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU, and the steps that its decoder was opened for."""
    found = nvidia.Gpus((nvidia.Gpu("NVIDIA Test", (9, 0), 80 << 30, 132, 227 << 10),), "580.1", (13, 0))
    monkeypatch.setattr(nvidia, "gpus", lambda: found)
    monkeypatch.setattr(compiler, "missing", lambda: "")
    opened = []
    monkeypatch.setattr(cuda_core, "load", lambda: None)
    monkeypatch.setattr(cuda_engine, "Device", lambda core: core)
    monkeypatch.setattr(cuda_engine, "CudaEngine", lambda step, device: opened.append(step) or "on the GPU")
    return opened


def test_a_gpu_is_taken_where_there_is_one(write_step, card_of, gpu, monkeypatch):
    path = write_step(card_of())
    assert open_engine(path) == open_engine(path, backend="cuda") == "on the GPU"
    assert [step.path for step in gpu] == [path, path]
    assert usable_backends(path, gpu=True) == ["cuda", *usable_backends(path)]
    assert not isinstance(open_engine(path, threads=1), str)
    assert isinstance(open_engine(path, backend="onnxruntime-cpu"), OnnxEngine)
    assert isinstance(open_step_engine(path, 1, "onnxruntime-cpu"), OnnxEngine)
    with pytest.raises(UsageError, match="--backend cuda runs on the GPU"):
        open_engine(path, threads=1, backend="cuda")
    monkeypatch.setattr(compiler, "missing", lambda: "NVRTC is missing")
    assert not isinstance(open_engine(path), str)
    assert usable_backends(path, gpu=True) == usable_backends(path)
    with pytest.raises(BackendMissing, match="NVRTC is missing; --backend native or onnxruntime-cpu"):
        open_engine(path, backend="cuda")
    assert len(gpu) == 2


def test_what_the_gpus_decoder_does_not_know_runs_on_the_processor(write_step, card_of, gpu, monkeypatch):
    monkeypatch.setattr(packing, "MAX_LAYERS", 1)
    path = write_step(card_of(layers=2))
    assert not isinstance(open_engine(path), str)
    with pytest.raises(BackendMissing, match="it has 2 layers, and the decoder takes 1 at most"):
        open_engine(path, backend="cuda")
    assert gpu == []


@compiled
def test_a_decoder_compiled_from_another_version_is_left_alone(monkeypatch):
    monkeypatch.setattr(binding, "LAYOUT", binding.LAYOUT + 1)
    assert binding._loaded.__wrapped__(binding.FILE) == "it was compiled from another version of p2"


def test_no_such_backend(write_step, card_of):
    with pytest.raises(UsageError, match="by native or onnxruntime-cpu, not 'fast'"):
        open_step_engine(write_step(card_of()), 1, "fast")


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=lambda one: one.key)
def test_what_the_table_names_is_there_and_everything_that_reads_it_has_it(backend):
    assert callable(backends._at(backend.opener))
    assert not backend.unfit or callable(backends._at(backend.unfit))
    assert set(backend.needs) <= set(installed.PACKAGES)
    assert (backend.kind == "plan") != (f" {backend.key}" in backends.backend_help())
    assert (backend.key in CHECKED) >= backend.gpu
    keys = {contender.key for contender in registry.contenders()}
    assert not backend.gpu or {key_for(backend, precision) for precision in backend.precisions} <= keys
    assert any(backend.title in name or backend.key in name for name in ROWS)


ROWS = [doctor._row_title(backend) for backend in BACKENDS.values()]


def test_the_table_has_every_provider_and_every_library_of_plans():
    assert {key for one in BACKENDS.values() for key in one.arguments} == set(PROVIDERS)
    plans = {one.key: one.title for one in BACKENDS.values() if one.kind == "plan"}
    assert plans == {key: flavour.title for key, flavour in FLAVOURS.items()}
    assert len(set(ROWS)) == len(BACKENDS)
