"""ONNX Runtime on a GPU: the engine on a stand-in for the device, and everything that it says without one."""

from __future__ import annotations

import gc
import sys
import types

import numpy as np
import pytest

from p2.contract.agreement import LIMITS, agreement
from p2.contract.engine import Engine
from p2.contract.errors import BackendMissing, BuilderRefused, ContractError, UsageError
from p2.contract.noise import gumbel
from p2.contract.sampling import Sampling, choose, scale_noise
from p2.runtime import nvidia
from p2.runtime.decoder import Decoder
from p2.runtime.onnxruntime import providers as onnx_providers
from p2.runtime.onnxruntime.engine import open_onnx
from p2.runtime.onnxruntime.gpu import SLOTS, OnnxGpuEngine
from p2.runtime.onnxruntime.providers import PROVIDERS, STAND_IN, open_session, probe, require
from p2.runtime.opening import open_engine
from p2.runtime.step_file import open_step

ADA = nvidia.Gpus((nvidia.Gpu("NVIDIA GeForce RTX 4090", (8, 9), 24 << 30),), "570", (13, 0))
HOPPER = nvidia.Gpus((nvidia.Gpu("NVIDIA H100", (9, 0), 80 << 30),), "580", (13, 0))
NONE = nvidia.Gpus(problem="no NVIDIA driver is installed")


@pytest.fixture
def engine_of(write_step):
    """The engine of a card's random weights, on the processor."""
    return lambda card: OnnxGpuEngine(open_step(write_step(card)), STAND_IN)


def test_keeps_the_protocol(card_of, engine_of):
    assert isinstance(engine_of(card_of()), Engine)


@pytest.mark.parametrize("length", [1, SLOTS - 1, SLOTS, 2 * SLOTS + 3])
def test_feed_says_what_the_equations_say(length, cell, card_of, engine_of, numpy_model):
    card = card_of(*cell)
    tokens = np.random.default_rng(1).integers(0, card.vocab, (3, length + 1))
    engine = engine_of(card)
    state = engine.zero_state(3)
    assert engine.feed(state, tokens[:, :1]) is None  # an odd beginning: the other set of states
    logits = engine.feed(state, tokens[:, 1:], logits=True)
    np.testing.assert_allclose(logits, numpy_model(card).run(tokens)[:, 1:], atol=2e-4)


def test_what_is_bound_stays_bound_for_its_session(card_of, engine_of, monkeypatch):
    """Of a session that is opened anew, for other states in between, all is bound anew."""
    engine, bound = engine_of(card_of()), []
    bind = engine._bind
    monkeypatch.setattr(engine, "_bind", lambda *where: bound.append(where[:2]) or bind(*where))
    state, tokens = engine.zero_state(2), np.zeros((2, 2), np.int64)
    for _ in range(3):
        engine.feed(state, tokens)
    assert len(bound) == SLOTS
    engine._sessions.clear()
    engine.feed(state, tokens)
    assert len(bound) == 2 * SLOTS
    assert len({id(session) for session, _ in bound}) == 2


@pytest.mark.parametrize("precision", ["float16", "int8", "int4"])
def test_smaller_precisions_stay_within_their_limits(precision, card_of, engine_of, numpy_model):
    card = card_of(precision=precision)
    tokens = np.random.default_rng(1).integers(0, card.vocab, (2, 100))
    engine = engine_of(card)
    logits = engine.feed(engine.zero_state(2), tokens, logits=True)
    assert agreement(numpy_model(card).run(tokens), logits).within(LIMITS[precision])


@pytest.mark.parametrize(
    "sampling", [Sampling(0), Sampling.from_tau(2.0), Sampling(0.8, top_k=5, min_p=0.02)]
)
def test_decode_writes_what_the_definition_chooses(sampling, card_of, engine_of, numpy_model):
    card = card_of("gru")
    first = np.array([3, 17], np.int64)
    noise = scale_noise(gumbel(7, (0, 1), 0, 2 * SLOTS + 7, card.vocab), sampling)
    model = numpy_model(card)
    state, token, expected = model.zero(2), first, []
    for now in noise:
        token = choose(model.step(state, token).astype(np.float32), now, sampling)
        expected.append(token)
    engine = engine_of(card)
    state = engine.zero_state(2)
    pieces = [engine.decode(state, first, noise[:5], sampling)]
    pieces.append(engine.decode(state, pieces[0][:, -1], noise[5:], sampling))
    np.testing.assert_array_equal(np.concatenate(pieces, axis=1), np.stack(expected, axis=1))


def test_states_of_several_batches_do_not_disturb_one_another(card_of, engine_of):
    engine = engine_of(card_of())
    alone = Decoder(engine, Sampling(), 5, (2,)).write(150)
    two, four = Decoder(engine, Sampling(), 5, (1, 2)), Decoder(engine, Sampling(), 5, range(4))
    other = Decoder(engine, Sampling(), 5, (0, 2))  # shares its block with the first
    pieces = [(two.write(50), four.write(50), other.write(50)) for _ in range(3)]
    for texts, row in zip(zip(*pieces, strict=True), (1, 2, 1), strict=True):
        np.testing.assert_array_equal(np.concatenate(texts, axis=1)[row], alone[0])


def test_a_snapshot_goes_on_in_another_backend_and_comes_back(card_of, write_step, engine_of):
    card = card_of()
    engine, other = engine_of(card), open_onnx(write_step(card))
    tokens = np.random.default_rng(0).integers(0, card.vocab, (2, 33))
    state = engine.zero_state(2)
    engine.feed(state, tokens)
    kept = engine.snapshot(state)
    assert {a.dtype for a in kept.values()} == {np.dtype(np.float32)}
    expected = engine.feed(state, tokens, logits=True)
    moved = other.restore(kept)
    np.testing.assert_allclose(other.feed(moved, tokens, logits=True), expected, atol=1e-4)
    back = engine.restore(other.snapshot(moved))
    again = engine.feed(back, tokens, logits=True)
    np.testing.assert_allclose(again, engine.feed(state, tokens, logits=True), atol=1e-4)
    with pytest.raises(ContractError, match="does not fit"):
        engine.restore({"h_00": np.zeros((1, 3), np.float32)})


def test_buffers_go_with_the_last_state_of_their_batch(card_of, engine_of):
    engine = engine_of(card_of())
    state = engine.zero_state(5)
    assert 5 in engine._blocks
    del state
    gc.collect()
    assert 5 not in engine._blocks


@pytest.mark.parametrize("token", [-1, 30])
def test_a_token_outside_the_vocabulary_never_reaches_the_device(token, card_of, engine_of):
    engine = engine_of(card_of())
    with pytest.raises(UsageError, match="outside the vocabulary of 30"):
        engine.feed(engine.zero_state(1), np.array([[token]]))


class FakeRuntime(types.SimpleNamespace):
    """An ONNX Runtime that claims providers, and uses others."""

    def __init__(self, available=("CPUExecutionProvider",), used=("CPUExecutionProvider",), error=None):
        import onnxruntime

        def session(model, options, providers=(), enable_fallback=1):
            self.asked, self.fallback = list(providers), enable_fallback
            self.config = options.get_session_config_entry("session.disable_cpu_ep_fallback")
            if error:
                raise RuntimeError(error)
            return types.SimpleNamespace(get_providers=lambda: list(used))

        super().__init__(
            __version__="1.31.0",
            SessionOptions=onnxruntime.SessionOptions,
            InferenceSession=session,
            get_available_providers=lambda: list(available),
        )


@pytest.fixture
def machine(monkeypatch):
    """A made-up machine: ``machine(ADA, FakeRuntime(...))``."""

    def set_up(gpus, runtime=None):
        monkeypatch.setattr(nvidia, "gpus", lambda: gpus)
        if runtime is not None:
            monkeypatch.setattr(onnx_providers, "import_onnxruntime", lambda gpu=False: runtime)
        return runtime

    return set_up


@pytest.mark.parametrize("backend", PROVIDERS)
def test_without_a_gpu_nothing_is_tried(backend, card_of, write_step, machine):
    machine(NONE)
    with pytest.raises(BackendMissing, match="needs an NVIDIA GPU, and no NVIDIA driver is installed"):
        open_engine(write_step(card_of()), backend=backend)


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_a_provider_that_is_not_built_in_is_a_sentence_with_its_cure(backend, machine):
    machine(ADA, FakeRuntime())
    with pytest.raises(BackendMissing, match=r"was built without .*ExecutionProvider: pip .*\[gpu\]"):
        require(PROVIDERS[backend])


@pytest.mark.parametrize("backend", ["onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_falling_back_to_the_processor_is_an_error(backend, machine):
    name = PROVIDERS[backend].name
    runtime = machine(ADA, FakeRuntime(available=[name], used=["CPUExecutionProvider"]))
    with pytest.raises(BackendMissing, match=f"was asked for {name} and took CPUExecutionProvider instead"):
        probe(PROVIDERS[backend])
    assert runtime.asked[0][0] == name
    assert (runtime.fallback, runtime.config) == (0, "1")
    assert "CPUExecutionProvider" not in [provider for provider, _ in runtime.asked]


def test_falling_back_from_tensorrt_to_cuda_is_an_error_too(machine):
    used = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    machine(ADA, FakeRuntime(available=["TensorrtExecutionProvider"], used=used))
    with pytest.raises(BackendMissing, match=r"was asked for Tensorrt.* and took CUDAExecutionProvider"):
        probe(PROVIDERS["onnxruntime-tensorrt"])


def test_a_graph_that_the_provider_does_not_take_is_a_sentence(machine):
    machine(ADA, FakeRuntime(available=["CUDAExecutionProvider"], error="this op is for the CPU\nstack"))
    with pytest.raises(BuilderRefused, match=r"does not run x\.onnx on CUDAEx.*: this op is for the CPU$"):
        open_session(PROVIDERS["onnxruntime-cuda"], b"", None, "x.onnx")


def test_float32_stays_float32(machine, monkeypatch):
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE", raising=False)
    assert PROVIDERS["onnxruntime-cuda"].options == {"use_tf32": "0"}
    name = "TensorrtExecutionProvider"
    runtime = machine(ADA, FakeRuntime(available=[name], used=[name]))
    probe(PROVIDERS["onnxruntime-tensorrt"])
    assert onnx_providers.os.environ["NVIDIA_TF32_OVERRIDE"] == "0"
    assert runtime.asked == [(name, {}), ("CUDAExecutionProvider", {"use_tf32": "0"})]
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")


def test_rtx_refuses_a_gpu_that_it_does_not_support(machine):
    machine(HOPPER, FakeRuntime())
    with pytest.raises(BackendMissing, match=r"does not run on this NVIDIA H100.* compute capability 9\.0"):
        require(PROVIDERS["onnxruntime-rtx"])


def plugin_runtime(devices_after):
    """A runtime that takes plugins; registering brings these devices."""
    runtime = FakeRuntime(used=["NvTensorRTRTXExecutionProvider"])
    runtime.registered = []
    runtime.register_execution_provider_library = lambda name, path: runtime.registered.append((name, path))
    runtime.get_ep_devices = lambda: [
        types.SimpleNamespace(ep_name=name) for name in (devices_after if runtime.registered else [])
    ]

    class Options:
        config, devices = {}, None

        def add_session_config_entry(self, key, value):
            self.config[key] = value

        def get_session_config_entry(self, key):
            return self.config[key]

        def add_free_dimension_override_by_name(self, name, size):
            runtime.fixed = (name, size)

        def add_provider_for_devices(self, devices, options):
            runtime.devices = devices

    runtime.SessionOptions = Options
    return runtime


def test_the_rtx_plugin_is_registered_once_and_asked_for_by_its_device(machine, monkeypatch):
    name = "NvTensorRTRTXExecutionProvider"
    plugin = types.ModuleType("onnxruntime_ep_nv_tensorrt_rtx")
    plugin.get_ep_name, plugin.get_library_path = (lambda: name), (lambda: "/lib/ep.so")
    plugin.__spec__ = types.SimpleNamespace(origin="here")
    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
    runtime = machine(ADA, plugin_runtime(["CPUExecutionProvider", name]))
    for _ in range(2):
        probe(PROVIDERS["onnxruntime-rtx"])
    assert runtime.registered == [(name, "/lib/ep.so")]
    assert [device.ep_name for device in runtime.devices] == [name]
    assert runtime.fixed == ("batch", 1)
    machine(ADA, plugin_runtime([]))
    with pytest.raises(BackendMissing, match="finds no GPU that it can use"):
        probe(PROVIDERS["onnxruntime-rtx"])


def test_without_the_rtx_plugin_its_package_is_named(machine):
    machine(ADA, plugin_runtime([]))
    with pytest.raises(BackendMissing, match="pip install onnxruntime-ep-nv-tensorrt-rtx"):
        require(PROVIDERS["onnxruntime-rtx"])


def test_without_onnx_runtime_the_one_for_gpus_is_named(machine, monkeypatch):
    machine(ADA, None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendMissing, match=r"pip install [^&]*\[gpu\]'?$"):
        require(PROVIDERS["onnxruntime-cuda"])


def test_asking_is_a_process_of_its_own(monkeypatch):
    if nvidia.gpus().devices:
        pytest.skip("there is a GPU")
    assert "needs an NVIDIA GPU" in onnx_providers.ask("onnxruntime-cuda")
    assert "KeyError" in onnx_providers.ask("onnxruntime-nothing")
    monkeypatch.setattr(onnx_providers, "_PROBE_SECONDS", 0.01)
    assert "takes more than" in onnx_providers.ask("onnxruntime-cuda")
