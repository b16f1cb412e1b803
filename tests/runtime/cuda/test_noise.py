"""Noise on a GPU is `contract.noise`, bit for bit; what engines draw is what they write with that."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from p2.contract.engine import DrawingEngine
from p2.contract.errors import BackendMissing
from p2.contract.noise import Address, gumbel
from p2.contract.sampling import Sampling, scale_noise
from p2.runtime import decoder
from p2.runtime.cuda import compiler
from p2.runtime.cuda.compiler import NOISE, SOURCES, Cubin
from p2.runtime.decoder import Decoder
from p2.runtime.gpu_device import Device
from p2.runtime.gpu_noise import DeviceNoise, noise_on
from p2.runtime.onnxruntime.gpu import OnnxGpuEngine
from p2.runtime.onnxruntime.providers import STAND_IN
from p2.runtime.step_file import open_step

from .memory import Memory

WORD = st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 99), st.integers(2**64 - 99, 2**64 - 1))


@pytest.fixture(scope="session")
def kernel(kernels_of):
    return kernels_of(SOURCES / NOISE)


@pytest.fixture
def gpu(kernel, fake_cuda, monkeypatch):
    """A GPU of host memory whose cubins hold the kernel."""
    monkeypatch.setattr(compiler, "compiled", lambda *_: Cubin(b"noise", {}))

    def run(blocks, threads, shared, arguments):
        kernel.launch("p2_noise", blocks, threads, shared, *arguments)

    fake_cuda.load = {b"noise": {"p2_noise": run}}.__getitem__
    return fake_cuda


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    WORD, st.lists(WORD, min_size=1, max_size=3), WORD, st.integers(1, 40), st.integers(1, 5),
    st.integers(0, 9), st.sampled_from([1.0, 0.5, 0.7, 1e-6, 1e6]),
)  # fmt: skip
def test_every_number_is_that_of_the_contract(
    kernel, seed, streams, position, vocab, count, apart, temperature
):
    position = min(position, 2**64 - count)
    batch, memory = len(streams), Memory()
    row = batch * vocab + apart
    out = memory.empty((count, row), np.float32)
    between = out[:, batch * vocab :].tobytes()
    at = memory.copy(np.array(streams, np.uint64))
    kernel.launch(
        "p2_noise", 3, 64, 0, out, at, seed, position, np.float32(temperature), batch, count, vocab, row
    )
    memory.check()
    wanted = scale_noise(gumbel(seed, streams, position, count, vocab), Sampling(temperature))
    assert np.array_equal(out[:, : batch * vocab].reshape(wanted.shape), wanted)
    assert out[:, batch * vocab :].tobytes() == between


def test_it_takes_no_memory_for_registers_on_any_gpu():
    if reason := compiler.missing():
        pytest.skip(reason)
    for capability in ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)):
        usage = compiler.compiled(NOISE, {}, capability).usage["p2_noise"]
        assert usage.spilled == 0
        assert 0 < usage.registers <= 128


def fill(device, source, start, steps, batch, vocab, row):
    out = device.allocate(steps * row * 4)
    device.zero(out, steps * row * 4)
    source(out, start, steps, row)
    made = np.empty((steps, row), np.float32)
    device.download(made, out)
    return made[:, : batch * vocab].reshape(steps, batch, vocab)


def test_the_kernel_is_launched_for_all_of_it(gpu):
    device = Device(gpu, gpu.memory_info)
    noise = DeviceNoise(device)
    for batch, vocab, steps in ((1, 96, 64), (5, 30, 7), (3, 700, 2), (1, 1, 1)):
        address = Address(2**64 - 3, list(range(7, 7 + batch)), 2**63)
        source = noise.source(address, 0.5, vocab)
        row = batch * vocab + 3
        wanted = scale_noise(
            gumbel(address.seed, address.streams, 2**63 + 11, steps, vocab), Sampling(temperature=0.5)
        )
        assert np.array_equal(fill(device, source, 11, steps, batch, vocab, row), wanted)
    device.close()
    assert gpu.used() == 0


def test_streams_go_up_when_they_change(gpu, monkeypatch):
    device = Device(gpu, gpu.memory_info)
    noise, uploads = DeviceNoise(device), []
    upload = device.upload
    monkeypatch.setattr(device, "upload", lambda *given: uploads.append(given) or upload(*given))
    for streams, position in (((1, 2), 0), ((1, 2), 64), ((1, 3), 128), ((1,), 192)):
        source = noise.source(Address(5, streams, position), 1.0, 20)
        wanted = gumbel(5, streams, position, 4, 20)
        assert np.array_equal(fill(device, source, 0, 4, len(streams), 20, 20 * len(streams)), wanted)
    assert len(uploads) == 3


def test_without_nvrtc_there_is_none_and_nothing_is_said(fake_cuda, monkeypatch, capfd):
    def refuse(*_):
        raise BackendMissing("NVRTC does not load")

    monkeypatch.setattr(compiler, "compiled", refuse)
    assert noise_on(Device(fake_cuda, fake_cuda.memory_info)) is None
    assert capfd.readouterr() == ("", "")


SAMPLINGS = [Sampling(), Sampling(0), Sampling(1.7), Sampling(0.8, top_k=5, top_p=0.9)]
COUNTS = (3, 70, 65)  # launches of many steps, and remainders


@pytest.fixture(params=["plan", "plan, step by step", "plan, no kernel", "onnx", "onnx, no kernel"])
def drawing(request, bench, gpu, card_of, write_step):
    """Engines that draw, and a way to write with `decode` and the noise of the contract."""
    name, _, how = request.param.partition(", ")
    if how == "no kernel":
        gpu.failing["ObjectCode.from_cubin"] = "CUDA_ERROR_NO_BINARY_FOR_GPU: there is no kernel image."
    if name == "plan":
        return bench(card_of(), step_by_step=how == "step by step").engine
    return OnnxGpuEngine(open_step(write_step(card_of())), STAND_IN, Device(gpu, gpu.memory_info))


@pytest.mark.parametrize("batch", [1, 3])
def test_what_is_drawn_is_what_is_decoded_with_that_noise(batch, drawing, gpu, request, monkeypatch):
    monkeypatch.setattr(decoder, "NOISE_NUMBERS", 80 * 3 * drawing.card.vocab)
    assert isinstance(drawing, DrawingEngine)
    streams, vocab = [9, 2, 2**64 - 1][:batch], drawing.card.vocab
    for sampling in SAMPLINGS:
        gpu.ran.clear()
        drawn, decoded = drawing.zero_state(batch), drawing.zero_state(batch)
        texts: list[list[np.ndarray]] = [[], []]
        lasts = [np.arange(batch) + 1] * 2
        position = 2**64 - 1000
        for count in COUNTS:
            address = Address(12, streams, position)
            noise = gumbel(12, streams, position, count, vocab)
            noise = np.zeros_like(noise) if sampling.greedy else scale_noise(noise, sampling)
            for side, text in enumerate(
                (
                    drawing.draw(drawn, lasts[0], address, count, sampling),
                    drawing.decode(decoded, lasts[1], noise, sampling),
                )
            ):
                texts[side].append(text)
                lasts[side] = np.ascontiguousarray(text[:, -1])
            position += count
        assert np.array_equal(*(np.concatenate(side, axis=1) for side in texts))
        ends = [drawing.snapshot(state) for state in (drawn, decoded)]
        assert all(np.array_equal(ends[0][name], ends[1][name]) for name in ends[0])
        on_host = sampling.greedy or "no kernel" in request.node.name or "step by step" in request.node.name
        on_host = on_host or ("onnx" in request.node.name and sampling.filters)
        assert bool(gpu.ran) != on_host
    drawing.close()


def test_a_plan_uploads_nothing_while_it_writes(bench, gpu):
    b = bench()
    writer = Decoder(b.engine, Sampling(), 3, [0])
    writer.write(1 + 64)
    copies, ran = [], len(gpu.ran)
    upload = b.engine._device.upload
    b.engine._device.upload = lambda address, array: copies.append(array.nbytes) or upload(address, array)
    writer.write(64 * 20)
    assert len(gpu.ran) == ran + 20  # the noise of a launch is one kernel
    assert sum(copies) < 64  # the newest token and the settings, once


def test_a_text_is_the_same_wherever_its_noise_was_made(bench, gpu, card_of):
    card = card_of("gru", layers=2)
    texts = []
    for broken in (False, True):
        if broken:
            gpu.failing["launch"] = gpu.failing["ObjectCode.from_cubin"] = "CUDA_ERROR_NOT_FOUND: no."
        writer = Decoder(bench(card).engine, Sampling(1.3), 8, [4, 5])
        texts.append(np.concatenate([writer.write(count) for count in (1, 100, 200)], axis=1))
    assert np.array_equal(*texts)
