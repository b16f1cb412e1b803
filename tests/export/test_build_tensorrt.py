"""What TensorRT is asked for, by a stand-in: it builds on a GPU only, and is on no ordinary index."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from enum import Enum, IntEnum

import onnx
import pytest
from onnx import TensorProto, helper

from p2.contract.errors import BackendMissing, BuilderRefused, P2Error, UsageError
from p2.contract.files import sha256_of
from p2.contract.plan import TENSORRT, read_sidecar, sidecar_path
from p2.export import forms
from p2.export.builder import build_plan
from p2.export.targets import Options
from p2.runtime import cuda_core, nvidia

GPUS = nvidia.Gpus((nvidia.Gpu("NVIDIA Test", (9, 0), 1 << 30),))
NONE = nvidia.Gpus(problem="no NVIDIA driver is installed")


class Flags:
    """Enumerations of TensorRT, each member a number."""

    STRONGLY_TYPED, TF32, VERSION_COMPATIBLE, DETAILED, AMPERE_PLUS = range(5)


class NoBuilder:
    """A library whose bindings fail as they do where CUDA cannot start."""

    __version__ = "10.13.3.9"
    NetworkDefinitionCreationFlag = BuilderFlag = HardwareCompatibilityLevel = Flags

    class ILogger:
        ERROR = 1

    @staticmethod
    def Builder(logger):
        logger.log(1, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")


def test_tensorrt_builds_only_where_there_is_a_gpu(step, tmp_path, monkeypatch):
    path, card = step()
    library = nvidia.Library(TENSORRT, NoBuilder)
    monkeypatch.setattr(nvidia, "library", lambda flavour: library)
    monkeypatch.setattr(nvidia, "gpus", lambda: NONE)
    with pytest.raises(
        BackendMissing, match=r"builds only .* GPU, and no NVIDIA driver .*--engine tensorrt-rtx"
    ):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt")
    monkeypatch.setattr(nvidia, "gpus", lambda: GPUS)
    with pytest.raises(P2Error, match=r"could not start its builder .*: CUDA initialization failure"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt")


class FakeCache:
    def __init__(self, data):
        self.data = data

    def serialize(self):
        return self.data + b"+"


class FakeConfig:
    """Remembers what a builder was told; refuses a timing cache of another GPU."""

    last = None

    def __init__(self):
        FakeConfig.last = self
        self.flags, self.cache, self.hardware_compatibility_level = set(), None, None
        self.profiling_verbosity = helper  # replaced by the builder; needs a name only

    def clear_flag(self, flag):
        self.flags.discard(flag)

    def set_flag(self, flag):
        self.flags.add(flag)

    def get_flag(self, flag):
        return flag in self.flags

    def create_timing_cache(self, data):
        return FakeCache(data)

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        if cache.data.startswith(b"another GPU"):
            return False
        self.cache = cache
        return True

    def get_timing_cache(self):
        return self.cache

    def add_optimization_profile(self, profile):
        self.profile = profile


class FakeNetwork:
    """The tensors of a parsed step, as TensorRT describes them."""

    def __init__(self):
        self.ins, self.outs = [], []

    num_inputs = property(lambda self: len(self.ins))
    num_outputs = property(lambda self: len(self.outs))

    def get_flag(self, flag):
        return True

    def get_input(self, index):
        return self.ins[index]

    def get_output(self, index):
        return self.outs[index]


class FakeTensor:
    def __init__(self, value, integer="INT64"):
        kinds = {TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.INT64: integer}
        self.name = value.name
        self.dtype = type("dtype", (), {"name": kinds[value.type.tensor_type.elem_type]})
        self.shape = tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)


class FakeTensorRT(NoBuilder):
    """A TensorRT that builds: enough of 10.x to see what it is asked for."""

    class ProfilingVerbosity:
        DETAILED = type("verbosity", (), {"name": "DETAILED"})

    class Builder:
        def __init__(self, logger):
            self.logger = logger

        def create_network(self, flags):
            return FakeNetwork()

        def create_builder_config(self):
            return FakeConfig()

        def create_optimization_profile(self):
            return type("profile", (), {"set_shape": lambda *_: None})()

        def build_serialized_network(self, network, config):
            listing = "Engine Layer Information:\nLayer(kgen): a_myl0_0, Tactic: 0x1, x -> y\n"
            self.logger.log(4, listing + "Layer(gemm): b_myl0_1, Tactic: 0x2, y -> z\n")
            return memoryview(b"ftrt" + bytes(20) + bytes([10, 13, 3, 9]) + bytes(40))

    class OnnxParser:
        def __init__(self, network, logger):
            self.network = network

        def parse(self, data):
            graph = onnx.load_model_from_string(data).graph
            self.network.ins = [FakeTensor(value) for value in graph.input]
            self.network.outs = [FakeTensor(value) for value in graph.output]
            return True


@pytest.fixture
def tensorrt(monkeypatch, tmp_path):
    """TensorRT 10 on a GPU, both played, and a cache folder of its own. A plan runs as fast as any other."""
    monkeypatch.setattr(forms, "times", lambda plans, *_: dict.fromkeys(plans, 1.0))
    monkeypatch.setattr(cuda_core, "missing", str)
    library = nvidia.Library(TENSORRT, FakeTensorRT)
    monkeypatch.setattr(nvidia, "library", lambda flavour: library)
    monkeypatch.setattr(nvidia, "gpus", lambda: GPUS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/p2/tensorrt-10.13.3.9/timing-nvidia-test.bin"


def test_tensorrt_keeps_what_it_measured(tensorrt, step, tmp_path):
    path, card = step()
    for expected in (b"+", b"++"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt", batch=(1, 4, 8))
        assert tensorrt.read_bytes() == expected
    tensorrt.write_bytes(b"another GPU")
    build_plan(path, card, tmp_path / "a.plan", engine="tensorrt", batch=(1, 4, 8))
    assert tensorrt.read_bytes() == b"+"


def test_a_build_over_a_plan_that_fails_at_any_moment_leaves_a_pair_or_no_plan(
    tensorrt, step, tmp_path, monkeypatch
):
    path, card = step()
    (small, large), seen = ((1, 1, 1), (1, 2, 4)), []
    for at in range(100):
        out = tmp_path / str(at) / "a.plan"
        build_plan(path, card, out, engine="tensorrt", batch=small)
        before, calls = pair(out), []

        def call(name, real, *arguments, calls=calls, at=at):
            calls.append(name)
            if len(calls) > at:
                raise OSError(errno.EIO, "dead")
            return real(*arguments)

        with monkeypatch.context() as patch, contextlib.suppress(P2Error):
            for name in ("replace", "fsync", "unlink"):
                patch.setattr(os, name, functools.partial(call, name, getattr(os, name)))
            build_plan(path, card, out, engine="tensorrt", batch=large)
        if "unlink" not in calls[:at]:
            seen.append("as it was")
            assert pair(out) == before
        elif out.exists():
            seen.append("the new one")
            assert read_sidecar(out).profiles == (small, large)
            read_sidecar(out).check(out, out.stat().st_size, sha256_of(out))
        else:
            seen.append("none")
        build_plan(path, card, out, engine="tensorrt", batch=large)
        assert len(list(out.parent.iterdir())) == 2
        if len(calls) <= at:
            break
    assert set(seen) == {"as it was", "none", "the new one"}


def pair(plan):
    return [file.read_bytes() for file in (plan, sidecar_path(plan))]


def test_compatibility_is_asked_for_and_written_down(tensorrt, step, tmp_path):
    path, card = step()
    out = tmp_path / "a.plan"
    build_plan(path, card, out, engine="tensorrt")
    assert FakeConfig.last.flags == set()
    assert read_sidecar(out).settings["version_compatible"] is False
    assert read_sidecar(out).targets == ()
    assert read_sidecar(out).kernels == 2  # from the list in the older style
    options = Options(version_compatible=True, hardware_compatible=True)
    build_plan(path, card, out, engine="tensorrt", options=options)
    assert FakeConfig.last.flags == {Flags.VERSION_COMPATIBLE}
    assert FakeConfig.last.hardware_compatibility_level == Flags.AMPERE_PLUS
    settings = read_sidecar(out).settings
    assert settings["version_compatible"]
    assert settings["hardware_compatible"]
    assert not settings["portable"]


def test_tensorrt_has_no_targets_and_old_gpus_no_float8(tensorrt, step, tmp_path, monkeypatch):
    path, card = step()
    with pytest.raises(UsageError, match="--target is for TensorRT-RTX"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt", options=Options(("sm89",)))
    path, card = step("float8")
    build_plan(path, card, tmp_path / "a.plan", engine="tensorrt")
    old = nvidia.Gpus((nvidia.Gpu("NVIDIA Old", (8, 6), 1 << 30),))
    monkeypatch.setattr(nvidia, "gpus", lambda: old)
    with pytest.raises(P2Error, match=r"float8 needs .* and the NVIDIA Old has 8\.6"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt")


class Layer:
    """A layer of a parsed network, named after its node."""

    def __init__(self, node, kinds):
        self.name, self.precision = node.name, None
        self._inputs, self._outputs = (
            [type("tensor", (), {"dtype": kinds.get(name)}) for name in names]
            for names in (node.input, node.output)
        )
        self.num_inputs, self.num_outputs = len(self._inputs), len(self._outputs)

    def get_input(self, index):
        return self._inputs[index]

    def get_output(self, index):
        return self._outputs[index]


class OldNetwork(FakeNetwork):
    """Of TensorRT 8.6: no flags, but layers."""

    get_flag = None
    layers = ()
    num_layers = property(lambda self: len(self.layers))

    def get_layer(self, index):
        return self.layers[index]


class OldConfig(FakeConfig):
    def __init__(self):
        super().__init__()
        self.preview = set()

    def set_preview_feature(self, feature, on):
        (self.preview.add if on else self.preview.discard)(feature)


class OldTensorRT(FakeTensorRT):
    """TensorRT 8.6.0 as its Python module shows it, with a parser that overlooks what it does not know."""

    __version__ = "8.6.0"
    float32 = TensorProto.FLOAT
    created, network = [], None

    NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", {"EXPLICIT_BATCH": 0})
    PreviewFeature = Enum("PreviewFeature", ["PROFILE_SHARING_0806"])
    BuilderFlag = Enum("BuilderFlag", ["FP16", "TF32", "PREFER_PRECISION_CONSTRAINTS", "VERSION_COMPATIBLE"])

    class Builder(FakeTensorRT.Builder):
        def create_network(self, flags):
            OldTensorRT.created.append(flags)
            OldTensorRT.network = OldNetwork()
            return OldTensorRT.network

        def create_builder_config(self):
            return OldConfig()

        def build_serialized_network(self, network, config):
            return memoryview(b"ftrt" + bytes(20) + bytes([8, 6, 0, 12]) + bytes(40))

    class OnnxParser:
        def __init__(self, network, logger):
            self.network = network

        def parse(self, data):
            model = onnx.load_model_from_string(data)
            onnx.checker.check_model(model, full_check=True)
            assert model.opset_import[0].version <= 17
            model = onnx.shape_inference.infer_shapes(model)
            graph = model.graph
            kinds = {
                v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output, *graph.input)
            }
            self.network.ins = [FakeTensor(value, "INT32") for value in graph.input]
            self.network.outs = [FakeTensor(value, "INT32") for value in graph.output]
            self.network.layers = [Layer(node, kinds) for node in graph.node]
            return True


@pytest.fixture
def old(tensorrt, monkeypatch):
    """TensorRT 8.6 instead of 10."""
    library = nvidia.Library(TENSORRT, OldTensorRT)
    monkeypatch.setattr(nvidia, "library", lambda flavour: library)
    OldTensorRT.created.clear()
    return OldTensorRT


@pytest.mark.parametrize("batch", [(1, 1, 1), (1, 4, 8)])
def test_tensorrt_8_is_told_by_flags_what_the_graph_says(batch, old, step, tmp_path):
    path, card = step()
    out = tmp_path / "a.plan"
    build_plan(path, card, out, engine="tensorrt", batch=batch, progress=lambda *_: None)
    assert set(old.created) == {1}  # 1 << EXPLICIT_BATCH
    config = FakeConfig.last
    assert config.flags == set()  # neither TF32 nor FP16
    # A graph is recorded on a context of its own, beside another on the same profile.
    assert config.preview == {old.PreviewFeature.PROFILE_SHARING_0806}
    assert all(layer.precision is None for layer in old.network.layers)
    assert read_sidecar(out).settings["strongly_typed"] is False
    assert read_sidecar(out).version == "8.6.0.12"


def test_tensorrt_8_chooses_in_float32_behind_a_float16_step(old, step, tmp_path):
    path, card = step("float16")
    build_plan(path, card, tmp_path / "a.plan", engine="tensorrt")
    assert FakeConfig.last.flags == {old.BuilderFlag.FP16, old.BuilderFlag.PREFER_PRECISION_CONSTRAINTS}
    exact = {layer.name for layer in old.network.layers if layer.precision == old.float32}
    # What computes with numbers, comparisons and the last choice as well; not what joins truth values.
    assert {"choice_scaled", "choice_before", "choice_greater", "choice_noisy_logits", "next"} <= exact
    assert not {"choice_first", "choice_in_all"} & exact
    assert all(name.startswith("choice_") for name in exact - {"next"})
    assert read_sidecar(tmp_path / "a.plan").float_type == "float16"


@pytest.mark.parametrize("precision", ["bfloat16", "float8", "int8", "int4"])
def test_tensorrt_8_builds_no_other_precision(precision, old, step, tmp_path):
    path, card = step(precision)
    with pytest.raises(BuilderRefused, match=rf"TensorRT 8.6.0 builds float32 .* is {precision}: install"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt")
