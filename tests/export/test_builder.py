"""Real TensorRT-RTX builds of hand-made step graphs, on any machine."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from p2.export.builder import available, build_plan
from p2.export.targets import Options
from p2.spec import nvidia
from p2.spec.card import PRECISIONS, Card
from p2.spec.errors import BackendMissing, ContractError, P2Error, UsageError
from p2.spec.files import sha256_of
from p2.spec.plan import TENSORRT, TENSORRT_RTX, read_header, read_sidecar, sidecar_path

HAS_RTX = nvidia.installed(TENSORRT_RTX)
rtx = [pytest.mark.rtx, pytest.mark.skipif(not HAS_RTX, reason="tensorrt_rtx is not installed")]


def needs_rtx(test):
    for mark in rtx:
        test = mark(test)
    return test


def lstm_step(card: Card, block: int = 32) -> onnx.ModelProto:
    """A folded one-layer LSTM step written node by node, in the precision of the card."""
    rng = np.random.default_rng(0)
    hidden, vocab = card.hidden, card.vocab
    half = card.precision == "float16"
    dtype, kind = (np.float16, TensorProto.FLOAT16) if half else (np.float32, TensorProto.FLOAT)
    bits = {"int8": 8, "int4": 4}.get(card.precision)
    short = {"bfloat16": TensorProto.BFLOAT16, "float8": TensorProto.FLOAT8E4M3FN}.get(card.precision)
    tensors, nodes = [], []

    def add(operator, inputs, outputs, **attributes):
        nodes.append(helper.make_node(operator, inputs, outputs, **attributes))

    def constant(name, *shape):
        tensors.append(numpy_helper.from_array((rng.standard_normal(shape) / 8).astype(dtype), name))
        return name

    def matrix(name, rows, columns):
        if not bits and not short:
            return constant(name, rows, columns)
        if short:  # weights alone: the products are float32
            values = rng.standard_normal(rows * columns) / 8
            tensors.append(helper.make_tensor(f"{name}_q", short, (rows, columns), values))
        if short == TensorProto.BFLOAT16:
            add("Cast", [f"{name}_q"], [name], to=TensorProto.FLOAT)
            return name
        if short:
            scale = rng.uniform(0.9, 1.1, columns).astype(np.float32)
            tensors.append(numpy_helper.from_array(scale, f"{name}_scale"))
            add("DequantizeLinear", [f"{name}_q", f"{name}_scale"], [name], axis=1)
            return name
        top = 2 ** (bits - 1) - 1
        values = rng.integers(-top, top + 1, (rows, columns))
        if bits == 8:
            tensors.append(numpy_helper.from_array(values.astype(np.int8), f"{name}_q"))
        else:
            tensors.append(
                helper.make_tensor(f"{name}_q", TensorProto.INT4, values.shape, values.ravel().tolist())
            )
        scales = rng.uniform(0.01, 0.02, (-(-rows // block), columns))
        tensors.append(numpy_helper.from_array(scales.astype(np.float32), f"{name}_scale"))
        add("DequantizeLinear", [f"{name}_q", f"{name}_scale"], [name], axis=0, block_size=block)
        return name

    constant("table", vocab, 4 * hidden)
    add("Gather", ["table", "token"], ["x"])
    add("MatMul", ["h_00_in", matrix("w_00", hidden, 4 * hidden)], ["r"])
    add("Add", ["x", "r"], ["sum"])
    add("Split", ["sum"], ["i", "f", "g", "o"], axis=1, num_outputs=4)
    for gate in "ifo":
        add("Sigmoid", [gate], [f"{gate}s"])
    add("Tanh", ["g"], ["gt"])
    add("Mul", ["is", "gt"], ["ig"])
    add("Mul", ["fs", "c_00_in"], ["fc"])
    add("Add", ["ig", "fc"], ["c_00_out"])
    add("Tanh", ["c_00_out"], ["ct"])
    add("Mul", ["os", "ct"], ["h_00_out"])
    add("MatMul", ["h_00_out", matrix("w_out", hidden, vocab)], ["product"])
    add("Add", ["product", constant("b_out", vocab)], ["typed"])
    add("Cast", ["typed"], ["logits"], to=TensorProto.FLOAT)

    def states(end):
        return [
            helper.make_tensor_value_info(f"{name}_{end}", kind, ["batch", hidden])
            for name in card.state_names
        ]

    inputs = [helper.make_tensor_value_info("token", TensorProto.INT64, ["batch"]), *states("in")]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", vocab]), *states("out")]
    graph = helper.make_graph(nodes, "step", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    helper.set_model_props(model, card.to_metadata())
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.fixture
def step(tmp_path):
    """Write a step graph: ``step(precision="int8", hidden=64)`` -> (path of the .onnx, card)."""

    def write(precision="float32", hidden=32, change=lambda model: None, **options):
        card = Card("lstm", 1, 8, hidden, "".join(map(chr, range(32, 62))), precision=precision)
        model = lstm_step(card, **options)
        change(model)
        path = tmp_path / "charlm.onnx"
        path.write_bytes(model.SerializeToString())
        return path, card

    return write


@needs_rtx
@pytest.mark.parametrize("batch", [(1, 1, 1), (1, 4, 8)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_builds_a_plan_with_its_sidecar(precision, batch, step, tmp_path):
    path, card = step(precision, hidden=64)
    out = tmp_path / "charlm.plan"
    header = build_plan(path, card, out, engine="tensorrt-rtx", batch=batch)
    assert header == read_header(out)
    assert header.flavour == "tensorrt-rtx"
    assert header.version == nvidia.library(TENSORRT_RTX).version
    sidecar = read_sidecar(out)
    sidecar.check(out, out.stat().st_size, sha256_of(out))
    assert sidecar.card == card
    assert sidecar.header == header
    assert sidecar.onnx_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert sidecar.float_type == ("float16" if precision == "float16" else "float32")
    assert sidecar.profiles == (((1, 1, 1),) if batch == (1, 1, 1) else ((1, 1, 1), batch))
    assert sidecar.settings == {
        "strongly_typed": True, "tf32": False, "profiling_verbosity": "DETAILED", "portable": True,
        "products": "sums" if batch == (1, 1, 1) else "matrix products",
    }  # fmt: skip
    portable = ("sm80", "sm86", "sm89", "sm120", "sm121")
    assert sidecar.targets == header.targets == (portable if precision != "float8" else portable[2:])
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "charlm.onnx",
        "charlm.plan",
        "charlm.plan.json",
    ]


@needs_rtx
def test_progress_goes_through_every_phase_to_its_end(step, tmp_path):
    path, card = step()
    calls = []
    build_plan(
        path, card, tmp_path / "a.plan", engine="tensorrt-rtx", progress=lambda *call: calls.append(call)
    )
    assert {phase for phase, done, _ in calls if done == 0} == {
        phase for phase, done, steps in calls if done == steps
    }
    assert all(0 <= done <= steps for _, done, steps in calls)


@needs_rtx
@pytest.mark.parametrize("where", ["log", "progress"])
def test_ctrl_c_during_a_build_leaves_nothing(where, step, tmp_path):
    path, card = step()

    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx", **{where: interrupt})
    assert [file.name for file in tmp_path.iterdir()] == ["charlm.onnx"]
    build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")  # and the next one works


@needs_rtx
def test_a_second_build_replaces_the_pair(step, tmp_path):
    out = tmp_path / "charlm.plan"
    for hidden in (32, 64):
        path, card = step(hidden=hidden)
        build_plan(path, card, out, engine="tensorrt-rtx")
        sidecar = read_sidecar(out)
        sidecar.check(out, out.stat().st_size, sha256_of(out))
        assert sidecar.card.hidden == hidden


@needs_rtx
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_blocks_that_tensorrt_would_read_wrongly_are_refused(precision, step, tmp_path):
    # 40 rows in blocks of 32 make 2 scales: TensorRT would take blocks of 20.
    path, card = step(precision, hidden=40)
    with pytest.raises(
        P2Error, match="w_00_q has 40 rows in blocks of 32, and TensorRT takes whole blocks only"
    ):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")
    assert not (tmp_path / "a.plan").exists()
    path, card = step(precision, hidden=40, block=20)
    build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")


def rename(old, new):
    def change(model):
        for tensor in (*model.graph.input, *model.graph.output):
            tensor.name = new if tensor.name == old else tensor.name
        for node in model.graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    return change


def drop_logits(model):
    del model.graph.output[0]


@needs_rtx
@pytest.mark.parametrize(
    ("change", "tensor"),
    [
        (rename("c_00_in", "cell_in"), "c_00_in"),
        (rename("h_00_in", "hidden"), "h_00_in"),
        (drop_logits, "logits"),
    ],
)
def test_a_graph_that_breaks_the_contract_is_refused(change, tensor, step, tmp_path):
    path, card = step(change=change)
    with pytest.raises(ContractError, match=rf"breaks the step contract \(tensor {tensor}\)"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")


@needs_rtx
def test_the_card_of_another_model_is_refused(step, tmp_path):
    path, card = step()
    with pytest.raises(ContractError, match="breaks the step contract"):
        build_plan(path, card.with_(hidden=64), tmp_path / "a.plan", engine="tensorrt-rtx")


@needs_rtx
@pytest.mark.parametrize("data", [b"", b"nonsense" * 50])
def test_what_is_no_graph_is_refused(data, step, tmp_path):
    path, card = step()
    path.write_bytes(data)
    with pytest.raises(ContractError, match=r"charlm.onnx (is damaged|breaks the step contract)"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")


@needs_rtx
def test_what_tensorrt_refuses_is_said_with_its_reason(step, tmp_path):
    def change(model):
        model.graph.node[-1].input[0] = "random"
        model.graph.node.insert(0, helper.make_node("Multinomial", ["h_00_in"], ["random"], sample_size=30))

    path, card = step(change=change)
    with pytest.raises(
        P2Error, match=r"TensorRT-RTX \S+ could not read the graph .*charlm.onnx\): .*Multinomial"
    ):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx")


@needs_rtx
def test_a_missing_graph_and_an_unwritable_place_are_one_sentence(step, tmp_path):
    path, card = step()
    with pytest.raises(P2Error, match=r"cannot read .*none.onnx: no such file"):
        build_plan(tmp_path / "none.onnx", card, tmp_path / "a.plan", engine="tensorrt-rtx")
    with pytest.raises(P2Error, match=r"cannot write .*a.plan"):
        build_plan(path, card, path / "a.plan", engine="tensorrt-rtx")


@needs_rtx
def test_a_crash_between_plan_and_sidecar_is_noticed(step, tmp_path):
    path, card = step()
    out = tmp_path / "a.plan"
    build_plan(path, card, out, engine="tensorrt-rtx")
    old = sidecar_path(out).read_bytes()
    path, card = step(hidden=64)
    build_plan(path, card, out, engine="tensorrt-rtx")
    sidecar_path(out).write_bytes(old)
    with pytest.raises(ContractError, match=r"is not the plan that a.plan.json describes"):
        read_sidecar(out).check(out, out.stat().st_size, sha256_of(out))


@pytest.mark.parametrize("batch", [(0, 1, 1), (2, 1, 4), (1, 5, 4), (-1, -1, -1)])
def test_batches_out_of_order(batch, step, tmp_path):
    path, card = step()
    with pytest.raises(UsageError, match="give min,opt,max in ascending order, from 1 up"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt-rtx", batch=batch)


def test_an_unknown_engine(step, tmp_path):
    path, card = step()
    with pytest.raises(UsageError, match="unknown engine 'openvino': choose one of tensorrt, tensorrt-rtx"):
        build_plan(path, card, tmp_path / "a.plan", engine="openvino")


@pytest.mark.parametrize(("engine", "extra"), [("tensorrt", "gpu"), ("tensorrt-rtx", "rtx")])
def test_a_builder_that_is_not_installed_names_its_extra(engine, extra, step, tmp_path, monkeypatch):
    nvidia.library.cache_clear()
    monkeypatch.setattr(nvidia, "installed", lambda flavour: False)
    path, card = step()
    with pytest.raises(BackendMissing, match=rf"pip install 'p2\[{extra}\]'"):
        build_plan(path, card, tmp_path / "a.plan", engine=engine)
    assert available() == []


GPUS = nvidia.Gpus((nvidia.Gpu("NVIDIA Test", (9, 0), 1 << 30),))
NONE = nvidia.Gpus(problem="no NVIDIA driver is installed")


@pytest.mark.parametrize(
    ("installed", "gpus", "names"),
    [
        ((), GPUS, []),
        ((TENSORRT_RTX,), NONE, ["tensorrt-rtx"]),
        ((TENSORRT, TENSORRT_RTX), NONE, ["tensorrt-rtx"]),
        ((TENSORRT, TENSORRT_RTX), GPUS, ["tensorrt", "tensorrt-rtx"]),
        ((TENSORRT,), NONE, []),
    ],
)
def test_available_builders(installed, gpus, names, monkeypatch):
    monkeypatch.setattr(nvidia, "installed", lambda flavour: flavour in installed)
    monkeypatch.setattr(nvidia, "gpus", lambda: gpus)
    assert available() == names


class NoBuilder:
    """A library whose bindings fail as they do where CUDA cannot start."""

    __version__ = "10.13.3.9"

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


@needs_rtx
def test_a_build_needs_no_torch(step, tmp_path):
    path, card = step()
    code = (
        "import json, sys; sys.modules['torch'] = None\n"
        "from pathlib import Path; from p2.export.builder import build_plan; from p2.spec.card import Card\n"
        "card = Card.from_dict(json.loads(sys.argv[1]), '')\n"
        "print(build_plan(Path(sys.argv[2]), card, Path(sys.argv[3]), engine='tensorrt-rtx'))"
    )
    command = [sys.executable, "-c", code, json.dumps(card.to_dict()), path, tmp_path / "a.plan"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.stdout == f"{read_header(tmp_path / 'a.plan')}\n", run.stderr


class Flags:
    """Enumerations of TensorRT, each member a number."""

    STRONGLY_TYPED, TF32, VERSION_COMPATIBLE, DETAILED, AMPERE_PLUS = range(5)


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
    def __init__(self, value):
        kinds = {TensorProto.FLOAT: "FLOAT", TensorProto.FLOAT16: "HALF", TensorProto.INT64: "INT64"}
        self.name = value.name
        self.dtype = type("dtype", (), {"name": kinds[value.type.tensor_type.elem_type]})
        self.shape = tuple(dim.dim_value or -1 for dim in value.type.tensor_type.shape.dim)


class FakeTensorRT(NoBuilder):
    """A TensorRT that builds: enough of 10.x to see what it is asked for."""

    NetworkDefinitionCreationFlag = BuilderFlag = HardwareCompatibilityLevel = Flags

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
    """TensorRT 10 on a GPU, both played, and a cache folder of its own."""
    library = nvidia.Library(TENSORRT, FakeTensorRT)
    monkeypatch.setattr(nvidia, "library", lambda flavour: library)
    monkeypatch.setattr(nvidia, "gpus", lambda: GPUS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache/p2/tensorrt-10.13.3.9/timing-nvidia-test.bin"


def test_tensorrt_keeps_what_it_measured(tensorrt, step, tmp_path):
    path, card = step()
    for expected in (b"+", b"++"):
        build_plan(path, card, tmp_path / "a.plan", engine="tensorrt")
        assert tensorrt.read_bytes() == expected
    tensorrt.write_bytes(b"another GPU")
    build_plan(path, card, tmp_path / "a.plan", engine="tensorrt")
    assert tensorrt.read_bytes() == b"+"


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
